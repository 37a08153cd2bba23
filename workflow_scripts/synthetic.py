"""Generates the synthetic cohort."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.logs import stage_log
from ptacl.synthetic.stage import build_synthetic_cohort

with stage_log(snakemake.log[0]):
    build_synthetic_cohort(
        snakemake.params.settings, Path(snakemake.output.phenotypes).parent, processes=snakemake.threads
    )
