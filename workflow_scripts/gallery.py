"""Writes the page of single ECGs with the patients retrieved for them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.logs import stage_log
from ptacl.report.gallery import build_gallery

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.embeddings), snakemake.config["cohort"])
    page = Path(snakemake.output.page)
    build_gallery(page.parents[1], snakemake.params.settings, Path(snakemake.input.embeddings), page)
