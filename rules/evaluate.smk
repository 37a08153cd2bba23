"""Stage evaluate: regression and retrieval of every method, and the reference rows that keep them honest."""


rule evaluate_method:
    input:
        subjects=result("cohort/subjects.parquet"),
        embeddings=lambda w: result(
            f"embeddings/{embedding_source(w.method)}/seed{w.seed}.parquet"
        ),
    output:
        regression=result("regression/{method}/seed{seed}.parquet"),
        retrieval=result("retrieval/{method}/seed{seed}.parquet"),
        predictions=result("predictions/{method}/seed{seed}.parquet"),
    log:
        log_of("evaluate/{method}/seed{seed}"),
    benchmark:
        benchmark_of("evaluate/{method}/seed{seed}")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings("evaluate"),
        feature=lambda w: (
            "ecg_feature" if embedding_source(w.method) == w.method else "cmr_feature"
        ),
        code=stage_code("evaluate"),
    message:
        "Scoring {wildcards.method}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/evaluate.py"


rule evaluate_references:
    input:
        generated_cohort(),
        pairs=result("pairs/pairs.parquet"),
        subjects=result("cohort/subjects.parquet"),
        ecg=ancient(expand(result("ecg/{shard}.safetensors"), shard=SHARDS)),
    output:
        regression=result("regression/references.parquet"),
        predictions=result("predictions/references.parquet"),
    log:
        log_of("evaluate/references"),
    benchmark:
        benchmark_of("evaluate/references")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings=settings("evaluate"),
        code=stage_code("evaluate"),
    message:
        "Scoring the reference rows: chance, sex, covariates, median beat, known ceiling"
    script:
        "../workflow_scripts/evaluate_references.py"


rule evaluate:
    input:
        expand(
            result("regression/{method}/seed{seed}.parquet"),
            method=METHODS,
            seed=SEEDS,
        ),
        rules.evaluate_references.output,
    message:
        "All scores are there"
