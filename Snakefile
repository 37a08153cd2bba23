"""PTACL: raw ECG and cardiac MRI files -> shards -> pairs -> models -> embeddings -> scores -> report."""

from snakemake.utils import min_version

min_version("9.0")


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/synthetic.smk"
include: "rules/cohort.smk"
include: "rules/ecg.smk"
include: "rules/cmr.smk"
include: "rules/pairs.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/embed.smk"
include: "rules/evaluate.smk"
include: "rules/quality.smk"
include: "rules/gallery.smk"
include: "rules/report.smk"
include: "rules/package.smk"


rule all:
    default_target: True
    input:
        rules.report.output,
        rules.package.input,
