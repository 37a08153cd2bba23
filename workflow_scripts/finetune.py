"""Learns the phenotypes end to end, from one method's ECG encoder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.logs import stage_log
from ptacl.training.finetune import Inputs, finetune
from ptacl.training.options import How

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.pairs), snakemake.config["cohort"])
    finetune(
        snakemake.wildcards.method,
        int(snakemake.wildcards.seed),
        snakemake.params.settings,
        Inputs(
            pairs=Path(snakemake.input.pairs),
            ecg_dir=Path(snakemake.input.ecg[0]).parent,
            subjects=Path(snakemake.input.subjects),
            model=Path(snakemake.input.model),
            out_dir=Path(snakemake.output.model).parent,
        ),
        How.of(snakemake.config, snakemake.threads, snakemake.params.code),
    )
