"""Scores the reference rows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.evaluation.stage import evaluate_references
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.pairs), snakemake.config["cohort"])
    evaluate_references(
        snakemake.params.settings,
        Path(snakemake.input.pairs),
        Path(snakemake.input.subjects),
        Path(snakemake.input.ecg[0]).parent,
        Path(snakemake.output.regression),
        Path(snakemake.output.predictions),
    )
