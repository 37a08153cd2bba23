"""Identification, similarity and phase alignment against loops over full matrices; enumerated chance and oracle."""

import itertools

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, ndcg_score

from ptacl.errors import PtaclError
from ptacl.evaluation import neighbours
from ptacl.evaluation.alignment import OTHERS, phase_alignment
from ptacl.evaluation.retrieval import Gallery, _score_block, identification, phenotype, phenotype_similarity
from ptacl.evaluation.statistics import Draws, Resampling

KS = (1, 3, 5, 10)


def named(n: int) -> list[str]:
    return [f"S{i:04d}" for i in range(n)]


def gallery(who: list[str]) -> Gallery:
    return Gallery(Resampling(who, Draws(100, 0)))


def by(rows: list[dict], **keys) -> dict:
    return next(r for r in rows if all(r[k] == v for k, v in keys.items()))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def identified(q: np.ndarray, g: np.ndarray, who: list[str], **options) -> list[dict]:
    return identification(q, g, "ecg_to_cmr", gallery(who), **options)[0]


def similar(q: np.ndarray, g: np.ndarray, who: list[str], y: np.ndarray, sd: float, **options) -> list[dict]:
    of = gallery(who)
    return phenotype_similarity(q, g, [phenotype("x", y, sd, of)], "d", of, **options)[0]


# Identification


def naive_ranks(q: np.ndarray, g: np.ndarray) -> np.ndarray:
    cosine = unit(q) @ unit(g).T
    return np.array([1 + sum(cosine[i, j] > cosine[i, i] for j in range(len(g))) for i in range(len(q))])


def test_identification_agrees_with_a_loop_and_chance_with_simulation() -> None:
    rng, n = np.random.default_rng(0), 150  # more than one block of queries
    q = rng.normal(size=(n, 6))
    g = q + rng.normal(size=(n, 6))
    ranks, rows = naive_ranks(q, g), identified(q, g, named(n))
    for k in (1, 5, 10):
        row = by(rows, metric="recall", k=k)
        assert row["value"] == pytest.approx((ranks <= k).mean())
        assert row["chance"] == pytest.approx(k / n) and row["lo"] <= row["value"] <= row["hi"]
    assert by(rows, metric="median_rank")["value"] == np.median(ranks)
    assert by(rows, metric="mrr")["value"] == pytest.approx((1 / ranks).mean())
    random = [(1 / naive_ranks(rng.normal(size=(n, 4)), rng.normal(size=(n, 4)))).mean() for _ in range(40)]
    assert by(rows, metric="mrr")["chance"] == pytest.approx(np.mean(random), rel=0.1)


def test_what_is_found_is_kept_for_every_query_of_a_first_visit() -> None:
    rng, who = np.random.default_rng(1), sorted([*named(20), *named(6)])
    x = rng.normal(size=(26, 5))
    rows, queries = identification(x, x, "ecg_to_cmr", gallery(who))
    assert by(rows, metric="recall", k=1)["gallery"] == 20
    first = [i for i in range(26) if who.index(who[i]) == i]
    for q in queries:
        assert q["rows"].tolist() == first
        row = by(rows, metric=q["metric"], k=q["k"])
        middle = np.median(q["value"]) if q["metric"] == "median_rank" else q["value"].mean()
        assert row["value"] == pytest.approx(middle)


def test_collapsed_embeddings_are_at_chance_not_perfect() -> None:
    for row in identified(np.ones((50, 4)), np.ones((50, 4)), named(50)):
        assert row["value"] == pytest.approx(row["chance"])


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_embeddings_that_are_not_finite_or_zero_are_found_by_chance_only(broken: float) -> None:
    x = np.full((40, 6), broken)
    for row in identified(x, x, named(40)):
        assert row["value"] == pytest.approx(row["chance"])


def test_equal_directions_tie_whatever_the_rounding_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 37)) * rng.uniform(0.1, 10, (300, 1))
    for row in identified(x, x[::-1], named(300)):
        assert row["value"] == pytest.approx(row["chance"])


# Similarity of phenotypes


