"""Reference rows: what is reached without the method, and what could be reached at best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from ptacl.artifacts import read_tensors
from ptacl.errors import ArtifactError, ConfigError
from ptacl.evaluation.ridge import probe
from ptacl.evaluation.tables import Key, Row, Targets

ECG_TENSORS, ECG_VERSION = "ecg_tensors", 1
# Principal components of the median beat that the ridge sees, and the step at which its 600 samples are read.
BEAT_COMPONENTS, BEAT_STRIDE = 100, 4
_COLUMNS = {
    "subject_id": pa.string(), "visit": pa.int8(), "phenotype": pa.string(), "reference": pa.string(),
    "value": pa.float64(),
}  # fmt: skip


def reference_predictions(
    pairs: list[Row], targets: Targets, ecg_dir: Path, settings: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Predictions [n, targets] by name of the reference: chance, sex, covariates, median_beat, ceiling_*.

    `sex` and `covariates` are left out where the cohort has none. Raises ConfigError on an unreadable table of
    reference predictions.
    """
    keys = [(r["subject_id"], r["visit"]) for r in pairs]
    subjects = [s for s, _ in keys]
    train = np.array([r["split"] == "train" for r in pairs], bool)
    found: dict[str, np.ndarray] = {"chance": _training_mean(targets.values, train)}
    known = {c: targets.column(c) for c in ("sex", *settings["covariates"])}
    for name, columns in (("sex", ["sex"]), ("covariates", settings["covariates"])):
        x = np.stack([known[c] for c in columns], axis=1) if columns else np.zeros((len(pairs), 0))
        if np.isfinite(x).any():
            found[name] = probe(x, targets.values, subjects, train)
    beats = _principal_components(_median_beats(pairs, ecg_dir), train)
    rate = np.array([[r["heart_rate_bpm"]] for r in pairs], float).reshape(len(pairs), 1)
    found["median_beat"] = probe(np.hstack([beats, rate]), targets.values, subjects, train)
    if settings["reference_predictions"]:
        found |= _from_table(Path(settings["reference_predictions"]), keys, targets.names)
    return found


def _training_mean(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    known = np.isfinite(values) & train[:, None]
    count = known.sum(0)
    mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
    return np.broadcast_to(np.where(count > 0, mean, np.nan), values.shape)


def _median_beats(pairs: list[Row], ecg_dir: Path) -> np.ndarray:
    """Median beats of all leads side by side, every fourth sample: float64 [n, 12 * 150], in counts of 5 µV."""
    beats = np.zeros((len(pairs), 0))
    by_shard: dict[int, list[int]] = {}
    for i, r in enumerate(pairs):
        by_shard.setdefault(r["shard"], []).append(i)
    for shard, rows in by_shard.items():
        path = ecg_dir / f"{shard:04d}.safetensors"
        stored = read_tensors(path, kind=ECG_TENSORS, version=ECG_VERSION)["median_beat"]
        wanted = [pairs[i]["ecg_row"] for i in rows]
        if max(wanted) >= len(stored):
            raise ArtifactError(f"{path.name}: fewer recordings than pairs.parquet says; run pairs again")
        part = stored[wanted, :, ::BEAT_STRIDE].reshape(len(rows), -1)
        if not beats.shape[1]:
            beats = np.zeros((len(pairs), part.shape[1]))
        beats[rows] = part
    return beats


def _principal_components(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Scores [n, C] on the principal components of the training rows; C <= 100 and at most half of those rows.

    The components come from the smaller of the two Gram matrices.
    """
    number = min(BEAT_COMPONENTS, int(train.sum()) // 2, x.shape[1])
    if number == 0:
        return np.zeros((len(x), 0))
    x = x - x[train].mean(0)
    inside = x[train]
    if inside.shape[0] >= inside.shape[1]:
        axes = np.linalg.eigh(inside.T @ inside)[1]
    else:
        axes = inside.T @ np.linalg.eigh(inside @ inside.T)[1]
    return x @ axes[:, ::-1][:, :number]


def _from_table(path: Path, keys: Sequence[Key], names: Sequence[str]) -> dict[str, np.ndarray]:
    """References of a Parquet or CSV table (subject_id, visit, phenotype, reference, value) as `ceiling_<reference>`.

    Rows of others than `keys` and `names` are passed over; a pair that the table lacks is NaN.
    """
    table = _read_reference_table(path)
    place, column = {k: i for i, k in enumerate(keys)}, {n: j for j, n in enumerate(names)}
    subject, visit, phenotype, reference, value = (table[c].to_pylist() for c in _COLUMNS)
    found = {f"ceiling_{r}": np.full((len(keys), len(names)), np.nan) for r in sorted(set(reference) - {None})}
    for s, v, p, r, x in zip(subject, visit, phenotype, reference, value, strict=True):
        i, j = place.get((s, v)), column.get(p)
        if i is not None and j is not None and r is not None and x is not None:
            found[f"ceiling_{r}"][i, j] = x
    return found


def _read_reference_table(path: Path) -> pa.Table:
    key = "evaluate.reference_predictions"
    try:
        if path.suffix.lower() == ".csv":
            types = pv.ConvertOptions(column_types=_COLUMNS, include_columns=list(_COLUMNS))
            return pv.read_csv(path, convert_options=types)
        table = pq.read_table(path, partitioning=None)
        return table.select(list(_COLUMNS)).cast(pa.schema(_COLUMNS))
    except FileNotFoundError:
        raise ConfigError(f"{key}: no such table") from None
    except (pa.ArrowException, KeyError, OSError):
        # Arrow's own message may quote a cell, and so an id.
        raise ConfigError(f"{key}: expected Parquet or CSV with the columns {', '.join(_COLUMNS)}") from None
