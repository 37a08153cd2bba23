"""Stage gallery: single ECGs with the patients retrieved for them."""

# Where nothing but labels is learnt there is nothing to show.
if SHOWN:

    rule gallery:
        input:
            subjects=result("cohort/subjects.parquet"),
            pairs=result("pairs/pairs.parquet"),
            embeddings=result(f"embeddings/{SHOWN}/seed{SEEDS[0]}.parquet"),
            ecg=ancient(expand(result("ecg/{shard}.safetensors"), shard=SHARDS)),
            cmr=ancient(expand(result("cmr/{shard}.safetensors"), shard=SHARDS)),
        output:
            page=result("gallery/index.html"),
        log:
            log_of("gallery"),
        benchmark:
            benchmark_of("gallery")
        conda:
            "../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=memory(2000),
            runtime=30,
        params:
            settings=settings("gallery"),
            code=stage_code("gallery"),
        message:
            "Drawing single ECGs and the patients retrieved for them"
        script:
            "../workflow_scripts/gallery.py"
