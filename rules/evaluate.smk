"""Stage evaluate: regression and retrieval of every method, and the reference rows that keep them honest."""

EVALUATED = ["regression", "retrieval", "predictions", "queries", "alignment"]
# Fine-tuned models are scored where a study asks for them: they cost a training each.
FINETUNE_SCORED = FINETUNED if "finetune" in config["evaluate"]["protocols"] else []


rule evaluate_method:
    input:
        subjects=result("cohort/subjects.parquet"),
        ecg=expand(result("ecg/{shard}.parquet"), shard=SHARDS),
        embeddings=lambda w: result(
            f"embeddings/{embedding_source(w.method)}/seed{w.seed}.parquet"
        ),
    output:
        **{k: result(f"{k}/{{method}}/seed{{seed}}.parquet") for k in EVALUATED},
    log:
        log_of("evaluate/{method}/seed{seed}"),
    benchmark:
        benchmark_of("evaluate/{method}/seed{seed}")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        settings=settings("evaluate"),
        feature=probed_feature,
        code=stage_code("evaluate"),
        split="test",
    message:
        "Scoring {wildcards.method}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/evaluate.py"


rule evaluate_finetuned:
    input:
        subjects=result("cohort/subjects.parquet"),
        ecg=expand(result("ecg/{shard}.parquet"), shard=SHARDS),
        finetuned=lambda w: expand(
            result(
                "models/{method}/seed{seed}/finetune{fraction}/predictions.parquet"
            ),
            method=w.method,
            seed=w.seed,
            fraction=FRACTIONS,
        ),
    output:
        regression=result("regression/{method}/seed{seed}_finetuned.parquet"),
        predictions=result("predictions/{method}/seed{seed}_finetuned.parquet"),
    log:
        log_of("evaluate/{method}/seed{seed}_finetuned"),
    benchmark:
        benchmark_of("evaluate/{method}/seed{seed}_finetuned")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        settings=settings("evaluate"),
        fractions=list(FRACTIONS.values()),
        code=stage_code("evaluate"),
    message:
        "Scoring the fine-tuned {wildcards.method}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/evaluate_finetuned.py"


rule evaluate_references:
    input:
        generated_cohort(),
        pairs=result("pairs/pairs.parquet"),
        subjects=result("cohort/subjects.parquet"),
        ecg=expand(result("ecg/{shard}.parquet"), shard=SHARDS),
        tensors=ancient(expand(result("ecg/{shard}.safetensors"), shard=SHARDS)),
    output:
        regression=result("regression/references.parquet"),
        retrieval=result("retrieval/references.parquet"),
        predictions=result("predictions/references.parquet"),
    log:
        log_of("evaluate/references"),
    benchmark:
        benchmark_of("evaluate/references")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(6000),
        runtime=60,
    params:
        settings=settings("evaluate"),
        seeds=SEEDS,
        code=stage_code("evaluate"),
    message:
        "Scoring the reference rows: chance, sex, covariates, median beat, known ceiling"
    script:
        "../workflow_scripts/evaluate_references.py"


rule compare:
    input:
        predictions=of_methods("predictions/{method}/seed{seed}.parquet", METHODS),
        finetuned=of_methods(
            "predictions/{method}/seed{seed}_finetuned.parquet", FINETUNE_SCORED
        ),
        references=result("predictions/references.parquet"),
        queries=of_methods("queries/{method}/seed{seed}.parquet", METHODS),
    output:
        result("regression/differences.parquet"),
    log:
        log_of("compare"),
    benchmark:
        benchmark_of("compare")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=60,
    params:
        settings=settings("compare"),
        code=stage_code("compare"),
    message:
        "Comparing methods on the same test subjects"
    script:
        "../workflow_scripts/compare.py"


rule evaluate:
    input:
        of_methods("regression/{method}/seed{seed}.parquet", METHODS),
        of_methods("regression/{method}/seed{seed}_finetuned.parquet", FINETUNE_SCORED),
        rules.evaluate_references.output,
        rules.compare.output,
    message:
        "All scores are there"


# What is decided on the way is decided on the validation split: the test split is for the study.
use rule evaluate_method as validate_method with:
    output:
        **{
            k: result(f"validation/{k}/{{method}}/seed{{seed}}.parquet")
            for k in EVALUATED
        },
    log:
        log_of("validate/{method}/seed{seed}"),
    benchmark:
        benchmark_of("validate/{method}/seed{seed}")
    params:
        settings=settings("evaluate"),
        feature=probed_feature,
        code=stage_code("evaluate"),
        split="val",
    message:
        "Scoring {wildcards.method}, seed {wildcards.seed}, on the validation split"


rule validate:
    input:
        regression=of_methods(
            "validation/regression/{method}/seed{seed}.parquet", METHODS
        ),
        retrieval=of_methods(
            "validation/retrieval/{method}/seed{seed}.parquet", METHODS
        ),
    output:
        result("tables/validation.csv"),
    log:
        log_of("validate"),
    benchmark:
        benchmark_of("validate")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        settings=settings("evaluate"),
        code=stage_code("evaluate"),
    message:
        "One row for every method and seed, on the validation split"
    script:
        "../workflow_scripts/evaluate_validation.py"
