"""Writes the list of the shards' pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.logs import stage_log
from ptacl.report.quality import build_quality_index

with stage_log(snakemake.log[0]):
    page = Path(snakemake.output.page)
    build_quality_index(page.parents[1], [Path(p).stem for p in snakemake.input.ecg], page)
