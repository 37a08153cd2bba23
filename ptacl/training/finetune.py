"""Stage finetune: labels learnt end to end, from the ECG encoder of a method or from an untrained one (`scratch`)."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ptacl.artifacts import read_table, write_table
from ptacl.errors import PtaclError
from ptacl.model.build import Regressor, ecg_encoder, load_into
from ptacl.store import schema
from ptacl.store.dataset import ECG, PairedDataset
from ptacl.store.labels import labelled
from ptacl.training.augment import WINDOWS, Augmentation, crop
from ptacl.training.checkpoint import Progress, load_weights
from ptacl.training.engine import train
from ptacl.training.objectives import SupervisedObjective
from ptacl.training.options import How
from ptacl.training.processes import launch, launched
from ptacl.training.stage import encoder_weights, training_digest, write_model

PREDICTIONS, VERSION = "finetune_predictions", 1
BATCH = 256
# The splits that labels are learnt from, and the weights chosen by.
TAUGHT = ("train", "val")
# Fewer known labels than this in the training split teach nothing.
LEAST_LABELS = 10
# With fewer steps than this, few labels would be learnt worse than they could be for want of steps alone.
LEAST_STEPS = 300


@dataclass(frozen=True)
class Inputs:
    """Where fine-tuning reads and writes: the pairs table, the folder of ECG shards, labels, the model it starts from."""

    pairs: Path
    ecg_dir: Path
    subjects: Path
    model: Path
    out_dir: Path


def finetune(method: str, seed: int, settings: Mapping[str, Any], inputs: Inputs, how: How = How()) -> None:  # noqa: B008
    """Writes model.safetensors, config.yaml, history.parquet and predictions.parquet into `inputs.out_dir`.

    `settings`: encoder, method, scale, augment, finetune, targets, label_fraction. Labels are standardised by the
    training split; predictions are in their units, the mean over the windows 0-5, 2.5-7.5 and 5-10 s, for every pair of
    every split. Below a label_fraction of 1, training and validation see its people alone; where they are too few to
    learn from, what is written is the start model with an untrained head, and no prediction.
    """
    if how.gpus > 1 and not launched():
        launch("finetune", method, seed, settings, inputs, how)
        return
    with how.engine(inputs.out_dir) as engine:
        torch.manual_seed(seed)
        data = PairedDataset.load(
            inputs.pairs, inputs.ecg_dir, Path(), sides=(ECG,), device=engine.device, data=how.data
        )  # fmt: skip
        taught = _with_labels(data, settings["label_fraction"], seed)
        # Each part of a batch needs somebody.
        parts = engine.part.of * settings["finetune"].get("accumulate", 1)
        labels, mean, sd, targets = _labels(taught, inputs.subjects, settings, max(LEAST_LABELS, parts))
        start = encoder_weights(load_weights(inputs.model), "ecg")
        model = Regressor(ecg_encoder(settings["encoder"]), len(targets or settings["targets"]))
        load_into(model.ecg, start, inputs.model)
        objective = SupervisedObjective(
            model, labels.to(engine.device), settings["scale"], Augmentation(**settings["augment"])
        )  # fmt: skip
        learnt = {"labels": labels, "mean": mean, "sd": sd}
        digest = training_digest(settings, seed, how, engine, inputs.pairs, [start, learnt])
        # An encoder that has learnt nothing yet has nothing to keep: all its layers move alike.
        scratch = {"layer_decay": 1.0} if settings["method"]["objective"] == "supervised" else {}
        progress = Progress()
        if targets:
            epochs = {"epochs": _epochs(settings["finetune"], len(taught.of_split("train")))}
            section = settings["finetune"] | scratch | epochs
            progress = train(objective, taught, section, seed, inputs.out_dir / "last.ckpt", digest, engine)
        if engine.part.rank == 0:
            predicted = _predict(model, data, settings["scale"]) * sd + mean if targets else torch.empty(0)
            _write_predictions(inputs.out_dir / "predictions.parquet", data, targets, predicted, settings)
            write_model(inputs.out_dir, method, seed, settings, engine, model, progress)


def _with_labels(data: PairedDataset, fraction: float, seed: int) -> PairedDataset:
    """The same pairs, of which only people whose labels are known at a fraction stand in the training and validation splits.

    Of each split its own share: many labels to choose the weights by would be labels too.
    """
    people = {split: [s for s, of in zip(data.subject_id, data.split, strict=True) if of == split] for split in TAUGHT}
    known = {split: labelled(people[split], fraction, seed) for split in TAUGHT}
    split = [of if s in known.get(of, ()) else "" for s, of in zip(data.subject_id, data.split, strict=True)]
    return replace(data, split=split)


def _epochs(section: Mapping[str, Any], rows: int) -> int:
    """The configured epochs, or as many more as LEAST_STEPS take with `rows` to learn from."""
    steps = rows // min(section["batch"], rows)
    return max(section["epochs"], math.ceil(LEAST_STEPS / steps))


def _labels(
    data: PairedDataset, subjects: Path, settings: Mapping[str, Any], least: int
) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Standardised labels [n, targets], NaN where unknown; mean and SD of the training split; the targets that can be learnt.

    Warns of targets that fewer than `least` people have, or that are the same for all. When none is left, raises PtaclError
    where all labels are known, and warns below that: the larger fractions of a study are to come out.
    """
    targets, fraction = settings["targets"], settings["label_fraction"]
    table = read_table(subjects, kind=schema.COHORT_SUBJECTS, version=schema.VERSION[schema.COHORT_SUBJECTS])
    place = {k: i for i, k in enumerate(zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True))}
    rows = [place[k] for k in zip(data.subject_id, data.visit, strict=True)]
    train_rows = data.of_split("train").numpy()
    columns, left_out = {}, []
    for target in targets:
        column = table[target].to_pylist() if target in table.column_names else [None] * table.num_rows
        values = np.array([np.nan if column[i] is None else column[i] for i in rows], np.float64)
        known = values[train_rows][np.isfinite(values[train_rows])]
        if len(known) < least or known.std() == 0:
            left_out.append(target)
        else:
            columns[target] = (values, known.mean(), known.std())
    share = "" if fraction == 1 else f" at label_fraction {fraction}"
    reason = f"fewer than {least} people of the training split have a value{share}, or all the same"
    if not columns and fraction == 1:
        raise PtaclError(f"evaluate.targets: {', '.join(left_out)}: {reason}: nothing to learn")
    if left_out:
        rest = "" if columns else ": nothing to learn, and no predictions"
        warnings.warn(f"left out of evaluate.targets: {', '.join(left_out)} ({reason}){rest}", stacklevel=2)
    if not columns:
        return torch.empty(len(rows), 0), torch.empty(0), torch.empty(0), []
    values, mean, sd = (np.stack(c, axis=-1) for c in zip(*columns.values(), strict=True))
    labels = torch.tensor((values - mean) / sd, dtype=torch.float32)
    return labels, torch.tensor(mean), torch.tensor(sd), list(columns)


