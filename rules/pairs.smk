"""Stage pairs: who has a usable ECG and a usable cine of the same visit, and why everyone else has not."""


checkpoint pairs:
    input:
        subjects=result("cohort/subjects.parquet"),
        excluded=result("cohort/excluded.parquet"),
        counts=result("cohort/excluded_counts.json"),
        ecg=expand(result("ecg/{shard}.parquet"), shard=SHARDS),
        cmr=expand(result("cmr/{shard}.parquet"), shard=SHARDS),
    output:
        pairs=result("pairs/pairs.parquet"),
        excluded=result("pairs/excluded.parquet"),
        flow=result("pairs/flow.json"),
    log:
        log_of("pairs"),
    benchmark:
        benchmark_of("pairs")
    conda:
        "../envs/preprocess.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        settings=settings("pairs"),
        code=stage_code("pairs"),
    message:
        "Pairing ECG and CMR by subject and visit"
    script:
        "../workflow_scripts/pairs.py"
