"""Scores one method with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.evaluation.stage import evaluate
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.embeddings), snakemake.config["cohort"])
    evaluate(
        snakemake.wildcards.method,
        int(snakemake.wildcards.seed),
        snakemake.params.settings,
        Path(snakemake.input.embeddings),
        Path(snakemake.input.subjects),
        Path(snakemake.output.regression),
        Path(snakemake.output.retrieval),
        Path(snakemake.output.predictions),
        feature=snakemake.params.feature,
    )
