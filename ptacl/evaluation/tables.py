"""What the stage reads and writes as arrays: embeddings, targets of a study, scores and predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table, write_table
from ptacl.errors import ArtifactError
from ptacl.evaluation.ridge import MIN_TRAINING
from ptacl.evaluation.statistics import METRICS, Estimate, regression_metrics

REGRESSION, RETRIEVAL, PREDICTIONS, VERSION = "regression", "retrieval", "predictions", 1
EMBEDDINGS, SUBJECTS, INPUT_VERSION = "embeddings", "cohort_subjects", 1

REGRESSION_SCHEMA = pa.schema(
    {
        "method": pa.string(), "protocol": pa.string(), "phenotype": pa.string(), "metric": pa.string(),
        "value": pa.float64(), "lo": pa.float64(), "hi": pa.float64(), "n": pa.int32(),
        "label_fraction": pa.float64(), "subgroup": pa.string(), "note": pa.string(),
    }
)  # fmt: skip
RETRIEVAL_SCHEMA = pa.schema(
    {
        "method": pa.string(), "task": pa.string(), "direction": pa.string(), "phenotype": pa.string(),
        "metric": pa.string(), "k": pa.int32(), "value": pa.float64(), "lo": pa.float64(), "hi": pa.float64(),
        "chance": pa.float64(), "oracle": pa.float64(), "gallery": pa.int32(), "n": pa.int32(), "note": pa.string(),
    }
)  # fmt: skip
PREDICTIONS_SCHEMA = pa.schema(
    {
        "method": pa.string(), "subject_id": pa.string(), "visit": pa.int8(), "phenotype": pa.string(),
        "truth": pa.float64(), "prediction": pa.float64(),
    }
)  # fmt: skip

Row = dict[str, Any]
Key = tuple[str, int]


class Embeddings:
    """The embedding table of one method and seed: one row per pair."""

    def __init__(self, path: Path) -> None:
        self._table = read_table(path, kind=EMBEDDINGS, version=INPUT_VERSION)
        self.subjects: list[str] = self._table["subject_id"].to_pylist()
        self.keys: list[Key] = list(zip(self.subjects, self._table["visit"].to_pylist(), strict=True))
        self.split = np.array(self._table["split"].to_pylist(), str)

    def has(self, column: str) -> bool:
        """Whether the method has this embedding for anybody."""
        return self._table[column].null_count < len(self._table)

    def valid(self, column: str) -> np.ndarray:
        """bool [n]: the rows with this embedding."""
        return np.asarray(self._table[column].is_valid().to_numpy())

    def matrix(self, column: str) -> np.ndarray:
        """An embedding as float64 [n, D]; rows without one are NaN. Raises ArtifactError on rows of unequal length."""
        lists = self._table[column].combine_chunks()
        valid = self.valid(column)
        flat = lists.drop_null().flatten().to_numpy(zero_copy_only=False)
        width, rest = divmod(len(flat), max(int(valid.sum()), 1))
        if rest or not set(lists.value_lengths().drop_null().unique().to_pylist()) <= {width}:
            raise ArtifactError(f"embeddings: the rows of {column} have unequal lengths; run embed again")
        values = np.full((len(valid), width), np.nan)
        values[valid] = flat.reshape(-1, width) if width else 0.0
        return values

    def first_visits(self, rows: np.ndarray) -> np.ndarray:
        """Of the given row numbers, those of each subject's first visit, in order of subject."""
        ordered = sorted(rows.tolist(), key=lambda i: self.keys[i])
        first = {self.subjects[i]: i for i in reversed(ordered)}
        return np.array([first[s] for s in sorted(first)], int)