def naive_similarity(q: np.ndarray, g: np.ndarray, who: list[str], y: np.ndarray, sd: float) -> dict:
    """Values by measure, one for each query that has one, with chance and oracle over the same galleries."""
    cosine, expected = unit(q) @ unit(g).T, {}
    for i in np.flatnonzero(np.isfinite(y)):
        others = [j for j in range(len(who)) if who[j] != who[i] and np.isfinite(y[j])]
        score, d = cosine[i, others], np.abs(y[others] - y[i])
        top, relevant, near = np.argsort(-score, kind="stable"), d <= 0.5 * sd, np.sort(d)
        gain = np.exp(-d / sd)
        discount = 1 / np.log2(np.arange(10) + 2)
        ideal = (np.exp(-near[:10] / sd) * discount).sum()
        of = {("ndcg", 10): (ndcg_score([gain], [score], k=10), gain.mean() * discount.sum() / ideal, 1.0)}
        n, m = len(others), relevant.sum()
        for k in KS:
            of["precision", k] = relevant[top[:k]].mean(), m / n, min(m, k) / k
            of["abs_difference", k] = d[top[:k]].mean(), d.mean(), near[:k].mean()
            if m:
                of["recall", k] = relevant[top[:k]].sum() / m, k / n, min(m, k) / m
        if m:
            harmonic = (1 / np.arange(1, n + 1)).sum() / n
            chance = (m - 1) / (n - 1) * (1 - harmonic) + harmonic
            of["map", None] = average_precision_score(relevant, score), chance, 1.0
        for measure, value in of.items():
            expected.setdefault(measure, []).append(value)
    return expected


@pytest.mark.parametrize("seed", [2, 3])
def test_all_measures_are_those_of_loops_with_repeat_visits_and_missing_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    who = sorted([*named(90), *named(30), *named(5)])
    n, sd = len(who), 20.0
    q, g, y = rng.normal(size=(n, 5)), rng.normal(size=(n, 5)), rng.normal(100, sd, n)
    y[rng.random(n) < 0.2] = np.nan
    y[4] = 500.0  # nobody is like this one: no query for recall and mAP
    rows, expected = similar(q, g, who, y, sd), naive_similarity(q, g, who, y, sd)
    assert {(r["metric"], r["k"]) for r in rows} == expected.keys()
    for (metric, k), values in expected.items():
        row = by(rows, metric=metric, k=k)
        found = [row["value"], row["chance"], row["oracle"]]
        assert found == pytest.approx(np.mean(values, axis=0).tolist(), abs=1e-6), (metric, k)
        assert row["n"] == len(values), (metric, k)


def test_chance_is_the_mean_and_oracle_the_best_of_all_orders_of_the_gallery() -> None:
    y, found = np.array([0.0, 0.1, 0.4, 0.7, 2.0, -0.45]), {}
    p = phenotype("x", y, 1.0, gallery(named(6)))
    for order in itertools.permutations(range(1, 6)):
        values = {key: np.full(6, np.nan) for key in p.chance}
        _score_block(p, slice(0, 1), np.array([[*order, 0]]), values)
        for key, v in values.items():
            if np.isfinite(v[0]):
                found.setdefault(key, []).append(v[0])
    assert len(found) == 10  # k = 1, 3, 5 of three measures, and mAP
    for key, values in found.items():
        best = min(values) if key[0] == "abs_difference" else max(values)
        assert (p.chance[key][0], p.oracle[key][0]) == pytest.approx((np.mean(values), best)), key


def test_by_chance_276_of_1000_are_relevant_for_a_gaussian_phenotype() -> None:
    assert 2 * norm.cdf(0.5 / np.sqrt(2)) - 1 == pytest.approx(0.276, abs=5e-4)
    n = 600
    y, x = norm.ppf((np.arange(n) + 0.5) / n), np.ones((n, 2))
    assert by(similar(x, x, named(n), y, 1.0), metric="precision", k=1)["chance"] == pytest.approx(0.276, abs=2e-3)


def test_a_perfect_order_reaches_the_oracle() -> None:
    n = 300
    y = np.random.default_rng(4).normal(size=n)
    angle = (y - y.min()) / np.ptp(y) * 2
    near = np.stack([np.cos(angle), np.sin(angle)], 1)
    rows = similar(near, near, named(n), y, y.std())
    for metric, k in (("precision", 5), ("abs_difference", 5), ("ndcg", 10)):
        row = by(rows, metric=metric, k=k)
        assert row["value"] == pytest.approx(row["oracle"], rel=1e-6), metric


def test_ties_are_broken_by_the_order_of_the_gallery() -> None:
    x, y = np.ones((30, 3)), np.arange(30.0)
    of = gallery(named(30))
    _, queries = phenotype_similarity(x, x, [phenotype("x", y, 10.0, of)], "d", of)
    value = by(queries, metric="abs_difference", k=10)["value"]
    assert value[0] == pytest.approx(np.arange(1, 11).mean()) and value[29] == pytest.approx(
        (29 - np.arange(10)).mean()
    )


def test_the_own_other_visit_is_not_found_as_a_similar_patient() -> None:
    x = np.random.default_rng(5).normal(size=(30, 4))
    x[1] = x[0]
    y = np.arange(30.0)
    y[1] = y[0]
    assert by(similar(x, x, ["A", "A", *named(28)], y, 0.01), metric="precision", k=1)["value"] == 0


