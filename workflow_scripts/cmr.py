"""Writes the tensors, the views and the table of one CMR shard."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cmr.stage import build_shard
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    build_shard(
        Path(snakemake.input.manifest),
        snakemake.params.settings,
        Path(snakemake.output.tensors),
        Path(snakemake.output.views),
        Path(snakemake.output.table),
        source=snakemake.params.settings["source"],
    )
