"""Schemas of scores and predictions, and the targets of a study as arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table, write_table
from ptacl.errors import ArtifactError
from ptacl.evaluation.statistics import regression_metrics

REGRESSION, RETRIEVAL, PREDICTIONS, VERSION = "regression", "retrieval", "predictions", 1
SUBJECTS, SUBJECTS_VERSION = "cohort_subjects", 2

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


class Targets:
    """Phenotypes and covariates of given (subject, visit) rows, NaN where missing."""

    def __init__(self, subjects: Path, keys: Sequence[tuple[str, int]], settings: Mapping[str, Any]) -> None:
        table = read_table(subjects, kind=SUBJECTS, version=SUBJECTS_VERSION)
        place = {
            key: i
            for i, key in enumerate(zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True))
        }
        unknown = sum(k not in place for k in keys)
        if unknown:  # counted, not named: an id must not reach a log
            raise ArtifactError(f"{unknown} rows are not in the cohort's subjects.parquet; run pairs and embed again")
        self._rows = [place[k] for k in keys]
        self._table = table
        wanted = [*settings["targets"], *settings["extra_targets"]]
        self.names = [n for n in wanted if n in table.column_names and np.isfinite(self.column(n)).any()]
        self.missing = [n for n in settings["targets"] if n not in self.names]
        self.values = np.stack([self.column(n) for n in self.names], 1) if self.names else np.zeros((len(keys), 0))

    def column(self, name: str) -> np.ndarray:
        """One column of the cohort table for the rows, float64; all NaN where there is no such column."""
        if name not in self._table.column_names:
            return np.full(len(self._rows), np.nan)
        values = self._table[name].to_numpy(zero_copy_only=False).astype(np.float64)
        return values[self._rows]


def score_regression(
    method: str, keys: Sequence[tuple[str, int]], targets: Targets, predicted: np.ndarray, test: np.ndarray,
    settings: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Score rows and prediction rows of one method on the test rows (bool [n])."""
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for j, name in enumerate(targets.names):
        truth = targets.values[:, j]
        rows = np.flatnonzero(test & np.isfinite(truth) & np.isfinite(predicted[:, j])).tolist()
        who = [keys[i][0] for i in rows]
        found = regression_metrics(
            truth[rows], predicted[rows, j], who, settings["bootstraps"], settings["seed"]
        )  # fmt: skip
        for metric, e in found.items():
            scores.append(_score(method, name, metric, e.value, e.lo, e.hi, len(rows), e.note))
        predictions += [
            {
                "method": method, "subject_id": keys[i][0], "visit": keys[i][1], "phenotype": name,
                "truth": float(truth[i]), "prediction": float(predicted[i, j]),
            }
            for i in rows
        ]  # fmt: skip
    for name in targets.missing:
        scores.append(_score(method, name, "r2", None, None, None, 0, "no value of this phenotype in the cohort"))
    return scores, predictions


def _score(
    method: str, phenotype: str, metric: str, value: float | None, lo: float | None, hi: float | None, n: int,
    note: str | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "method": method, "protocol": "probe", "phenotype": phenotype, "metric": metric, "value": value, "lo": lo,
        "hi": hi, "n": n, "label_fraction": 1.0, "subgroup": "all", "note": note,
    }  # fmt: skip


def write_scores(
    path: Path, rows: list[dict[str, Any]], schema: pa.Schema, kind: str, settings: Mapping[str, Any]
) -> None:
    """Writes score or prediction rows."""
    write_table(path, pa.Table.from_pylist(rows, schema=schema), kind=kind, version=VERSION, settings=settings)
