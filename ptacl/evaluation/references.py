"""Reference rows: what is reached without the method, and what could be reached at best."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ptacl.artifacts import read_tensors
from ptacl.errors import ConfigError
from ptacl.evaluation.regression import Fit
from ptacl.evaluation.ridge import probe
from ptacl.evaluation.rows import Rows, Targets
from ptacl.store.labels import labelled

BEAT_COMPONENTS, BEAT_STRIDE = 100, 4
PROBE, FULL = "probe", 1.0


def references(
    rows: Rows, targets: Targets, beats: np.ndarray, settings: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[tuple[Fit, np.ndarray]]:
    """Fits and their predictions [rows, targets]: chance, sex, covariates, median_beat (`beats`), and ceilings.

    Covariates and median beat also at every label fraction, for the labelled people of every seed, as methods are.
    """
    train = rows.split == "train"
    yield Fit("chance", PROBE, "nothing"), _training_mean(targets.values, train)
    sex, covariates = rows.column("sex"), rows.covariates(settings["covariates"])
    if np.isfinite(sex).any():
        yield Fit("sex", PROBE, "sex"), probe(sex[:, None], targets.values, rows.subjects, train)
    known = {"covariates": ("covariates", covariates)} if np.isfinite(covariates).any() else {}
    for name, (inputs, features) in (known | {"median_beat": ("ecg", beats)}).items():
        for fraction in settings["label_fractions"]:
            for seed in seeds if fraction < FULL else seeds[:1]:
                fitted = labelled_rows(rows, fraction, seed)
                yield Fit(name, PROBE, inputs, fraction), probe(features, targets.values, rows.subjects, fitted)
    if settings["reference_predictions"]:
        for name, predicted in _from_table(Path(settings["reference_predictions"]), rows.keys, targets.names).items():
            inputs = "covariates_ecg" if name.endswith("_covariates") else "ecg"
            yield Fit(name, PROBE, inputs), predicted


def labelled_rows(rows: Rows, fraction: float, seed: int) -> np.ndarray:
    """Bool: rows of the training split whose labels are known at a fraction."""
    train = rows.split == "train"
    if fraction == FULL:
        return train
    known = labelled([s for s, t in zip(rows.subjects, train.tolist(), strict=True) if t], fraction, seed)
    return train & np.array([s in known for s in rows.subjects])


def _training_mean(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    known = np.isfinite(values) & train[:, None]
    count = known.sum(0)
    mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
    return np.broadcast_to(np.where(count > 0, mean, np.nan), values.shape)


def beat_components(pairs: Sequence[Mapping[str, Any]], ecg_dir: Path) -> np.ndarray:
    """Principal components (of the training split) of the median beat and the heart rate: [n, <= 101]."""
    beats: list[np.ndarray] = []
    shards: dict[int, np.ndarray] = {}
    for r in pairs:
        if r["shard"] not in shards:
            path = ecg_dir / f"{r['shard']:04d}.safetensors"
            shards[r["shard"]] = read_tensors(path, kind="ecg_tensors", version=1)["median_beat"]
        beats.append(shards[r["shard"]][r["ecg_row"], :, ::BEAT_STRIDE].ravel())
    x, train = np.array(beats, np.float64), np.array([r["split"] == "train" for r in pairs], bool)
    rate = np.array([[r["heart_rate_bpm"] if r["heart_rate_bpm"] is not None else np.nan] for r in pairs], float)
    if not train.any():
        return rate
    x -= x[train].mean(0)
    _, vectors = np.linalg.eigh(x[train].T @ x[train])
    return np.hstack([x @ vectors[:, ::-1][:, : min(BEAT_COMPONENTS, train.sum() // 2 + 1)], rate])


def _from_table(path: Path, keys: Sequence[tuple[str, int]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """References of a table with subject_id, visit, phenotype, reference, value, as `ceiling_<reference>`."""
    if not path.is_file():
        raise ConfigError("evaluate.reference_predictions: no such table")
    try:  # any study's own table: columns, not our metadata, are what it needs
        table = pq.read_table(path, columns=["subject_id", "visit", "phenotype", "reference", "value"])
    except (pa.ArrowException, KeyError, OSError):
        raise ConfigError(
            "evaluate.reference_predictions: expected Parquet with subject_id, visit, phenotype, reference, value"
        ) from None
    place, column = {k: i for i, k in enumerate(keys)}, {n: j for j, n in enumerate(names)}
    found: dict[str, np.ndarray] = {}
    columns = (table[c].to_pylist() for c in ("subject_id", "visit", "phenotype", "reference", "value"))
    for subject, visit, phenotype, reference, value in zip(*columns, strict=True):
        i, j = place.get((str(subject), visit)), column.get(phenotype)
        if i is not None and j is not None and value is not None:
            name = f"ceiling_{reference}"
            found.setdefault(name, np.full((len(keys), len(names)), np.nan))[i, j] = value
    return dict(sorted(found.items()))