class Targets:
    """Phenotypes and covariates of given (subject, visit) rows, NaN where missing.

    `names`: targets with at least one value among the rows; `values`: [n, names]; `missing`: targets of the config,
    extra ones apart, without any. Raises ArtifactError when a row is not in the cohort.
    """

    def __init__(self, subjects: Path, keys: Sequence[Key], settings: Mapping[str, Any]) -> None:
        self._table = read_table(subjects, kind=SUBJECTS, version=INPUT_VERSION)
        cohort = zip(self._table["subject_id"].to_pylist(), self._table["visit"].to_pylist(), strict=True)
        place = {key: i for i, key in enumerate(cohort)}
        unknown = sum(k not in place for k in keys)
        if unknown:
            raise ArtifactError(f"{unknown} rows are not in cohort/subjects.parquet; run pairs and embed again")
        self._rows = [place[k] for k in keys]
        wanted = dict.fromkeys([*settings["targets"], *settings["extra_targets"]])
        self.names = [n for n in wanted if np.isfinite(self.column(n)).any()]
        self.missing = [n for n in settings["targets"] if n not in self.names]
        self.values = np.stack([self.column(n) for n in self.names], 1) if self.names else np.zeros((len(keys), 0))

    def column(self, name: str) -> np.ndarray:
        """A column of the cohort table for the rows, float64, not finite as NaN; all NaN where there is no such one."""
        if name not in self._table.column_names:
            return np.full(len(self._rows), np.nan)
        values = self._table[name].cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)[self._rows]
        return np.where(np.isfinite(values), values, np.nan)


def score_regression(
    method: str, keys: Sequence[Key], targets: Targets, predicted: np.ndarray, test: np.ndarray,
    settings: Mapping[str, Any], note: str | None = None,
) -> tuple[list[Row], list[Row]]:  # fmt: skip
    """Score rows and prediction rows of one method on the test rows (bool [n]); `note` is added to every score."""
    scores: list[Row] = []
    predictions: list[Row] = []
    for j, name in enumerate(targets.names):
        truth = targets.values[:, j]
        measured = test & np.isfinite(truth)
        rows = np.flatnonzero(measured & np.isfinite(predicted[:, j])).tolist()
        who = [keys[i][0] for i in rows]
        found = regression_metrics(truth[rows], predicted[rows, j], who, settings["bootstraps"], settings["seed"])
        gaps = _gaps(int(measured.sum()), len(rows))
        scores += [_score(method, name, metric, e, len(rows), gaps, note) for metric, e in found.items()]
        predictions += [
            {
                "method": method, "subject_id": keys[i][0], "visit": keys[i][1], "phenotype": name,
                "truth": float(truth[i]), "prediction": float(predicted[i, j]),
            }
            for i in rows
        ]  # fmt: skip
    absent = Estimate(None, None, None, "no value of this phenotype in the cohort")
    scores += [_score(method, name, metric, absent, 0) for name in targets.missing for metric in METRICS]
    return scores, predictions


def _gaps(measured: int, predicted: int) -> str | None:
    """Why not every measured test row is scored."""
    if measured and not predicted:
        return f"no prediction: none in the reference, or known for fewer than {MIN_TRAINING} training rows"
    return f"{predicted} of {measured} test rows have a prediction" if predicted < measured else None


def _score(method: str, phenotype: str, metric: str, e: Estimate, n: int, *notes: str | None) -> Row:
    return {
        "method": method, "protocol": "probe", "phenotype": phenotype, "metric": metric, "value": e.value, "lo": e.lo,
        "hi": e.hi, "n": n, "label_fraction": 1.0, "subgroup": "all", "note": joined(e.note, *notes),
    }  # fmt: skip


def joined(*notes: str | None) -> str | None:
    """Notes as one text; None when there is none."""
    return "; ".join(n for n in notes if n) or None


def write_scores(path: Path, rows: list[Row], schema: pa.Schema, kind: str, settings: Mapping[str, Any]) -> None:
    """Writes score or prediction rows."""
    write_table(path, pa.Table.from_pylist(rows, schema=schema), kind=kind, version=VERSION, settings=settings)
