"""Retrieval: is the own partner found, and are those found alike?

Intervals resample queries with the gallery fixed. Ties are broken so that they favour nobody: identification takes the
expectation over the tied places, phenotype similarity the order of the gallery.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ptacl.evaluation import neighbours
from ptacl.evaluation.neighbours import normalised
from ptacl.evaluation.statistics import Estimate, Resampling, mean_estimates, median_estimate
from ptacl.evaluation.tables import Row

IDENTIFICATION_K, PHENOTYPE_K, FIRST = (1, 5, 10), (1, 3, 5, 10), 10
RELEVANT_SD = 0.5
# What of the similarity of phenotypes is kept for every query.
COMPARED = {("precision", FIRST), ("abs_difference", FIRST)}
# Cosines closer than this are equal: they differ by the order in which they were summed.
TIE = 1e-12

# What retrieval found for the queries: columns of tables.QUERIES, and the numbers of the queries' rows as `rows`.
Queries = dict[str, Any]


@dataclass(frozen=True)
class Gallery:
    """The rows that are searched and searched for: those of one split, `person` by row, in the draws of `resampling`."""

    resampling: Resampling

    @property
    def person(self) -> np.ndarray:
        """Number of the person behind each row."""
        return self.resampling.person

    @property
    def first_visits(self) -> np.ndarray:
        """Numbers of each person's first row; rows are in the order of person and visit."""
        return np.unique(self.person, return_index=True)[1]


def identification(
    query: np.ndarray, gallery: np.ndarray, direction: str, of: Gallery, exact_up_to: int = neighbours.EXACT_UP_TO
) -> tuple[list[Row], list[Queries]]:
    """Is row i of the gallery [n, D] found from row i of the queries [n, D]? First visits only."""
    rows = of.first_visits
    q, g, n = normalised(query[rows]), normalised(gallery[rows]), len(rows)
    table: list[Row] = []
    queries: list[Queries] = []

    def add(metric: str, k: int | None, value: np.ndarray, chance: float, oracle: float, median: bool = False) -> None:
        if median:
            estimate = median_estimate(value, rows, of.resampling)
        else:
            (estimate,) = mean_estimates(value[:, None], rows, of.resampling)
        table.append(_row("identification", direction, None, metric, k, estimate, chance, oracle, n, n))
        queries.append(_queries("identification", direction, None, metric, k, rows, value))

    if n > exact_up_to:
        nobody = np.full(n, -1)
        found, recall = neighbours.approximate(q, g, nobody, np.arange(n), max(IDENTIFICATION_K))
        for k in IDENTIFICATION_K:
            add("recall", k, (found[:, :k] == np.arange(n)[:, None]).any(1).astype(float), k / n, 1.0)
        note = f"not known: only the first {FIRST} of {n:,} were searched for, and {recall:.1%} of them found"
        for metric in ("median_rank", "mrr"):
            unknown = Estimate(None, None, None, note)
            table.append(_row("identification", direction, None, metric, None, unknown, None, 1.0, n, n))
        return table, queries
    better, tied = _places_of_partner(q, g)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
    for k in IDENTIFICATION_K:
        hit = np.clip((k - better) / np.maximum(tied, 1), 0, 1).astype(float)
        add("recall", k, hit, min(1, k / max(n, 1)), 1.0)
    add("median_rank", None, better + (tied + 1) / 2, (n + 1) / 2, 1.0, median=True)
    reciprocal = (harmonic[better + tied] - harmonic[better]) / np.maximum(tied, 1)
    add("mrr", None, reciprocal, float(harmonic[-1] / max(n, 1)), 1.0)
    return table, queries


