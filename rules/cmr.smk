"""Stage cmr: phase-ordered short-axis cines cut round the heart, with their quality."""


rule cmr_shard:
    input:
        manifest=result("cohort/{shard}.parquet"),
    output:
        tensors=result("cmr/{shard}.safetensors"),
        views=result("cmr/{shard}_views.safetensors"),
        table=result("cmr/{shard}.parquet"),
    log:
        log_of("cmr/{shard}"),
    benchmark:
        benchmark_of("cmr/{shard}")
    conda:
        "../envs/preprocess.yaml"
    threads: 1
    resources:
        mem_mb=memory(3000),
        runtime=60,
    params:
        settings=settings("cmr"),
        code=stage_code("cmr"),
    message:
        "Reading and cutting the cines of shard {wildcards.shard}"
    script:
        "../workflow_scripts/cmr.py"


rule cmr:
    input:
        expand(result("cmr/{shard}.parquet"), shard=SHARDS),
    message:
        "All CMR shards are there"
