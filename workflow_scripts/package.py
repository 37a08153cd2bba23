"""Makes a package of one trained model, and its gallery."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.cohort.withdrawals import refuse_withdrawn
from ptacl.logs import stage_log
from ptacl.package.build import Sources, build_package

with stage_log(snakemake.log[0]):
    refuse_withdrawn(Path(snakemake.input.embeddings), snakemake.config["cohort"])
    build_package(
        Sources(**{k: Path(snakemake.input[k]) for k in ("model", "embeddings", "subjects", "regression")}),
        snakemake.params.settings,
        snakemake.wildcards.method,
        int(snakemake.wildcards.seed),
        Path(snakemake.output.weights).parent,
        Path(snakemake.output.gallery),
    )
