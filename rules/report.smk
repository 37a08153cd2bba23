"""Stage report: the comparison, in one page that opens offline."""


rule report:
    input:
        subjects=result("cohort/subjects.parquet"),
        pairs=rules.pairs.output,
        ecg=expand(result("ecg/{shard}.parquet"), shard=SHARDS),
        cmr=expand(result("cmr/{shard}.parquet"), shard=SHARDS),
        history=expand(
            result("models/{method}/seed{seed}/history.parquet"),
            method=EMBEDDED,
            seed=SEEDS,
        ),
        embeddings=expand(
            result("embeddings/{method}/seed{seed}.parquet"),
            method=EMBEDDED,
            seed=SEEDS,
        ),
        scores=rules.evaluate.input,
        # The page links to them.
        beside=rules.quality.output + (rules.gallery.output if SHOWN else []),
    output:
        page=report(result("report/index.html"), category="Report"),
        regression=result("tables/regression_probe.csv"),
        retrieval=result("tables/retrieval.csv"),
        nuisances=result("tables/nuisances.csv"),
        differences=expand(
            result("tables/differences_{of}.csv"), of=["probe", "retrieval"]
        ),
        finetune=expand(
            result("tables/{of}_finetune.csv"),
            of=["regression", "differences"] if FINETUNE_SCORED else [],
        ),
    log:
        log_of("report"),
    benchmark:
        benchmark_of("report")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        settings=settings("report"),
        code=stage_code("report"),
    message:
        "Writing the report"
    script:
        "../workflow_scripts/report.py"


rule study:
    input:
        report=rules.report.output,
        subjects=result("cohort/subjects.parquet"),
    output:
        page=result("report/study.md"),
    log:
        log_of("study"),
    benchmark:
        benchmark_of("study")
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        settings=settings("report"),
        code=stage_code("report"),
    message:
        "Writing the study as a document"
    script:
        "../workflow_scripts/report_study.py"
