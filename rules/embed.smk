"""Stage embed: what a trained model makes of every pair."""


rule embed_method:
    input:
        pairs=result("pairs/pairs.parquet"),
        ecg=ancient(expand(result("ecg/{shard}.safetensors"), shard=SHARDS)),
        cmr=ancient(expand(result("cmr/{shard}.safetensors"), shard=SHARDS)),
        model=result("models/{method}/seed{seed}/model.safetensors"),
        config=result("models/{method}/seed{seed}/config.yaml"),
    output:
        result("embeddings/{method}/seed{seed}.parquet"),
    log:
        log_of("embed/{method}/seed{seed}"),
    benchmark:
        benchmark_of("embed/{method}/seed{seed}")
    conda:
        TRAINING_ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=60,
        gpu=min(GPUS, 1),
    params:
        settings=method_settings("embed"),
        code=stage_code("embed"),
    message:
        "Embedding every pair with {wildcards.method}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/embed.py"


rule embed:
    input:
        expand(
            result("embeddings/{method}/seed{seed}.parquet"),
            method=EMBEDDED,
            seed=SEEDS,
        ),
    message:
        "All embeddings are there"
