"""Scores the reference rows."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.evaluation.stage import Study, evaluate_references
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.pairs), snakemake.config["cohort"])
    evaluate_references(
        Study(snakemake.params.settings, Path(snakemake.input.subjects), list(map(Path, snakemake.input.ecg))),
        Path(snakemake.input.pairs),
        Path(snakemake.input.tensors[0]).parent,
        snakemake.params.seeds,
        {kind: Path(path) for kind, path in snakemake.output.items()},
    )
