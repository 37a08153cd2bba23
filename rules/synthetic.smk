"""Stage synthetic: files in the UK Biobank formats, for a study without data of its own."""

if config["synthetic"]:

    rule synthetic:
        output:
            result("synthetic/phenotypes.csv"),
            result("synthetic/timings.csv"),
            result("synthetic/expected.parquet"),
            result("synthetic/truth.parquet"),
        log:
            log_of("synthetic"),
        benchmark:
            benchmark_of("synthetic")
        conda:
            "../envs/preprocess.yaml"
        threads: 64
        resources:
            mem_mb=2000,
            runtime=240,
        params:
            settings=settings("synthetic"),
            code=stage_code("synthetic"),
            out_dir=result("synthetic"),
        message:
            "Generating the synthetic cohort as UK Biobank files"
        script:
            "../workflow_scripts/synthetic.py"
