"""Scores one method with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.evaluation.stage import Study, evaluate
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.embeddings), snakemake.config["cohort"])
    evaluate(
        snakemake.wildcards.method,
        int(snakemake.wildcards.seed),
        Study(
            snakemake.params.settings,
            Path(snakemake.input.subjects),
            list(map(Path, snakemake.input.ecg)),
            split=snakemake.params.split,
        ),
        Path(snakemake.input.embeddings),
        {kind: Path(path) for kind, path in snakemake.output.items()},
        feature=snakemake.params.feature,
    )
