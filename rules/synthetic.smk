"""Stage synthetic: files in the UK Biobank formats, for a study without data of its own."""

if config["synthetic"]:

    rule synthetic:
        output:
            phenotypes=result("synthetic/phenotypes.csv"),
            timings=result("synthetic/timings.csv"),
            expected=result("synthetic/expected.parquet"),
            truth=result("synthetic/truth.parquet"),
        log:
            log_of("synthetic"),
        benchmark:
            benchmark_of("synthetic")
        conda:
            "../envs/preprocess.yaml"
        threads: 8
        resources:
            mem_mb=memory(2000),
            runtime=240,
        params:
            settings=settings("synthetic"),
            code=stage_code("synthetic"),
        message:
            "Generating the synthetic cohort as UK Biobank files"
        script:
            "../workflow_scripts/synthetic.py"
