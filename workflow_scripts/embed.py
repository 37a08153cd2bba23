"""Embeds every pair with one trained model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.evaluation.embed import embed
from ptacl.logs import stage_log

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.pairs), snakemake.config["cohort"])
    embed(
        Path(snakemake.input.model).parent,
        Path(snakemake.input.pairs),
        Path(snakemake.input.ecg[0]).parent,
        Path(snakemake.input.cmr[0]).parent,
        snakemake.params.settings,
        Path(snakemake.output[0]),
        device=snakemake.config["pretrain"]["device"],
        threads=snakemake.threads,
    )
