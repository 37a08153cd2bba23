"""Scores over seeds: means, spread, look-up by what they measure, and the CSV tables."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

REGRESSION_KEY = ("method", "protocol", "phenotype", "metric", "label_fraction", "subgroup")
RETRIEVAL_KEY = ("method", "task", "direction", "phenotype", "metric", "k")
REGRESSION_COLUMNS = (
    "method", "protocol", "phenotype", "metric", "value", "lo", "hi", "n", "label_fraction", "subgroup",
    "seeds", "seed_sd", "note",
)  # fmt: skip
RETRIEVAL_COLUMNS = (
    "method", "task", "direction", "phenotype", "metric", "k", "value", "lo", "hi", "chance", "oracle", "gallery", "n",
    "seeds", "seed_sd", "note",
)  # fmt: skip
_AVERAGED = ("value", "lo", "hi", "chance", "oracle")


def over_seeds(rows: Iterable[Row], key: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row per `key`: the mean over seeds of value, bounds, chance and oracle, with `seeds` and `seed_sd`.

    The bounds are those of each seed's bootstrap, averaged: they hold the uncertainty of the test subjects, and the
    seed-to-seed spread stands beside them as `seed_sd` (sample SD; None with fewer than two seeds).
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(k) for k in key), []).append(row)
    result = []
    for values, members in groups.items():
        averages = {c: _mean([m.get(c) for m in members]) for c in _AVERAGED}
        known = [m["value"] for m in members if _number(m.get("value"))]
        notes = sorted({m["note"] for m in members if m.get("note")})
        result.append(
            dict(zip(key, values, strict=True))
            | averages
            | {c: next((m[c] for m in members if m.get(c) is not None), None) for c in ("n", "gallery")}
            | {
                "seeds": len(known),
                "seed_sd": statistics.stdev(known) if len(known) > 1 else None,
                "note": "; ".join(notes) or None,
            }
        )
    return result


@dataclass(frozen=True)
class Score:
    """One number of the report, over seeds. `value` is None where a statistic needs more subjects (see `note`)."""

    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    n: int | None = None
    seeds: int = 0
    seed_sd: float | None = None
    chance: float | None = None
    oracle: float | None = None
    gallery: int | None = None
    note: str | None = None


class Scores:
    """Scores averaged over seeds, looked up by what they measure; an absent one is `Score()`."""

    def __init__(self, regression: Iterable[Row], retrieval: Iterable[Row]) -> None:
        self.regression = [r for r in over_seeds(regression, REGRESSION_KEY) if r["protocol"] == "probe"]
        self.retrieval = over_seeds(retrieval, RETRIEVAL_KEY)
        whole = [r for r in self.regression if r["subgroup"] in (None, "", "all") and r["label_fraction"] in (None, 1)]
        self._probe = {(r["method"], r["phenotype"], r["metric"]): _score(r) for r in whole}
        self._retrieval = {tuple(r[k] for k in RETRIEVAL_KEY): _score(r) for r in self.retrieval}
        self.regression_methods = list(dict.fromkeys(r["method"] for r in whole))
        self.phenotypes = list(dict.fromkeys(r["phenotype"] for r in whole))

    def probe(self, method: str, phenotype: str, metric: str = "r2") -> Score:
        """A regression score of the frozen-encoder protocol, all labels, everybody."""
        return self._probe.get((method, phenotype, metric), Score())

    def search(
        self, method: str, task: str, direction: str | None, metric: str, k: int | None = None,
        phenotype: str | None = None,
    ) -> Score:  # fmt: skip
        """A retrieval score."""
        return self._retrieval.get((method, task, direction, phenotype, metric, k), Score())

    def values(self, column: str, **where: Any) -> list[Any]:
        """The distinct values of a retrieval column among rows that match, in order of appearance."""
        rows = [r for r in self.retrieval if all(r[c] == v for c, v in where.items())]
        return list(dict.fromkeys(r[column] for r in rows))


def to_csv(rows: Iterable[Row], columns: tuple[str, ...], sort_by: tuple[str, ...]) -> bytes:
    """Rows as CSV, sorted, numbers with six significant digits, absent values empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    order = sorted(rows, key=lambda r: [_sort_key(r.get(c)) for c in sort_by])
    writer.writerows([_cell(r.get(c)) for c in columns] for r in order)
    return text.getvalue().encode()


def _score(row: Row) -> Score:
    return Score(**{name: row[name] for name in Score.__dataclass_fields__})


def _number(value: Any) -> bool:
    return value is not None and value == value


def _mean(values: list[Any]) -> float | None:
    known = [v for v in values if _number(v)]
    return statistics.fmean(known) if known else None


def _sort_key(value: Any) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 1, float(value), ""
    return (0, 0.0, "") if value is None else (2, 0.0, str(value))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
