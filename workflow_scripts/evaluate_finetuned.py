"""Scores the fine-tuned models of one method with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.evaluation.stage import Study, evaluate_finetuned
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    for path in snakemake.input.finetuned:
        refuse_withdrawn(Path(path), snakemake.config["cohort"])
    evaluate_finetuned(
        snakemake.wildcards.method,
        Study(snakemake.params.settings, Path(snakemake.input.subjects), list(map(Path, snakemake.input.ecg))),
        dict(zip(snakemake.params.fractions, map(Path, snakemake.input.finetuned), strict=True)),
        {kind: Path(path) for kind, path in snakemake.output.items()},
    )
