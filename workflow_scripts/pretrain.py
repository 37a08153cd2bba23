"""Trains one method with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.logs import stage_log
from ptacl.training.stage import pretrain

with stage_log(snakemake.log[0]):
    pretrain(
        snakemake.wildcards.method,
        int(snakemake.wildcards.seed),
        snakemake.params.settings,
        Path(snakemake.input.pairs),
        Path(snakemake.input.ecg[0]).parent,
        Path(snakemake.input.cmr[0]).parent,
        Path(snakemake.output.model).parent,
        warm_start_ecg=next(map(Path, snakemake.input.warm_start), None),
        device=snakemake.config["pretrain"]["device"],
        threads=snakemake.threads,
    )
