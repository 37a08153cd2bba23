"""Writes the report and the tables."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.logs import stage_log
from ptacl.report.stage import build_report

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.subjects), snakemake.config["cohort"])
    build_report(Path(snakemake.params.settings["results"]), snakemake.params.settings)
