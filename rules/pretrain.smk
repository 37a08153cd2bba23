"""Stage pretrain: one model per method and seed."""


rule pretrain_method:
    input:
        # The pairs table carries a digest of the tensors, so these need not be compared again.
        pairs=result("pairs/pairs.parquet"),
        ecg=ancient(expand(result("ecg/{shard}.safetensors"), shard=SHARDS)),
        cmr=ancient(expand(result("cmr/{shard}.safetensors"), shard=SHARDS)),
        warm_start_ecg=warm_start_of("ecg"),
        warm_start_cmr=warm_start_of("cmr"),
    output:
        model=result("models/{method}/seed{seed}/model.safetensors"),
        config=result("models/{method}/seed{seed}/config.yaml"),
        history=result("models/{method}/seed{seed}/history.parquet"),
    log:
        log_of("pretrain/{method}/seed{seed}"),
    benchmark:
        benchmark_of("pretrain/{method}/seed{seed}")
    conda:
        TRAINING_ENVIRONMENT
    # With GPUs: threads that read mapped recordings, and the batches that wait in memory.
    threads: max(1, 4 * GPUS)
    resources:
        mem_mb=memory(max(6000, 16000 * GPUS)),
        runtime=720,
        gpu=gpus_of,
    params:
        settings=method_settings("pretrain"),
        code=stage_code("pretrain"),
    message:
        "Training {wildcards.method}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/pretrain.py"


rule pretrain:
    input:
        expand(
            result("models/{method}/seed{seed}/model.safetensors"),
            method=MODELS,
            seed=SEEDS,
        ),
    message:
        "All models are trained"
