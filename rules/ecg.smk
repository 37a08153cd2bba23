"""Stage ecg: baseline-free 12-lead strips on the 500 Hz grid, with their quality."""


rule ecg_shard:
    input:
        manifest=result("cohort/{shard}.parquet"),
    output:
        tensors=result("ecg/{shard}.safetensors"),
        table=result("ecg/{shard}.parquet"),
    log:
        log_of("ecg/{shard}"),
    benchmark:
        benchmark_of("ecg/{shard}")
    conda:
        "../envs/preprocess.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        settings=settings("ecg"),
        code=stage_code("ecg"),
    message:
        "Reading and cleaning the ECGs of shard {wildcards.shard}"
    script:
        "../workflow_scripts/ecg.py"


rule ecg:
    input:
        expand(result("ecg/{shard}.parquet"), shard=SHARDS),
    message:
        "All ECG shards are there"
