"""Stage cmr: phase-ordered short-axis cines cut round the heart, with their quality."""


rule cmr_shard:
    message:
        "Reading and cutting the cines of shard {wildcards.shard}"
    input:
        manifest=result("cohort/{shard}.parquet"),
    output:
        tensors=result("cmr/{shard}.safetensors"),
        table=result("cmr/{shard}.parquet"),
    params:
        settings=settings("cmr"),
        code=stage_code("cmr"),
    log:
        log_of("cmr/{shard}"),
    benchmark:
        benchmark_of("cmr/{shard}")
    conda:
        "../envs/preprocess.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=60,
    script:
        "../workflow_scripts/cmr.py"


rule cmr:
    message:
        "All CMR shards are there"
    input:
        expand(result("cmr/{shard}.parquet"), shard=SHARDS),