def _places_of_partner(query: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of the gallery are nearer than the partner of each query, and how many as near, itself included."""
    better, tied = np.zeros(len(query), int), np.zeros(len(query), int)
    for first in range(0, len(query), neighbours.BLOCK):
        block = slice(first, min(first + neighbours.BLOCK, len(query)))
        similarity = query[block] @ gallery.T
        own = similarity[np.arange(len(similarity)), np.arange(block.start, block.stop)][:, None]
        better[block], tied[block] = (similarity > own + TIE).sum(1), (np.abs(similarity - own) <= TIE).sum(1)
    return better, tied


@dataclass(frozen=True)
class Phenotype:
    """A phenotype of a gallery, and what a blind and a perfect search would find.

    values: [rows], NaN where unknown. sd: of the training split. others: size of each row's gallery, its own person left
    out. place: of each row among the sorted values; by_place: the rows in this order. Relevant to a row are those from
    place `low` up to `high`, its own person included; `relevant` counts the others. ideal: discounted gain of a perfect
    search. chance, oracle: [rows] by (metric, k).
    """

    name: str
    values: np.ndarray
    sd: float
    others: np.ndarray
    place: np.ndarray
    by_place: np.ndarray
    low: np.ndarray
    high: np.ndarray
    relevant: np.ndarray
    ideal: np.ndarray
    chance: Mapping[tuple[str, int | None], np.ndarray]
    oracle: Mapping[tuple[str, int | None], np.ndarray]

    @property
    def known(self) -> np.ndarray:
        """Numbers of the rows whose value is known."""
        return np.flatnonzero(np.isfinite(self.values))

    @property
    def usable(self) -> bool:
        """Whether there is anything to find."""
        return bool(np.isfinite(self.sd) and self.sd > 0 and len(self.known) > 1)

    @property
    def ks(self) -> tuple[int, ...]:
        """The numbers of neighbours that every query has."""
        return tuple(k for k in PHENOTYPE_K if k <= self.others[self.known].min(initial=len(self.values)))


def phenotype(name: str, values: np.ndarray, sd: float, of: Gallery) -> Phenotype:
    """What is to be found of a phenotype, values [rows]. Relevant: within half a training-split SD."""
    n = len(values)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    v, person, m = values[order], of.person[order], len(order)
    scale = sd if np.isfinite(sd) and sd > 0 else 1.0
    low = np.searchsorted(v, v - RELEVANT_SD * scale).astype(np.int32)
    high = np.searchsorted(v, v + RELEVANT_SD * scale, side="right").astype(np.int32)
    # Sums over everybody, from the sorted values; then what the own person adds is taken away.
    place, z, sums = (
        np.arange(m, dtype=np.int32),
        (v - v.mean() if m else v) / scale,
        np.concatenate([[0.0], np.cumsum(v)]),
    )
    others, relevant = np.full(m, m), (high - low).astype(float)
    distance = v * (2 * place - m) + sums[-1] - 2 * sums[:-1]
    gain = _gains_below(z) + _gains_below(-z[::-1])[::-1] - 1
    for i, j in _same_person(person):
        others[i] -= 1
        relevant[i] -= low[i] <= j < high[i]
        distance[i] -= abs(v[i] - v[j])
        gain[i] -= np.exp(-abs(v[i] - v[j]) / scale)
    nearest = _nearest(v, person)
    chance: dict[tuple[str, int | None], np.ndarray] = {}
    oracle: dict[tuple[str, int | None], np.ndarray] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        some = np.where(relevant > 0, relevant, np.nan)
        one = some / some
        for k in PHENOTYPE_K:
            chance["precision", k], oracle["precision", k] = relevant / others, np.minimum(relevant, k) / k
            chance["recall", k], oracle["recall", k] = k / others * one, np.minimum(relevant, k) / some
            chance["abs_difference", k], oracle["abs_difference", k] = distance / others, nearest[:, :k].mean(1)
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, m + 1))])[others] / others
        # Expectation of the average precision under a random order.
        chance["map", None] = ((some - 1) / np.maximum(others - 1, 1) * (1 - harmonic) + harmonic) * one
        oracle["map", None] = one
        ideal = np.exp(-nearest / scale) @ _DISCOUNT
        chance["ndcg", FIRST] = gain / others * _DISCOUNT.sum() / ideal
        oracle["ndcg", FIRST] = np.ones(m)

    def by_row(x: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
        full = np.full(n, otherwise, x.dtype)
        full[order] = x
        return full

    return Phenotype(
        name, values, sd, by_row(others, 0), by_row(place, -1), order, by_row(low, 0), by_row(high, 0), by_row(relevant),
        by_row(ideal),
        {key: by_row(x) for key, x in chance.items()}, {key: by_row(x) for key, x in oracle.items()},
    )  # fmt: skip


_DISCOUNT = 1 / np.log2(np.arange(FIRST) + 2)


def _gains_below(z: np.ndarray) -> np.ndarray:
    """For ascending z, the sum of exp(-|z_i - z_j|) over j <= i. From neighbour to neighbour: exp(z) itself would overflow."""
    sums, step = np.ones(len(z)), np.exp(-np.diff(z))
    for i in range(1, len(z)):
        sums[i] += sums[i - 1] * step[i - 1]
    return sums


def _same_person(person: np.ndarray) -> list[tuple[int, int]]:
    """All ordered pairs of places with the same person, each with itself included."""
    places: dict[int, list[int]] = {}
    for i, p in enumerate(person.tolist()):
        places.setdefault(p, []).append(i)
    return [(i, j) for group in places.values() for i in group for j in group]


def _nearest(v: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The smallest differences of sorted values to those of other people, ascending: [n, FIRST], infinite where too few."""
    reach = FIRST + int(np.bincount(person).max(initial=1))
    around = np.arange(len(v))[:, None] + np.arange(-reach, reach + 1)
    inside = np.clip(around, 0, max(len(v) - 1, 0))
    other = (around == inside) & (person[inside] != person[:, None])
    return np.sort(np.where(other, np.abs(v[inside] - v[:, None]), np.inf), axis=1)[:, :FIRST]


def phenotype_similarity(
    query: np.ndarray,
    gallery: np.ndarray,
    phenotypes: list[Phenotype],
    direction: str,
    of: Gallery,
    exact_up_to: int = neighbours.EXACT_UP_TO,
) -> tuple[list[Row], list[Queries]]:
    """Have the nearest of the gallery a similar phenotype? Rows of query and gallery [n, D] are the same visits.

    Everything of the query's own person is left out of the gallery, and for each phenotype those in whom it is unknown.
    """
    q, g, person, n = normalised(query), normalised(gallery), of.person, len(query)
    usable = [p for p in phenotypes if p.usable]
    values = {p.name: {key: np.full(n, np.nan) for key in p.chance} for p in usable}
    recall = None
    if n <= exact_up_to:
        for block, order in neighbours.ordered(q, g, person, person):
            for p in usable:
                _score_block(p, block, order, values[p.name])
    else:
        for p in usable:
            known = p.known
            found, recall = neighbours.approximate(q[known], g[known], person[known], person[known], FIRST)
            _score_first(p, known, known[found], found >= 0, values[p.name])
    table: list[Row] = []
    queries: list[Queries] = []
    keys = [(p, key) for p in usable for key in p.chance if key[1] is None or key[1] in p.ks]
    every = np.stack([values[p.name][key] for p, key in keys], 1) if keys else np.zeros((n, 0))
    for p in phenotypes:
        if not p.usable:
            note = f"{len(p.known)} rows, training SD {p.sd:.3g}; at least two rows and a spread are needed"
            nothing = Estimate(None, None, None, note)
            table.append(_row("phenotype", direction, p.name, "map", None, nothing, None, None, 0, len(p.known)))
    for (p, (metric, k)), value, e in zip(
        keys, every.T, mean_estimates(every, np.arange(n), of.resampling), strict=True
    ):
        known, size = p.known, int(round(p.others[p.known].mean()))
        if metric == "map" and recall is not None:
            note = f"not known: only the first {FIRST} of {size:,} were searched for, and {recall:.1%} of them found"
            e = Estimate(None, None, None, note)
        chance, oracle = _mean(p.chance[metric, k]), _mean(p.oracle[metric, k])
        n_scored = int(np.isfinite(value).sum())
        table.append(_row("phenotype", direction, p.name, metric, k, e, chance, oracle, size, n_scored))
        if (metric, k) in COMPARED:
            queries.append(_queries("phenotype", direction, p.name, metric, k, known, value[known]))
    return table, queries


Values = Mapping[tuple[str, int | None], np.ndarray]


def _score_block(p: Phenotype, block: slice, order: np.ndarray, values: Values) -> None:
    """Fills in every metric for a block of queries from their whole galleries in order, int [block, n]."""
    rows = np.arange(block.start, block.stop)
    inside = p.place[rows] >= 0
    rows, order = rows[inside], order[inside]
    if not len(rows):
        return
    place = p.place[order]
    if len(p.known) < len(p.values):
        place = place[place >= 0].reshape(len(rows), -1)
    relevant = (place >= p.low[rows, None]) & (place < p.high[rows, None])
    rank = np.arange(1.0, relevant.shape[1] + 1)
    inverse = 1 / rank
    for i, others in enumerate(p.others[rows].tolist()):
        relevant[i, others:] = False  # their own person comes last
        hits = relevant[i].nonzero()[0]
        found = len(hits)
        # The precision at every hit.
        values["map", None][rows[i]] = rank[:found] @ inverse.take(hits) / found if found else np.nan
    first = p.by_place[place[:, :FIRST]]
    _score_first(p, rows, first, np.ones_like(first, bool), values, relevant[:, :FIRST])


def _score_first(
    p: Phenotype,
    rows: np.ndarray,
    first: np.ndarray,
    there: np.ndarray,
    values: Values,
    relevant: np.ndarray | None = None,
) -> None:
    """Fills in what the first of the gallery tell: rows `first` [queries, <= FIRST] of the gallery, where `there`."""
    place = p.place[first]
    if relevant is None:
        relevant = (place >= p.low[rows, None]) & (place < p.high[rows, None]) & there
    difference = np.where(there, np.abs(p.values[first] - p.values[rows, None]), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in p.ks:
            hits = relevant[:, :k].sum(1)
            values["precision", k][rows] = hits / k
            values["recall", k][rows] = hits / np.where(p.relevant[rows] > 0, p.relevant[rows], np.nan)
            values["abs_difference", k][rows] = difference[:, :k].mean(1)
        if FIRST in p.ks:
            gain = np.exp(-difference / p.sd) @ _DISCOUNT
            values["ndcg", FIRST][rows] = gain / p.ideal[rows]


def _queries(
    task: str, direction: str, phenotype: str | None, metric: str, k: int | None, rows: np.ndarray, value: np.ndarray
) -> Queries:
    return {
        "task": task, "direction": direction, "phenotype": phenotype, "metric": metric, "k": k, "rows": rows,
        "value": value,
    }  # fmt: skip


def _row(
    task: str, direction: str, phenotype: str | None, metric: str, k: int | None, estimate: Estimate,
    chance: float | None, oracle: float | None, gallery: int, n: int,
) -> Row:  # fmt: skip
    return {
        "task": task, "direction": direction, "phenotype": phenotype, "metric": metric, "k": k, **asdict(estimate),
        "chance": chance, "oracle": oracle, "gallery": gallery, "n": n,
    }  # fmt: skip


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
