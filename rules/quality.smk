"""Stage quality: recordings as small pictures, a page for each shard, to find bad ones by eye."""


rule quality_shard:
    input:
        ecg=result("ecg/{shard}.parquet"),
        cmr=result("cmr/{shard}.parquet"),
        strips=result("ecg/{shard}.safetensors"),
        cines=result("cmr/{shard}.safetensors"),
        views=result("cmr/{shard}_views.safetensors"),
    output:
        page=result("quality/{shard}.html"),
    log:
        log_of("quality/{shard}"),
    benchmark:
        benchmark_of("quality/{shard}")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        settings=settings("quality"),
        code=stage_code("quality"),
    message:
        "Drawing the recordings of shard {wildcards.shard}"
    script:
        "../workflow_scripts/quality.py"


rule quality:
    input:
        pages=expand(result("quality/{shard}.html"), shard=SHARDS),
        ecg=expand(result("ecg/{shard}.parquet"), shard=SHARDS),
        cmr=expand(result("cmr/{shard}.parquet"), shard=SHARDS),
    output:
        page=result("quality/index.html"),
    log:
        log_of("quality/index"),
    benchmark:
        benchmark_of("quality/index")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        settings=settings("quality"),
        code=stage_code("quality"),
    message:
        "Listing the shards"
    script:
        "../workflow_scripts/quality_index.py"
