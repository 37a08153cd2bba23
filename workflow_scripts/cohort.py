"""Writes the cohort's tables and one manifest per shard."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.stage import build_cohort
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    build_cohort(snakemake.params.settings, Path(snakemake.output.subjects).parent)
