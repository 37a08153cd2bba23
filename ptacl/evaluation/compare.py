"""Differences between methods on the same test subjects, with paired intervals."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table
from ptacl.evaluation.statistics import MIN_FOR_INTERVAL, interval, metric_values, row_weights
from ptacl.evaluation.tables import PREDICTIONS, VERSION

Predictions = dict[tuple[str, int], tuple[float, float]]


def compare_regression(predictions: list[Path], baseline: str, settings: Mapping[str, Any]) -> pa.Table:
    """R² of each method less that of `baseline`: method, phenotype, difference, lo, hi.

    Both are scored on the subjects both predict, in the same bootstrap draws. Interval null below 20 subjects.
    """
    by_method: dict[tuple[str, str], Predictions] = {}
    for path in predictions:
        for r in read_table(path, kind=PREDICTIONS, version=VERSION).to_pylist():
            known = by_method.setdefault((r["method"], r["phenotype"]), {})
            known[r["subject_id"], r["visit"]] = r["truth"], r["prediction"]
    rows = []
    for (method, phenotype), ours in by_method.items():
        theirs = by_method.get((baseline, phenotype))
        if method != baseline and theirs:
            rows.append({"method": method, "phenotype": phenotype, **_difference(ours, theirs, settings)})
    schema = pa.schema(
        {"method": pa.string(), "phenotype": pa.string()} | dict.fromkeys(("difference", "lo", "hi"), pa.float64())
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _difference(ours: Predictions, theirs: Predictions, settings: Mapping[str, Any]) -> dict[str, float | None]:
    keys = sorted(ours.keys() & theirs.keys())
    subjects = [s for s, _ in keys]
    if len(set(subjects)) < MIN_FOR_INTERVAL:
        return {"difference": None, "lo": None, "hi": None}
    truth = np.array([ours[k][0] for k in keys])
    weights = np.vstack([np.ones(len(keys)), row_weights(subjects, settings["bootstraps"], settings["seed"])])
    a, b = (metric_values(truth, np.array([p[k][1] for k in keys]), weights)["r2"] for p in (ours, theirs))
    lo, hi = interval((a - b)[1:])
    return {"difference": float(a[0] - b[0]), "lo": lo, "hi": hi}
