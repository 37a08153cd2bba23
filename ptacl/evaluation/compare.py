"""Differences between methods on the same test subjects, with paired intervals: both in the same bootstrap draws."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table
from ptacl.errors import ConfigError
from ptacl.evaluation.retrieval import expected_recall, partner_ranks
from ptacl.evaluation.statistics import MIN_FOR_INTERVAL, MIN_FOR_VALUE, draw_counts, interval, metric_values, moments
from ptacl.evaluation.tables import PREDICTIONS, VERSION, Embeddings, Key

RECALL_K = 10
_DIFFERENCE = dict.fromkeys(("difference", "lo", "hi"), pa.float64())

Predictions = dict[Key, tuple[float, float]]


def compare_regression(predictions: list[Path], baseline: str, settings: Mapping[str, Any]) -> pa.Table:
    """R² of each method less that of `baseline`: method, phenotype, difference, lo, hi.

    predictions: one seed's table per method. Both methods are scored on the rows that both predict. The interval is
    null below 20 subjects, the difference below 3 or where R² is undefined. Raises ConfigError when a method comes
    twice.
    """
    by_method: dict[tuple[str, str], Predictions] = {}
    for path in predictions:
        for r in read_table(path, kind=PREDICTIONS, version=VERSION).to_pylist():
            known = by_method.setdefault((r["method"], r["phenotype"]), {})
            if (r["subject_id"], r["visit"]) in known:
                raise ConfigError(f"compare_regression: {r['method']} comes twice; give one seed of each method")
            known[r["subject_id"], r["visit"]] = r["truth"], r["prediction"]
    rows = []
    for (method, phenotype), ours in by_method.items():
        theirs = by_method.get((baseline, phenotype))
        if method != baseline and theirs:
            rows.append({"method": method, "phenotype": phenotype} | _r2_difference(ours, theirs, settings))
    return pa.Table.from_pylist(rows, schema=pa.schema({"method": pa.string(), "phenotype": pa.string()} | _DIFFERENCE))


def compare_identification(embeddings: Mapping[str, Path], baseline: str, settings: Mapping[str, Any]) -> pa.Table:
    """Recall@10 of each method less that of `baseline`: method, direction, k, difference, lo, hi.

    embeddings: one seed's table per method, all with projections. Queries and gallery are the first visits that both
    have in the test split; queries are resampled, the gallery is fixed.
    """
    tables = {method: _first_test_visits(Embeddings(path)) for method, path in embeddings.items()}
    rows = []
    for method in (m for m in tables if m != baseline):
        common = sorted(tables[method].keys() & tables[baseline].keys())
        for direction, sides in (("ecg_to_cmr", (0, 1)), ("cmr_to_ecg", (1, 0))):
            ours, theirs = (_hits(tables[m], common, sides) for m in (method, baseline))
            found = _mean_difference(ours - theirs, settings)
            rows.append({"method": method, "direction": direction, "k": RECALL_K} | found)
    columns = {"method": pa.string(), "direction": pa.string(), "k": pa.int32()}
    return pa.Table.from_pylist(rows, schema=pa.schema(columns | _DIFFERENCE))


def _r2_difference(ours: Predictions, theirs: Predictions, settings: Mapping[str, Any]) -> dict[str, float | None]:
    keys = sorted(ours.keys() & theirs.keys())
    subjects = [s for s, _ in keys]
    n = len(set(subjects))
    if n < MIN_FOR_VALUE:
        return _difference(float("nan"), None)
    truth = np.array([ours[k][0] for k in keys])
    of_each = [moments(truth, np.array([p[k][1] for k in keys]), subjects) for p in (ours, theirs)]
    a, b = (metric_values(*m, np.ones((1, n)))["r2"][0] for m in of_each)
    if n < MIN_FOR_INTERVAL:
        return _difference(a - b, None)
    counts = draw_counts(n, settings["bootstraps"], settings["seed"])
    drawn_a, drawn_b = (metric_values(*m, counts)["r2"] for m in of_each)
    return _difference(a - b, drawn_a - drawn_b)


def _first_test_visits(table: Embeddings) -> dict[Key, tuple[np.ndarray, np.ndarray]]:
    """ECG and CMR projection of each test subject's first visit."""
    ecg, cmr = table.matrix("ecg_proj"), table.matrix("cmr_proj")
    return {table.keys[i]: (ecg[i], cmr[i]) for i in table.first_visits(np.flatnonzero(table.split == "test"))}


def _hits(
    projections: dict[Key, tuple[np.ndarray, np.ndarray]], keys: list[Key], sides: tuple[int, int]
) -> np.ndarray:  # fmt: skip
    if not keys:
        return np.zeros(0)
    query, gallery = (np.stack([projections[k][side] for k in keys]) for side in sides)
    return expected_recall(*partner_ranks(query, gallery), RECALL_K)


def _mean_difference(differences: np.ndarray, settings: Mapping[str, Any]) -> dict[str, float | None]:
    n = len(differences)
    if n < MIN_FOR_VALUE:
        return _difference(float("nan"), None)
    if n < MIN_FOR_INTERVAL:
        return _difference(differences.mean(), None)
    return _difference(differences.mean(), draw_counts(n, settings["bootstraps"], settings["seed"]) @ differences / n)


def _difference(value: float, drawn: np.ndarray | None) -> dict[str, float | None]:
    lo, hi = interval(drawn) if drawn is not None else (None, None)
    return {"difference": float(value) if np.isfinite(value) else None, "lo": lo, "hi": hi}
