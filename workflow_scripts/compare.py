"""Compares the methods of a study on the same test subjects."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.evaluation.compare import compare, seed_of
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    predictions = [*snakemake.input.predictions, *snakemake.input.finetuned, snakemake.input.references]
    compare(
        [(seed_of(Path(p)), Path(p)) for p in predictions],
        [(seed_of(Path(p)), Path(p)) for p in snakemake.input.queries],
        snakemake.params.settings,
        Path(snakemake.output[0]),
    )
