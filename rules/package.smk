"""Stage package: trained models as folders that stand for themselves, for `ptacl predict`."""


rule package_method:
    input:
        model=result("models/{method}/seed{seed}/model.safetensors"),
        embeddings=result("embeddings/{method}/seed{seed}.parquet"),
        subjects=result("cohort/subjects.parquet"),
        regression=result("regression/{method}/seed{seed}.parquet"),
    output:
        weights=result("packages/{method}/seed{seed}/model.safetensors"),
        about=result("packages/{method}/seed{seed}/package.yaml"),
        card=result("packages/{method}/seed{seed}/README.md"),
        gallery=result("galleries/{method}/seed{seed}.parquet"),
    log:
        log_of("package/{method}/seed{seed}"),
    benchmark:
        benchmark_of("package/{method}/seed{seed}")
    conda:
        "../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        settings=method_settings("package"),
        code=stage_code("package"),
    message:
        "Packing {wildcards.method}, seed {wildcards.seed}, for use elsewhere"
    script:
        "../workflow_scripts/package.py"


rule package:
    input:
        expand(
            result("packages/{method}/seed{seed}/package.yaml"),
            method=EMBEDDED,
            seed=SEEDS,
        ),
    message:
        "All packages are there"
