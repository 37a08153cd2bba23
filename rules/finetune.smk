"""Stage finetune: phenotypes learnt end to end from a method's ECG encoder. Not part of the default target."""


rule finetune_method:
    input:
        pairs=result("pairs/pairs.parquet"),
        subjects=result("cohort/subjects.parquet"),
        ecg=ancient(expand(result("ecg/{shard}.safetensors"), shard=SHARDS)),
        model=result("models/{method}/seed{seed}/model.safetensors"),
    output:
        model=result("models/{method}/seed{seed}/finetune{fraction}/model.safetensors"),
        config=result("models/{method}/seed{seed}/finetune{fraction}/config.yaml"),
        history=result("models/{method}/seed{seed}/finetune{fraction}/history.parquet"),
        predictions=result(
            "models/{method}/seed{seed}/finetune{fraction}/predictions.parquet"
        ),
    log:
        log_of("finetune/{method}/seed{seed}{fraction}"),
    benchmark:
        benchmark_of("finetune/{method}/seed{seed}{fraction}")
    conda:
        TRAINING_ENVIRONMENT
    threads: max(1, 4 * GPUS)
    resources:
        mem_mb=memory(max(6000, 16000 * GPUS)),
        runtime=720,
        gpu=GPUS,
    params:
        settings=lambda w: stage_settings(
            config, "finetune", w.method, FRACTIONS[w.fraction]
        ),
        code=stage_code("finetune"),
    message:
        "Fine-tuning {wildcards.method}, seed {wildcards.seed}, label fraction {params.settings[label_fraction]}"
    script:
        "../workflow_scripts/finetune.py"


rule finetune:
    input:
        expand(
            result(
                "models/{method}/seed{seed}/finetune{fraction}/predictions.parquet"
            ),
            method=FINETUNED,
            seed=SEEDS,
            fraction=FRACTIONS,
        ),
    message:
        "All methods are fine-tuned"
