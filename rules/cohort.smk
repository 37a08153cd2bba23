"""Stage cohort: who is there, with which files and phenotypes, in which split and shard."""

from ptacl.cohort.withdrawals import withdrawal_files, withdrawal_patterns

# Before anything runs, and not in the job alone: a study without withdrawal lists must not begin.
try:
    lists = withdrawal_patterns(
        config["cohort"]["withdrawals"], config["cohort"]["source"]
    )
    if not config["synthetic"]:  # else they are generated first
        withdrawal_files(lists)
except PtaclError as e:
    raise WorkflowError(f"config: {e}") from None


checkpoint cohort:
    input:
        generated_cohort(),
    output:
        subjects=result("cohort/subjects.parquet"),
        excluded=result("cohort/excluded.parquet"),
        counts=result("cohort/excluded_counts.json"),
        manifests=expand(result("cohort/{shard}.parquet"), shard=SHARDS),
    log:
        log_of("cohort"),
    benchmark:
        benchmark_of("cohort")
    conda:
        "../envs/preprocess.yaml"
    threads: 1
    resources:
        mem_mb=memory(8000),
        runtime=60,
    params:
        settings=settings("cohort"),
        code=stage_code("cohort"),
        listing=raw_listing,
    message:
        "Taking stock of the cohort: files, phenotypes, splits, one manifest per shard"
    script:
        "../workflow_scripts/cohort.py"
