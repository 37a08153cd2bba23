"""Differences between methods on the same test rows, with paired intervals.

Every method is scored in the same bootstrap draws, so that what varies alike in both cancels. Over several seeds the
difference is that of the means, and its interval that of sampling test subjects with these trainings given; how far single
seeds differ stands beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import stdev
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptacl.artifacts import read_table
from ptacl.evaluation.statistics import (
    MIN_FOR_INTERVAL,
    Draws,
    Resampling,
    holm,
    interval,
    metrics_of,
    moments,
    p_value,
)
from ptacl.evaluation.tables import DIFFERENCES, PREDICTIONS, QUERIES, VERSION, Row, write_rows

CEILINGS = {"ecg": "ceiling_meas", "ecg_phase": "ceiling_meas", "covariates_ecg": "ceiling_meas_covariates"}
# Means over several phenotypes or both directions, named so that no column of a cohort can be meant.
MEAN_OF_TARGETS, MEAN_OF_EXTRA, BOTH_WAYS = "mean_of_targets", "mean_of_extra_targets", "both"


class Entrant(NamedTuple):
    """Who is compared: a method, and for regression the protocol and what it predicts from."""

    method: str
    protocol: str | None = None
    inputs: str | None = None


class Quantity(NamedTuple):
    """What is compared."""

    task: str
    direction: str | None
    phenotype: str | None
    metric: str
    k: int | None


class Values(NamedTuple):
    """A quantity in the study and in every draw, float64 [1 + draws], the number of rows behind it, and which these are."""

    drawn: np.ndarray
    n: int
    rows: bytes


# By entrant, quantity and seed.
Found = dict[Entrant, dict[Quantity, dict[int, Values]]]


def compare(
    predictions: Sequence[tuple[int, Path]], queries: Sequence[tuple[int, Path]], settings: Mapping[str, Any], out: Path
) -> None:
    """Writes tables.DIFFERENCES: of every pair in the settings' `compare`, and from the ceilings.

    predictions, queries: tables with their seeds (0 for reference rows). `settings`: the config's `evaluate`.
    """
    tables = [(s, read_table(p, kind=PREDICTIONS, version=VERSION[PREDICTIONS])) for s, p in predictions]
    found_by_query = [(s, read_table(p, kind=QUERIES, version=VERSION[QUERIES])) for s, p in queries]
    rows = _Rows([t for _, t in [*tables, *found_by_query]], Draws(settings["bootstraps"], settings["seed"]))
    found: Found = {}
    for seed, table in tables:
        _add(found, seed, _of_predictions(table, rows))
    for seed, table in found_by_query:
        _add(found, seed, _of_queries(table, rows))
    write_rows(out, _differences(found, settings, rows), DIFFERENCES, settings)


def seed_of(path: Path) -> int:
    """The seed in the name of a table, `seed3.parquet` or `seed3_finetuned.parquet`; 0 for reference rows."""
    name = path.stem.removesuffix("_finetuned")
    return int(name.removeprefix("seed")) if name.startswith("seed") else 0


class _Rows:
    """All rows that stand in the tables, in order, with their bootstrap draws: the study itself is the first draw."""

    def __init__(self, tables: Sequence[pa.Table], draws: Draws) -> None:
        keys = sorted({k for t in tables for k in _keys(t)})
        self.place = {k: i for i, k in enumerate(keys)}
        self.resampling = Resampling([s for s, _ in keys], draws)
        self.weights = np.vstack([np.ones(len(keys)), self.resampling.weights])

    def columns(self, table: pa.Table, by: Sequence[str], values: Sequence[str]) -> tuple[list[Row], list[np.ndarray]]:
        """Groups of a table by some columns: what each is about, and its values by row, [rows, groups] each, NaN elsewhere."""
        groups = table.group_by([*by], use_threads=False).aggregate([])
        about = groups.to_pylist()
        number = {tuple(a[c] for c in by): i for i, a in enumerate(about)}
        # Few distinct groups: their columns are looked up as tuples.
        group = np.array([number[k] for k in zip(*(table[c].to_pylist() for c in by), strict=True)], int)
        place = np.array([self.place[k] for k in _keys(table)], int)
        filled = []
        for v in values:
            array = np.full((len(self.place), len(about)), np.nan)
            array[place, group] = table[v].to_numpy(zero_copy_only=False)
            filled.append(array)
        return about, filled


def _keys(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True))


Entry = tuple[Entrant, Quantity, Values]


def _values(drawn: np.ndarray, known: np.ndarray) -> Values:
    return Values(drawn, int(known.sum()), np.packbits(known).tobytes())


def _of_predictions(table: pa.Table, rows: _Rows) -> Iterator[Entry]:
    """R² of every fit that used all labels."""
    table = table.filter(pc.equal(table["label_fraction"], 1.0))
    about, (truth, predicted) = rows.columns(
        table, ("method", "protocol", "inputs", "phenotype"), ("truth", "prediction")
    )
    for a, y, p in zip(about, truth.T, predicted.T, strict=True):
        known = np.isfinite(y) & np.isfinite(p)
        drawn = metrics_of(rows.weights[:, known] @ moments(y[known], p[known]))["r2"]
        entrant = Entrant(a["method"], a["protocol"], a["inputs"])
        yield entrant, Quantity("regression", None, a["phenotype"], "r2", None), _values(drawn, known)


def _of_queries(table: pa.Table, rows: _Rows) -> Iterator[Entry]:
    """Means over queries. A median has no mean over queries: ranks are compared by recall and reciprocal rank."""
    table = table.filter(pc.not_equal(table["metric"], "median_rank"))
    about, (values,) = rows.columns(table, ("method", "task", "direction", "phenotype", "metric", "k"), ("value",))
    known = np.isfinite(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (rows.weights @ np.where(known, values, 0.0)) / (rows.weights @ known.astype(float))
    for a, d, k in zip(about, drawn.T, known.T, strict=True):
        quantity = Quantity(a["task"], a["direction"], a["phenotype"], a["metric"], a["k"])
        yield Entrant(a["method"]), quantity, _values(d, k)


def _add(found: Found, seed: int, entries: Iterator[Entry]) -> None:
    for entrant, quantity, values in entries:
        found.setdefault(entrant, {}).setdefault(quantity, {})[seed] = values


def _both(
    ours: dict[Quantity, dict[int, Values]], theirs: dict[Quantity, dict[int, Values]], settings: Mapping[str, Any]
) -> tuple[dict[Quantity, dict[int, Values]], dict[Quantity, dict[int, Values]]]:
    """The quantities that both have, in order, and means over these: a ceiling may be known of some phenotypes only."""
    common = sorted(ours.keys() & theirs.keys(), key=str)
    of_ours, of_theirs = {q: ours[q] for q in common}, {q: theirs[q] for q in common}
    _add_means(of_ours, settings)
    _add_means(of_theirs, settings)
    return of_ours, of_theirs


def _add_means(found: dict[Quantity, dict[int, Values]], settings: Mapping[str, Any]) -> None:
    """Means over all targets, over all extra targets, and over both directions, where there is more than one."""
    members: dict[Quantity, list[Quantity]] = {}
    for q in found:
        for name, wanted in ((MEAN_OF_TARGETS, "targets"), (MEAN_OF_EXTRA, "extra_targets")):
            if q.phenotype in settings[wanted] and q.metric in ("r2", "precision"):
                members.setdefault(q._replace(phenotype=name), []).append(q)
        if q.task in ("identification", "phase"):
            members.setdefault(q._replace(direction=BOTH_WAYS), []).append(q)
    for mean, of in members.items():
        seeds = set.intersection(*(set(found[q]) for q in of))
        if len(of) > 1 and seeds:
            found[mean] = {s: _mean([found[q][s] for q in sorted(of, key=str)]) for s in sorted(seeds)}


def _mean(values: Sequence[Values]) -> Values:
    drawn = np.mean([v.drawn for v in values], axis=0)
    return Values(drawn, min(v.n for v in values), b"".join(v.rows for v in values))


def _differences(found: Found, settings: Mapping[str, Any], rows: _Rows) -> list[Row]:
    table: list[Row] = []
    for method, baseline in settings["compare"]:
        of_pair: list[Row] = []
        for entrant in sorted((e for e in found if e.method == method), key=str):
            pair = _both(found[entrant], found.get(entrant._replace(method=baseline), {}), settings)
            for q in sorted(pair[0].keys() & pair[1].keys(), key=str):
                seeds = pair[0][q].keys() & pair[1][q].keys()
                if not seeds:
                    continue
                ours, theirs = ([of[q][s] for s in sorted(seeds)] for of in pair)
                if _of_the_same_rows(ours, theirs):
                    of_pair.append(_row(entrant, baseline, q, "difference", ours, theirs, rows))
        p = [r["p"] for r in of_pair if r["p"] is not None]
        for r, corrected in zip((r for r in of_pair if r["p"] is not None), holm(p), strict=True):
            r["p_holm"] = corrected
        table += of_pair
    for entrant in sorted(found, key=str):
        ceiling = CEILINGS.get(entrant.inputs or "", "")
        reference = next((e for e in found if e.method == ceiling), None)
        if reference is None or entrant.method.startswith("ceiling_"):
            continue
        pair = _both(found[entrant], found[reference], settings)
        for q in sorted(pair[0].keys() & pair[1].keys(), key=str):
            ours = list(pair[0][q].values())
            theirs = list(pair[1][q].values()) * len(ours)
            if _of_the_same_rows(ours, theirs):
                table.append(_row(entrant, ceiling, q, "share", ours, theirs, rows))
    return table


def _of_the_same_rows(ours: Sequence[Values], theirs: Sequence[Values]) -> bool:
    """A table of reference predictions may name some people only: what it reaches on them compares with nothing else."""
    return len({v.rows for v in [*ours, *theirs]}) == 1


def _row(
    entrant: Entrant, baseline: str, quantity: Quantity, kind: str, ours: Sequence[Values], theirs: Sequence[Values],
    rows: _Rows,
) -> Row:  # fmt: skip
    """Our values less theirs, or as a share of theirs, seed by seed."""
    a, b = (np.array([v.drawn for v in of]) for of in (ours, theirs))
    # The mean over seeds; a share of the mean rather than a mean of shares, which a small denominator would rule.
    with np.errstate(divide="ignore", invalid="ignore"):
        of_seeds = a - b if kind == "difference" else a / b
        whole = of_seeds.mean(0) if kind == "difference" else a.mean(0) / b.mean(0)
    n = min(v.n for v in [*ours, *theirs])
    enough = np.isfinite(whole[0]) and n >= MIN_FOR_INTERVAL
    lo, hi = interval(whole[1:]) if enough else (None, None)
    single = of_seeds[:, 0]
    spread = len(single) > 1 and np.isfinite(single).all()
    return {
        **entrant._asdict(), "baseline": baseline, **quantity._asdict(), "kind": kind,
        "value": float(whole[0]) if np.isfinite(whole[0]) else None, "lo": lo, "hi": hi,
        "p": p_value(whole[0], whole[1:]) if enough and kind == "difference" else None, "p_holm": None, "n": n,
        "seeds": len(single), "seed_sd": stdev(single.tolist()) if spread else None,
    }  # fmt: skip