@torch.no_grad()
def _predict(model: Regressor, data: PairedDataset, scale_mv: float) -> Tensor:
    """Predictions [n, targets] in SD, mean over the windows, float64 on the CPU."""
    model.eval()
    predicted = []
    with torch.compiler.set_stance("force_eager"):
        for batch in data.batches(torch.arange(len(data)).split(BATCH)):
            starts = [torch.full((len(batch.rows),), w, device=data.device) for w in WINDOWS]
            of_windows = [model(crop(batch.ecg, batch.timing, s, scale_mv)[0]) for s in starts]
            predicted.append(torch.stack(of_windows).mean(0).double().cpu())
    return torch.cat(predicted)


def _write_predictions(
    path: Path, data: PairedDataset, targets: list[str], predicted: Tensor, settings: Mapping[str, Any]
) -> None:
    n = len(targets)
    table = pa.table(
        {
            "subject_id": pa.array([s for s in data.subject_id for _ in range(n)], pa.string()),
            "visit": pa.array([v for v in data.visit for _ in range(n)], pa.int8()),
            "split": pa.array([s for s in data.split for _ in range(n)], pa.string()),
            "phenotype": pa.array(targets * len(data), pa.string()),
            "predicted": pa.array(predicted.flatten().tolist(), pa.float64()),
        }
    )
    write_table(path, table, kind=PREDICTIONS, version=VERSION, settings=settings)
