"""Writes the study as a document."""

import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.logs import stage_log
from ptacl.report.study import write_study

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.subjects), snakemake.config["cohort"])
    settings = snakemake.params.settings
    write_study(Path(settings["results"]), settings, Path(snakemake.output.page), date.today())
