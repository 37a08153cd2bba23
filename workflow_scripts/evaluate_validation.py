"""Writes one row for every method and seed, on the validation split."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.evaluation.validation import write_validation
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    write_validation(
        list(map(Path, snakemake.input.regression)),
        list(map(Path, snakemake.input.retrieval)),
        snakemake.params.settings,
        Path(snakemake.output[0]),
    )
