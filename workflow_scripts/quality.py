"""Writes the page of one shard's recordings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.logs import stage_log
from ptacl.report.quality import build_quality_page

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.ecg), snakemake.config["cohort"])
    page = Path(snakemake.output.page)
    build_quality_page(page.parents[1], snakemake.wildcards.shard, snakemake.params.settings, page)
