"""Reference rows: what is reached without the method, and what could be reached at best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ptacl.artifacts import read_tensors
from ptacl.errors import ConfigError
from ptacl.evaluation.ridge import probe
from ptacl.evaluation.tables import Targets

BEAT_COMPONENTS, BEAT_STRIDE = 100, 4


def reference_predictions(
    pairs: list[dict[str, Any]], targets: Targets, ecg_dir: Path, settings: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Predictions [n, targets] by name of the reference: chance, sex, covariates, median_beat, ceiling_*."""
    keys = [(r["subject_id"], r["visit"]) for r in pairs]
    subjects = [s for s, _ in keys]
    train = np.array([r["split"] == "train" for r in pairs])
    found: dict[str, np.ndarray] = {"chance": _training_mean(targets.values, train)}
    sex = targets.column("sex")
    if np.isfinite(sex).any():
        found["sex"] = probe(sex[:, None], targets.values, subjects, train)
    covariates = np.array([targets.column(c) for c in settings["covariates"]]).reshape(-1, len(pairs)).T
    if np.isfinite(covariates).any():
        found["covariates"] = probe(covariates, targets.values, subjects, train)
    found["median_beat"] = probe(_beat_components(pairs, ecg_dir, train), targets.values, subjects, train)
    if settings["reference_predictions"]:
        found |= _from_table(Path(settings["reference_predictions"]), keys, targets.names)
    return found


def _training_mean(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    known = np.isfinite(values) & train[:, None]
    count = known.sum(0)
    mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
    return np.broadcast_to(np.where(count > 0, mean, np.nan), values.shape)


def _beat_components(pairs: list[dict[str, Any]], ecg_dir: Path, train: np.ndarray) -> np.ndarray:
    """Principal components (of the training split) of the median beat and the heart rate: [n, <= 101]."""
    beats: list[np.ndarray] = []
    shards: dict[int, np.ndarray] = {}
    for r in pairs:
        if r["shard"] not in shards:
            path = ecg_dir / f"{r['shard']:04d}.safetensors"
            shards[r["shard"]] = read_tensors(path, kind="ecg_tensors", version=1)["median_beat"]
        beats.append(shards[r["shard"]][r["ecg_row"], :, ::BEAT_STRIDE].ravel())
    x = np.array(beats, np.float64)
    rate = np.array([[r["heart_rate_bpm"] if r["heart_rate_bpm"] is not None else np.nan] for r in pairs], float)
    if not train.any():
        return rate
    x -= x[train].mean(0)
    _, _, vt = np.linalg.svd(x[train], full_matrices=False)
    return np.hstack([x @ vt[: min(BEAT_COMPONENTS, train.sum() // 2 + 1)].T, rate])


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
    for r in table.to_pylist():
        i, j = place.get((r["subject_id"], r["visit"])), column.get(r["phenotype"])
        if i is not None and j is not None:
            name = f"ceiling_{r['reference']}"
            found.setdefault(name, np.full((len(keys), len(names)), np.nan))[i, j] = r["value"]
    return dict(sorted(found.items()))
