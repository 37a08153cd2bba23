"""What all rules use: the checked config, names of files, params of a stage."""

import re
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

# The library of this checkout, also where no ptacl is installed.
sys.path.insert(0, workflow.basedir)

from ptacl.cohort.listing import listing_digest
from ptacl.config import (
    check_config,
    finetuned_methods,
    needed_models,
    probed_methods,
    uses_gpu,
    warm_start,
)
from ptacl.errors import PtaclError
from ptacl.report.shown import shown_method
from ptacl.stages import UNTRAINED, stage_code, stage_settings

try:
    with open(
        Path(workflow.basedir) / "rules" / "schemas" / "config.schema.yaml"
    ) as schema:
        config.update(check_config(config, yaml.safe_load(schema)))
except PtaclError as e:
    raise WorkflowError(f"config: {e}") from None

RESULTS = config["results"]
SHARDS = [f"{i:04d}" for i in range(config["cohort"]["shards"])]
METHODS = probed_methods(config)
FINETUNED = finetuned_methods(config)
SEEDS = config["seeds"]
# What is added to `finetune` for a share of the labels: nothing for all of them.
FRACTIONS = {
    "" if f == 1 else f"_{f}": float(f)
    for f in config["pretrain"]["finetune"]["label_fractions"]
}
MODELS = needed_models(config)
EMBEDDED = [m for m in METHODS if m in MODELS]
SHOWN = shown_method(config)
# What jobs that use a GPU ask for: a scheduler gives none that isn't asked for, and on one machine they take turns.
GPUS = config["pretrain"]["gpus"] if uses_gpu(config) else 0
TRAINING_ENVIRONMENT = f"../envs/{'train_cuda' if GPUS else 'train'}.yaml"
# Snakemake would cut what a job asks for to the run's own limit, without a word.
limit = dict(workflow.global_resources).get("gpu", GPUS)
if workflow.is_main_process and getattr(limit, "value", limit) < GPUS:
    raise WorkflowError(
        f"config: pretrain.gpus: {GPUS}, but this run is given fewer: add --resources gpu={GPUS}"
    )


wildcard_constraints:
    shard=r"\d{4}",
    method="[a-z][a-z0-9_]*",
    seed=r"\d+",
    # In parentheses, since Snakemake takes an empty constraint for none.
    fraction=f"(?:{'|'.join(map(re.escape, FRACTIONS))})",


def result(path):
    """A path below the results folder; wildcards stay as they are."""
    return f"{RESULTS}/{path}"


def log_of(path):
    return f"{RESULTS}/logs/{path}.log"


def benchmark_of(path):
    return f"{RESULTS}/benchmarks/{path}.tsv"


def memory(mb):
    """What a job asks for, and more when it is tried again, as a profile's `retries` has it."""
    return lambda wildcards, attempt: mb * attempt


def settings(stage):
    """The params of a stage without methods."""
    return stage_settings(config, stage)


def method_settings(stage):
    """The params of a stage with a `method` wildcard."""
    return lambda wildcards: stage_settings(config, stage, wildcards.method)


def generated_cohort():
    """The file that says the synthetic cohort is complete, where the study generates one."""
    return [result("synthetic/phenotypes.csv")] if config["synthetic"] else []


def raw_listing(wildcards):
    """A digest of the raw files' names, sizes and times, so that a new or replaced file is noticed.

    A generated cohort follows from its settings, and isn't there yet when the workflow is planned.
    """
    if config["synthetic"]:
        return "generated"
    try:
        return listing_digest(settings("cohort"))
    except PtaclError as e:
        raise WorkflowError(f"config: {e}") from None


def check_start_files():
    """Stops for a file to start from that isn't there: Snakemake would take the old model for a source."""
    for method in MODELS:
        for side in ("ecg", "cmr"):
            start = warm_start(config, method, side)
            if start and start not in config["pretrain"]["methods"]:
                if not Path(start).is_file():
                    raise WorkflowError(
                        f"config: pretrain.methods.{method}.warm_start.{side}: there is no file {start!r}"
                        " (a path is relative to where snakemake runs)"
                    )


check_start_files()


def gpus_of(wildcards):
    """GPUs that the training of a method asks for; an untrained encoder needs none."""
    objective = config["pretrain"]["methods"][wildcards.method]["objective"]
    return 0 if objective in UNTRAINED else GPUS


def warm_start_of(side):
    """The file that a method's `ecg` or `cmr` encoder starts from, as a list for `input`."""

    def of(wildcards):
        start = warm_start(config, wildcards.method, side)
        if start in config["pretrain"]["methods"]:
            start = result(f"models/{start}/seed{wildcards.seed}/model.safetensors")
        return [start] if start else []

    return of


def embedding_source(method):
    """The method whose embeddings `method` reads: its own, or those it names in `embedding_of`."""
    return config["pretrain"]["methods"][method].get("embedding_of", method)


def probed_feature(wildcards):
    """What a method's probe reads: its own ECG embedding, or the CMR embedding of the method it names."""
    own = embedding_source(wildcards.method) == wildcards.method
    return "ecg_feature" if own else "cmr_feature"


def of_methods(path, methods):
    """The files of some methods, all seeds."""
    return expand(result(path), method=methods, seed=SEEDS)
