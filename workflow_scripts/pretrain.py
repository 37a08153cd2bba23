"""Trains one method with one seed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.logs import stage_log
from ptacl.training.options import How
from ptacl.training.stage import Inputs, pretrain

with stage_log(snakemake.log[0]):
    pretrain(
        snakemake.wildcards.method,
        int(snakemake.wildcards.seed),
        snakemake.params.settings,
        Inputs(
            pairs=Path(snakemake.input.pairs),
            ecg_dir=Path(snakemake.input.ecg[0]).parent,
            cmr_dir=Path(snakemake.input.cmr[0]).parent,
            out_dir=Path(snakemake.output.model).parent,
            warm_start_ecg=next(map(Path, snakemake.input.warm_start_ecg), None),
            warm_start_cmr=next(map(Path, snakemake.input.warm_start_cmr), None),
        ),
        How.of(snakemake.config, snakemake.threads, snakemake.params.code),
    )
