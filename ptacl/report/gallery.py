"""Stage gallery: single ECGs with the patients that were retrieved for them, side by side. Private: it shows individuals."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table, write_bytes
from ptacl.evaluation.neighbours import normalised
from ptacl.evaluation.retrieval import RELEVANT_SD
from ptacl.evaluation.ridge import standardised
from ptacl.report import recordings, words
from ptacl.report.load import EMBEDDINGS, EMBEDDINGS_VERSION
from ptacl.report.pages import render
from ptacl.report.pictures import Sprite
from ptacl.report.recordings import Strip
from ptacl.report.rows import Row, read_rows
from ptacl.store.schema import COHORT_SUBJECTS, PAIRS

FOUND = 5
# What queries are spread over, where enough people have it.
SPREAD_OVER = "LVEF"
CLINICAL = ("age", "sex", "heart_rate_bpm")


@dataclass(frozen=True)
class Value:
    """A number as text, and whether a found patient counts as alike in it."""

    text: str
    alike: bool = False


@dataclass(frozen=True)
class Line:
    """A quantity of the query and of those found, their mean, and the share of everybody who would count as alike."""

    name: str
    query: Value
    found: list[Value]
    mean: str
    by_chance: str


@dataclass(frozen=True)
class Query:
    """One article of the gallery.

    own_place: place of the own cine among all, None where ECGs are compared with ECGs. Of `compared` numbers of those found
    `alike` lie near the query's, and `by_chance` would of people drawn at random.
    """

    name: str
    why: str
    strip: Strip
    own: Sprite
    cines: list[Sprite]
    similarity: list[str]
    own_place: int | None
    lines: list[Line]
    alike: int
    compared: int
    by_chance: float


class Searched:
    """The first visits of the test split: pairs, subjects, unit vectors of queries and of what is searched."""

    def __init__(self, results: Path, embeddings: Path) -> None:
        keys = ("subject_id", "visit")
        pairs = {tuple(p[k] for k in keys): p for p in read_rows(results / "pairs/pairs.parquet", PAIRS)}
        subjects = {
            tuple(s[k] for k in keys): s for s in read_rows(results / "cohort/subjects.parquet", COHORT_SUBJECTS)
        }
        table = read_table(
            embeddings, kind=EMBEDDINGS, version=EMBEDDINGS_VERSION,
            columns=[*keys, "split", "ecg_feature", "ecg_proj", "cmr_proj"],
        )  # fmt: skip
        split = np.array(table["split"].to_pylist())
        at = list(zip(*(table[k].to_pylist() for k in keys), strict=True))
        # Of a person's rows the last one written here is the first visit.
        latest_first = sorted(np.flatnonzero(split == "test").tolist(), key=lambda i: at[i], reverse=True)
        rows = sorted({at[i][0]: i for i in latest_first}.values(), key=lambda i: at[i])
        self.pairs: list[Row] = [pairs[at[i]] for i in rows]
        self.subjects: list[Row] = [subjects[at[i]] for i in rows]
        self.train: list[Row] = [subjects[k] for k, s in zip(at, split, strict=True) if s == "train"]
        self.aligned = table["cmr_proj"].null_count == table["ecg_proj"].null_count == 0
        if self.aligned:
            self.query, self.gallery = (
                _matrix(table[c].take(pa.array(rows, pa.int64()))) for c in ("ecg_proj", "cmr_proj")
            )
        else:
            feature = standardised(_matrix(table["ecg_feature"]), split == "train")[rows]
            self.query = self.gallery = feature
        self.query, self.gallery = normalised(self.query), normalised(self.gallery)


def build_gallery(results: Path, settings: Mapping[str, Any], embeddings: Path, out: Path) -> None:
    """Writes the page of one method and seed: as many queries as asked for, each with the FOUND nearest patients.

    settings: method (its name), queries, targets.
    """
    of = Searched(results, embeddings)
    names = [t for t in settings["targets"] if any(s.get(t) is not None for s in of.subjects)]
    by = _spread_over(of, names, settings["queries"])
    chosen = _chosen(of, by, settings["queries"])
    queries = [_query(of, i, chr(ord("A") + n), why, names, results) for n, (i, why) in enumerate(chosen)]
    page = render(
        "gallery.html.j2",
        title="Patients retrieved for single ECGs",
        scripts=("cine.js",),
        queries=queries,
        people=len(of.pairs),
        aligned=of.aligned,
        method=words.method(settings["method"]),
        found=min(FOUND, max(len(of.pairs) - 1, 0)),
        by=words.label(by) if by else "",
    )
    write_bytes(out, page.encode())


def _spread_over(of: Searched, names: list[str], queries: int) -> str | None:
    """The phenotype that queries are spread over: SPREAD_OVER where as many people have it, else what most have."""
    known = {n: sum(s.get(n) is not None for s in of.subjects) for n in names}
    if known.get(SPREAD_OVER, 0) >= queries:
        return SPREAD_OVER
    return max(known, key=lambda n: known[n], default=None)


def _chosen(of: Searched, by: str | None, queries: int) -> list[tuple[int, str]]:
    """Rows of the queries, spread evenly from the lowest value of `by` to the highest, and why each is shown."""
    n = min(queries, len(of.pairs)) if len(of.pairs) > 1 else 0
    if by is None:
        return [(i, "by the order of the ids") for i in range(n)]
    known = sorted((s[by], i) for i, s in enumerate(of.subjects) if s.get(by) is not None)
    places = np.unique(np.rint(np.linspace(0, len(known) - 1, min(n, len(known)))).astype(int))
    return [(known[p][1], f"{words.label(by)}, place {p + 1} of {len(known)} from the lowest") for p in places.tolist()]


def _query(of: Searched, i: int, name: str, why: str, names: list[str], results: Path) -> Query:
    cosine = of.gallery @ of.query[i]
    order = [j for j in np.argsort(-cosine, kind="stable").tolist() if j != i][:FOUND]
    lines, alike, compared, chance = [], 0, 0, 0.0
    for n in (*names, *CLINICAL):
        everybody = np.array([_number(of, j, n) for j in range(len(of.pairs))])
        train = np.array([s.get(n) for s in of.train], float)
        own, found, known = everybody[i], everybody[order], train[np.isfinite(train)]
        others = np.isfinite(everybody) & (np.arange(len(everybody)) != i)
        near, share = np.zeros(len(everybody), bool), ""
        if n in names and len(known) > 1 and np.isfinite(own) and others.any():
            near = np.abs(everybody - own) <= RELEVANT_SD * known.std()
            share = f"{100 * near[others].mean():.0f} %"
            comparable = int(np.isfinite(found).sum())
            alike, compared = alike + int(near[order].sum()), compared + comparable
            chance += comparable * near[others].mean()
        cells = [Value(_text(n, v), bool(near[j])) for v, j in zip(found, order, strict=True)]
        mean = _text(n, float(np.nanmean(found))) if np.isfinite(found).any() and n != "sex" else ""
        unit = "/min" if n == "heart_rate_bpm" else words.unit(n)
        label = f"{words.label(n)}, {unit}" if unit else words.label(n)
        lines.append(Line(label, Value(_text(n, own)), cells, mean, share))
    return Query(
        name,
        why,
        recordings.strip(results, of.pairs[i]),
        recordings.cine(results, of.pairs[i]),
        [recordings.cine(results, of.pairs[j]) for j in order],
        [words.number(float(cosine[j])) for j in order],
        int((cosine > cosine[i]).sum()) + 1 if of.aligned else None,
        lines,
        alike,
        compared,
        chance,
    )


def _number(of: Searched, i: int, name: str) -> float:
    value = (of.pairs if name == "heart_rate_bpm" else of.subjects)[i].get(name)
    return float("nan") if value is None else float(value)


def _text(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "–"
    if name == "sex":
        return "man" if value == 1 else "woman"
    return words.number(value, 0 if abs(value) >= 20 else 2)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    return np.stack(column.to_numpy()) if len(column) else np.zeros((0, 1), np.float32)