@pytest.mark.parametrize("y", [np.full(30, np.nan), np.r_[1.0, np.full(29, np.nan)], np.ones(30)])
def test_a_phenotype_without_anything_to_find_has_a_note(y: np.ndarray) -> None:
    x = np.random.default_rng(5).normal(size=(30, 4))
    known = y[np.isfinite(y)]
    (row,) = similar(x, x, named(30), y, float(known.std()) if len(known) > 1 else float("nan"))
    assert row["value"] is None and "at least two rows and a spread" in row["note"]


# Galleries too large to be ordered in full


def test_an_approximate_search_says_what_it_misses_and_leaves_the_own_person_out() -> None:
    rng = np.random.default_rng(0)
    x = neighbours.normalised(rng.normal(size=(3000, 8)))
    person = np.arange(3000) // 2
    found, recall = neighbours.approximate(x[:400], x, person[:400], person, 10)
    exact = np.concatenate([order[:, :10] for _, order in neighbours.ordered(x[:400], x, person[:400], person)])
    share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), exact.tolist(), strict=True)])
    assert 0.5 < share < 1 and share == pytest.approx(recall, abs=0.03)
    assert (person[found] != person[:400, None]).all()
    again, _ = neighbours.approximate(x[:400], x, person[:400], person, 10)
    np.testing.assert_array_equal(found, again)


def test_scores_by_an_approximate_search_are_near_the_exact_ones_and_the_rest_is_null_with_a_note() -> None:
    rng, who = np.random.default_rng(1), sorted([*named(1500), *named(100)])
    x = rng.normal(size=(len(who), 6))
    other, y = x + 0.8 * rng.normal(size=x.shape), x[:, 0].copy()
    y[rng.random(len(who)) < 0.1] = np.nan
    for score, arguments in ((identified, (x, other, who)), (similar, (x, other, who, y, 1.0))):
        exact, near = score(*arguments), score(*arguments, exact_up_to=100)
        for a in exact:
            b = by(near, metric=a["metric"], k=a["k"])
            if a["metric"] in ("median_rank", "mrr", "map"):
                assert b["value"] is None and "only the first 10" in b["note"]
            else:
                assert b["value"] == pytest.approx(a["value"], rel=0.15), (a["metric"], a["k"])
                assert b["chance"] == a["chance"] and b["oracle"] == a["oracle"]


def test_without_faiss_a_huge_gallery_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(PtaclError, match="pip install faiss-cpu") as error:
        identified(np.eye(30), np.eye(30), named(30), exact_up_to=10)
    assert "\n" not in str(error.value)


# Phase alignment


def test_phase_alignment_agrees_with_a_loop() -> None:
    rng, n, k = np.random.default_rng(6), 30, 10
    phase = rng.normal(size=(k, 16))
    ecg, cmr, shifted = (unit(phase + 0.9 * rng.normal(size=(n, k, 16))) for _ in range(3))
    table, queries, matrices = phase_alignment(ecg, cmr, shifted, np.arange(n), gallery(named(n)))

    def accuracy(i: int, frames: np.ndarray, direction: str) -> float:
        m = ecg[i] @ frames.T
        return np.mean([(m if direction == "ecg_to_cmr" else m.T)[a].argmax() == a for a in range(k)])

    for direction in ("ecg_to_cmr", "cmr_to_ecg"):
        own = [accuracy(i, cmr[i], direction) for i in range(n)]
        other = [np.mean([accuracy(i, cmr[(i + t) % n], direction) for t in range(1, OTHERS + 1)]) for i in range(n)]
        moved = [accuracy(i, shifted[i], direction) for i in range(n)]
        for name, values in (("own", own), ("other", other), ("shifted", moved), ("gap", np.subtract(own, other))):
            row = by(table, metric=f"phase_accuracy_{name}", direction=direction)
            assert row["value"] == pytest.approx(np.mean(values)), name
            assert by(queries, metric=f"phase_accuracy_{name}", direction=direction)["value"] == pytest.approx(values)
    mean = np.mean([ecg[i] @ cmr[i].T for i in range(n)], axis=0)
    assert by(matrices, frames="own", ecg_bin=2, cmr_bin=7)["cosine"] == pytest.approx(mean[2, 7])
    assert len(matrices) == 3 * k * k


def test_one_patient_alone_has_no_others_and_none_has_nothing() -> None:
    x = unit(np.random.default_rng(0).normal(size=(1, 4, 8)))
    table, _, matrices = phase_alignment(x, x, x, np.arange(1), gallery(named(1)))
    assert {r["metric"] for r in table} == {"phase_accuracy_own", "phase_accuracy_shifted"}
    assert {m["frames"] for m in matrices} == {"own", "shifted"}
    assert phase_alignment(x[:0], x[:0], x[:0], np.arange(0), gallery([])) == ([], [], [])
