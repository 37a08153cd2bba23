"""Pairs ECG and CMR, and accounts for everyone else."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.logs import stage_log
from ptacl.store.pairs import build_pairs

with stage_log(snakemake.log[0]):
    build_pairs(
        Path(snakemake.input.subjects).parent,
        [Path(p) for p in snakemake.input.ecg],
        [Path(p) for p in snakemake.input.cmr],
        snakemake.params.settings,
        Path(snakemake.output.pairs).parent,
    )
