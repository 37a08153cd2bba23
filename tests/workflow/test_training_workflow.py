"""Training through the workflow: the paper's setting rehearsed, warm starts pulled in, two processes, fine-tuning, export."""

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import yaml

from ptacl.model.build import load_encoder

PEOPLE = 27_951
# The paper's methods on the miniature study: transformers of 384 dimensions on 16 x 16 patches of 32 pixels.
SMALL = """
results: results/small
cohort:
  root: results/micro/synthetic
  table: results/micro/synthetic/phenotypes.csv
  extra_tables: []
  withdrawals: [results/micro/synthetic/withdrawals/*.csv]
synthetic: null
cmr: {size: 32}
methods: [scratch, ptacl]
seeds: [0]
pretrain:
  device: cpu
  gpus: 2
  encoder: {size: small, tokens: time, tubelet: 2, patch: 16}
  mae: {epochs: 1, batch: 8}
  cine_mae: {epochs: 1, batch: 8}
  contrastive: {epochs: 1, batch: 8}
  finetune: {epochs: 1, batch: 2, label_fractions: [1.0, 0.1]}
  methods: {ptacl: {loss: {residual: across, warp: systole}, warm_start: {ecg: mae, cmr: cine_mae}}}
evaluate: {targets: [LVEDV, LVM], reference_predictions: null, protocols: [probe, finetune]}
"""


def test_the_papers_study_is_planned_for_its_27951_people(new_study: Callable, tmp_path: Path) -> None:
    """Every file stands there by name only: planning reads none of them."""
    bulk = tmp_path / "bulk"
    for field, kind in (("20205", "xml"), ("20209", "zip")):
        (bulk / field).mkdir(parents=True)
        for i in range(PEOPLE):
            (bulk / field / f"{9_000_001 + i}_{field}_2_0.{kind}").touch()
    (tmp_path / "phenotypes.csv").write_text("eid,24100-2.0\n")
    (tmp_path / "w1.csv").write_text("")
    (tmp_path / "study").mkdir()
    study = new_study(tmp_path / "study", "--configfile", "configs/paper.yaml")
    overlay = study.overlay(
        f"cohort: {{root: '{bulk}', table: '{tmp_path}/phenotypes.csv', withdrawals: ['{tmp_path}/w*.csv']}}\n"
    )
    planned = study.planned("--configfile", "configs/paper.yaml", overlay)
    contrastive = ["global", "ptacl", "ptacl_shuffled", "ptacl_other", "ptacl_residual"]
    trained, embedded = ["random", "mae", "cine_mae", *contrastive], ["random", "mae", *contrastive]
    assert planned == {
        "cohort": 1, "ecg_shard": 110, "cmr_shard": 110, "pairs": 1, "pretrain_method": 3 * len(trained),
        "embed_method": 3 * len(embedded), "evaluate_method": 3 * len([*embedded, "cmr"]), "evaluate_references": 1, "compare": 1,
        "report": 1, "package_method": 3 * len(embedded), "quality_shard": 110, "quality": 1, "gallery": 1,
    }  # fmt: skip
    # The target of fine-tuning pulls in what it starts from.
    assert study.planned("finetune", "--configfile", "configs/paper.yaml", overlay)["finetune_method"] == 3 * len(
        ["scratch", "mae", *contrastive]
    )


def test_warm_starts_are_pulled_in_and_two_processes_train_embed_and_fine_tune(copy_of_micro: Callable) -> None:
    study = copy_of_micro()
    study.arguments = ("--configfile", "configs/micro.yaml", study.overlay(SMALL))
    models = study.folder / "results/small/models"
    done = study.run("--", "embed", "finetune")
    assert done.returncode == 0, done.stdout[-6000:]
    assert {p.name for p in models.iterdir()} == {"cine_mae", "mae", "ptacl", "scratch"}
    assert not list(models.rglob("last.ckpt"))
    for log in (study.folder / "results/small/logs/pretrain").rglob("*.log"):
        assert "Traceback" not in log.read_text()

    history = pq.read_table(models / "ptacl/seed0/history.parquet").to_pylist()
    value = {(r["split"], r["name"]): r["value"] for r in history}
    assert all(np.isfinite(v) for v in value.values())
    assert {"global", "local", "residual", "valid", "warped", "samples_per_s", "data_wait"} <= {n for _, n in value}
    assert {"patient_mrr", "phase_acc_own", "phase_acc_other", "frame_cosine", "temperature"} <= {n for _, n in value}

    predictions = pq.read_table(models / "ptacl/seed0/finetune/predictions.parquet")
    pairs = pq.read_table(study.folder / "results/small/pairs/pairs.parquet")
    assert predictions.num_rows == 2 * pairs.num_rows
    assert set(predictions["phenotype"].to_pylist()) == {"LVEDV", "LVM"}
    assert yaml.safe_load((models / "ptacl/seed0/finetune/config.yaml").read_text())["targets"] == ["LVEDV", "LVM"]

    # A tenth of so few people teaches nothing: an empty table, a word in the log, and a study that goes on.
    for method in ("scratch", "ptacl"):
        few = pq.read_table(models / method / "seed0/finetune_0.1/predictions.parquet")
        assert few.num_rows == 0 and few.schema.equals(predictions.schema)
        log = (study.folder / f"results/small/logs/finetune/{method}/seed0_0.1.log").read_text()
        assert "fewer than 10 people of the training split have a value at label_fraction 0.1" in log

    # A further share is learnt by itself.
    assert study.planned("finetune") == {}
    more = study.folder / "more.yaml"
    more.write_text("pretrain: {finetune: {label_fractions: [1.0, 0.5, 0.1]}}\n")
    assert study.planned("finetune", *study.arguments, more.name) == {"finetune_method": 2, "finetune": 1}

    # Both protocols are scored, each in its own table, and the study is written down; the validation split is scored alone.
    done = study.run("--", "study", "validate")
    assert done.returncode == 0, done.stdout[-6000:]
    tables = study.folder / "results/small/tables"
    for name, protocol in (("regression_probe", "probe"), ("regression_finetune", "finetune")):
        rows = list(csv.DictReader((tables / f"{name}.csv").open()))
        assert {r["protocol"] for r in rows} == {protocol}
    assert {r["method"] for r in rows} == {"ptacl", "scratch"} and {r["phenotype"] for r in rows} == {"LVEDV", "LVM"}
    page = (study.folder / "results/small/report/study.md").read_text()
    assert "protocol `finetune`" in page and "| `scratch` |" in page and "None" not in page and "nan" not in page
    images = re.findall(r"\]\((images/[^)]*)\)", page)
    assert images and all((study.folder / "results/small/report" / i).is_file() for i in images)
    (chosen_by,) = csv.DictReader((tables / "validation.csv").open())
    assert chosen_by["method"] == "ptacl" and float(chosen_by["recall_at_10"]) > 0

    # An encoder leaves as one file, and another study may start from it.
    export = [sys.executable, "-m", "ptacl", "export-encoder", str(models / "ptacl/seed0"), "ecg.safetensors"]
    assert subprocess.run(export, cwd=study.folder).returncode == 0
    assert load_encoder(study.folder / "ecg.safetensors")(torch.zeros(1, 12, 2500)).shape == (1, 50, 384)
    tuned = [*export[:-2], str(models / "ptacl/seed0/finetune"), "tuned.safetensors"]
    assert subprocess.run(tuned, cwd=study.folder).returncode == 0
    start = "pretrain: {methods: {global: {warm_start: {ecg: ecg.safetensors}}}}\nmethods: [global]\nresults: results/other\n"
    second = study.folder / "second.yaml"
    second.write_text(start)
    planned = study.planned("pretrain", *study.arguments, second.name)
    assert planned["pretrain_method"] == 1
    (study.folder / "ecg.safetensors").unlink()
    refused = study.run("--dry-run", *study.arguments, second.name)
    assert refused.returncode != 0
    assert "pretrain.methods.global.warm_start.ecg: there is no file 'ecg.safetensors'" in refused.stdout


def test_every_share_of_the_labels_has_its_own_folder(micro) -> None:
    """All labels keep the plain name; shares are named as Python prints them, and those not asked for have no rule."""
    unknown = micro.run("--dry-run", "results/micro/models/mae/seed1/finetune_0.01/predictions.parquet")
    assert unknown.returncode != 0 and "No rule to produce" in unknown.stdout
    overlay = micro.overlay("pretrain: {finetune: {label_fractions: [0.01, 0.10, 1, 1.0e-5]}}\n")
    printed = micro.run("--dry-run", "finetune", "--configfile", "configs/micro.yaml", overlay).stdout
    found = set(re.findall(r"results/micro/models/mae/seed1/([^/]*)/predictions\.parquet", printed))
    assert found == {"finetune", "finetune_0.01", "finetune_0.1", "finetune_1e-05"}
    shown = set(re.findall(r"Fine-tuning mae, seed 1, label fraction (\S+)", printed))
    assert shown == {"1.0", "0.01", "0.1", "1e-05"}


def test_fewer_gpus_than_a_training_asks_for_are_refused_in_words(micro) -> None:
    """Snakemake by itself would give the job fewer, without a word."""
    arguments = ("--configfile", "configs/micro.yaml", micro.overlay("pretrain: {gpus: 4, device: cuda}\n"))
    done = micro.run("--dry-run", *arguments)
    assert (
        done.returncode != 0 and "pretrain.gpus: 4, but this run is given fewer: add --resources gpu=4" in done.stdout
    )
    assert micro.planned("--resources", "gpu=4", *arguments) != {}
