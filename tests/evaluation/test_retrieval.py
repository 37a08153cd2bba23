"""Identification and similarity against loops over full matrices; enumerated chance and oracle."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, ndcg_score

from ptacl.errors import PtaclError
from ptacl.evaluation import neighbours
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


def test_ties_count_as_the_mean_over_all_their_orders() -> None:
    rng, n = np.random.default_rng(3), 90
    axes = np.repeat(np.eye(4), 3, axis=0)  # cosines are 0 or 1, without rounding
    q, g = axes[rng.integers(0, 12, n)], axes[rng.integers(0, 12, n)]
    g[::3] = q[::3]
    cosine, values = q @ g.T, {}
    for i in range(n):
        better = int((cosine[i] > cosine[i, i]).sum())
        places = better + 1 + np.arange((cosine[i] == cosine[i, i]).sum())  # each as likely as the others
        values.setdefault(("median_rank", None), []).append(places.mean())
        values.setdefault(("mrr", None), []).append((1 / places).mean())
        for k in (1, 5, 10):
            values.setdefault(("recall", k), []).append((places <= k).mean())
    _, queries = identification(q, g, "d", gallery(named(n)))
    rows = identified(q, g, named(n))
    assert len(rows) == len(queries) == len(values)
    for (metric, k), value in values.items():
        np.testing.assert_allclose(by(queries, metric=metric, k=k)["value"], value, rtol=1e-12)
        middle = np.median(value) if metric == "median_rank" else np.mean(value)
        assert by(rows, metric=metric, k=k)["value"] == pytest.approx(middle)


def test_chance_of_identification_is_the_mean_over_all_ways_to_deal_out_the_partners() -> None:
    q, g = np.random.default_rng(4).normal(size=(2, 6, 3))
    dealt = [identified(q, g[list(order)], named(6)) for order in itertools.permutations(range(6))]
    for i, row in enumerate(dealt[0]):
        found = np.mean([rows[i]["value"] for rows in dealt])
        # A mean of medians need not be the mean rank.
        assert found == pytest.approx(row["chance"], abs=0.2 if row["metric"] == "median_rank" else 1e-9)
    assert by(dealt[0], metric="recall", k=10)["chance"] == 1  # of a gallery of six
    assert all(row["oracle"] == 1 and row["n"] == row["gallery"] == 6 for row in dealt[0])
    perfect = identified(g, g, named(6))
    assert all(row["value"] == row["oracle"] for row in perfect)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_gallery_of_hardly_anybody_has_notes_and_no_numbers(n: int) -> None:
    x = np.random.default_rng(5).normal(size=(n, 3))
    for row in identified(x, x, named(n)):
        assert row["value"] is None and row["note"] and row["n"] == n


def test_a_shuffled_gallery_is_another_task_but_rotated_and_scaled_embeddings_are_the_same() -> None:
    rng = np.random.default_rng(6)
    q = rng.normal(size=(80, 5))
    g = q + rng.normal(size=(80, 5))
    turned, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    rows = identified(q, g, named(80))
    same = identified(q @ turned * 7, g @ turned * rng.uniform(1, 9, (80, 1)), named(80))
    assert [r["value"] for r in rows] == pytest.approx([r["value"] for r in same])
    shuffled = identified(q, np.roll(g, 1, axis=0), named(80))
    assert by(shuffled, metric="mrr")["value"] < 0.5 * by(rows, metric="mrr")["value"]


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


def in_order(
    q: np.ndarray, g: np.ndarray, who: list[str], y: np.ndarray, sd: float
) -> dict[tuple[str, int | None], list[tuple[float, float, float]]]:
    """As `naive_similarity`, by plain loops along the order of the whole gallery, equal ones as they stand there."""
    expected: dict = {}
    for i in (i for i in range(len(who)) if np.isfinite(y[i])):
        others = [j for j in range(len(who)) if who[j] != who[i] and np.isfinite(y[j])]
        ranked = sorted(others, key=lambda j, i=i: -float(q[i] @ g[j]))
        apart = [abs(y[j] - y[i]) for j in ranked]
        near, hits = sorted(apart), [d <= sd / 2 for d in apart]
        n, m = len(others), sum(hits)
        of = {}
        for k in (k for k in KS if k <= n):
            of["precision", k] = sum(hits[:k]) / k, m / n, min(m, k) / k
            of["abs_difference", k] = sum(apart[:k]) / k, sum(apart) / n, sum(near[:k]) / k
            if m:
                of["recall", k] = sum(hits[:k]) / m, k / n, min(m, k) / m
        if n >= 10:
            discount = [1 / math.log2(2 + place) for place in range(10)]
            gain = [math.exp(-d / sd) for d in apart]
            ideal = sum(math.exp(-d / sd) * w for d, w in zip(near, discount, strict=False))
            if ideal:  # nothing at all is gained by one whom nobody is remotely like
                value = sum(x * w for x, w in zip(gain, discount, strict=False)) / ideal
                of["ndcg", 10] = value, sum(gain) / n * sum(discount) / ideal, 1.0
        if m:
            precisions = [sum(hits[: place + 1]) / (place + 1) for place in range(n) if hits[place]]
            # One place at random for every relevant one: by linearity over pairs of places.
            first = sum(1 / place for place in range(1, n + 1)) / n
            chance = first + (m - 1) / (n - 1) * (1 - first) if n > 1 else 1.0
            of["map", None] = sum(precisions) / m, chance, 1.0
        for measure, value in of.items():
            expected.setdefault(measure, []).append(value)
    known = [s for s, value in zip(who, y, strict=True) if np.isfinite(value)]
    fewest = min(sum(other != s for other in known) for s in known)
    return {key: v for key, v in expected.items() if key[1] is None or key[1] <= fewest}


@pytest.mark.parametrize("people", [[3] * 2 + [1] * 3, [2] * 5, [1, 2, 1] * 8, [1, 1, 4] * 30])
def test_ties_of_embeddings_and_phenotypes_and_small_galleries_are_scored_as_in_loops(people: list[int]) -> None:
    rng, who = np.random.default_rng(len(people)), [f"S{i:03d}" for i, n in enumerate(people) for _ in range(n)]
    n, sd = len(who), 4.0
    q, g = np.eye(5)[rng.integers(0, 5, n)], np.eye(5)[rng.integers(0, 5, n)]
    y = rng.integers(50, 62, n).astype(float)  # half of the spread is 2: many lie on the limit, which is within
    y[rng.permutation(n)[: n // 6]] = np.nan
    rows, expected = similar(q, g, who, y, sd), in_order(q, g, who, y, sd)
    known = [s for s, value in zip(who, y, strict=True) if np.isfinite(value)]
    size = np.mean([sum(other != s for other in known) for s in known])
    assert {r["gallery"] for r in rows} == {round(size)}
    assert {(r["metric"], r["k"]) for r in rows} == expected.keys()
    for (metric, k), values in expected.items():
        row = by(rows, metric=metric, k=k)
        found = [row["value"], row["chance"], row["oracle"]]
        assert found == pytest.approx(np.mean(values, axis=0).tolist()), (metric, k)
        assert row["n"] == len(values), (metric, k)


def test_wild_values_spoil_no_measure_of_the_others() -> None:
    rng, n = np.random.default_rng(7), 60
    q, g, y = rng.normal(size=(n, 4)), rng.normal(size=(n, 4)), rng.normal(size=n)
    y[[8, 9, 30]] = 1e3, 1e3 + 0.3, -1e5  # two are alike far from all others, one is alone
    q, g = unit(q), unit(g)
    rows, expected = similar(q, g, named(n), y, 1.0), in_order(q, g, named(n), y, 1.0)
    assert {(r["metric"], r["k"]) for r in rows} == expected.keys()
    for (metric, k), values in expected.items():
        row = by(rows, metric=metric, k=k)
        assert [row["value"], row["chance"], row["oracle"]] == pytest.approx(np.mean(values, axis=0).tolist()), metric


def test_a_gallery_of_one_person_has_nobody_else_to_find() -> None:
    x, y = np.random.default_rng(8).normal(size=(4, 3)), np.array([1.0, 2.0, 3.0, 4.0])
    for row in similar(x, x, ["A"] * 4, y, 1.0):
        assert row["value"] is None and row["note"] and row["chance"] is None


def test_what_is_found_is_kept_for_every_query_and_people_are_drawn_with_all_their_visits() -> None:
    rng, who = np.random.default_rng(9), sorted([*named(60), *named(25)])
    n = len(who)
    x, y = rng.normal(size=(n, 3)), rng.normal(size=n)
    y[rng.random(n) < 0.2] = np.nan
    of = gallery(who)
    rows, queries = phenotype_similarity(x, x[::-1], [phenotype("x", y, 1.0, of)], "d", of)
    assert {(q["metric"], q["k"]) for q in queries} == {("precision", 10), ("abs_difference", 10)}
    for q in queries:
        assert q["rows"].tolist() == np.flatnonzero(np.isfinite(y)).tolist()
        row, w = by(rows, metric=q["metric"], k=10), of.resampling.weights[:, q["rows"]]
        drawn = [np.repeat(q["value"], of_draw.astype(int)).mean() for of_draw in w]
        expected = (q["value"].mean(), *np.percentile(drawn, [2.5, 97.5]))
        assert (row["value"], row["lo"], row["hi"]) == pytest.approx(expected)


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
        assert score(*arguments, exact_up_to=len(who)) == exact
        for a in exact:
            b = by(near, metric=a["metric"], k=a["k"])
            if a["metric"] in ("median_rank", "mrr", "map"):
                assert b["value"] is None and "only the first 10" in b["note"]
            else:
                assert b["value"] == pytest.approx(a["value"], rel=0.15), (a["metric"], a["k"])
                assert b["chance"] == a["chance"] and b["oracle"] == a["oracle"]


def test_an_approximate_search_misses_no_more_partners_than_it_says() -> None:
    rng, n = np.random.default_rng(2), 3000
    q = rng.normal(size=(n, 8))
    g = q + 0.7 * rng.normal(size=(n, 8))
    _, recall = neighbours.approximate(unit(q), unit(g), np.full(n, -1), np.arange(n), 10)
    exact, near = identified(q, g, named(n)), identified(q, g, named(n), exact_up_to=n - 1)
    assert identified(q, g, named(n), exact_up_to=n) == exact
    assert near == identified(q, g, named(n), exact_up_to=n - 1)
    for k in (1, 5, 10):
        true, found = by(exact, metric="recall", k=k)["value"], by(near, metric="recall", k=k)
        assert true - (1 - recall) - 0.02 < found["value"] <= true
        assert found["lo"] < found["value"] < found["hi"] and found["chance"] == k / n
    for metric in ("median_rank", "mrr"):
        row = by(near, metric=metric, k=None)
        assert row["value"] is row["lo"] is row["chance"] is None and f"{recall:.1%} of them found" in row["note"]


def test_a_person_of_many_visits_is_left_out_of_an_approximate_search_and_ten_others_are_found() -> None:
    rng = np.random.default_rng(4)
    person = np.r_[np.zeros(15, int), np.arange(1, 2500)]
    x = neighbours.normalised(rng.normal(size=(len(person), 5)))
    x[:15] = x[0]  # the own visits are nearer than anybody
    found, _ = neighbours.approximate(x[:15], x, person[:15], person, 10)
    assert (found >= 15).all() and all(len(set(of)) == 10 for of in found.tolist())


@pytest.mark.parametrize("known", [9, 40, 900])
def test_a_phenotype_known_of_few_in_a_huge_gallery_is_searched_in_full(known: int) -> None:
    rng, n = np.random.default_rng(5), 1200
    x, y = rng.normal(size=(n, 6)), np.full(n, np.nan)
    y[rng.permutation(n)[:known]] = rng.normal(size=known)
    exact, near = similar(x, x, named(n), y, 1.0), similar(x, x, named(n), y, 1.0, exact_up_to=1000)
    for a in (r for r in exact if r["metric"] != "map"):
        b = by(near, metric=a["metric"], k=a["k"])
        assert (b["value"], b["n"]) == (pytest.approx(a["value"], abs=2e-3), a["n"])
    assert by(near, metric="map")["value"] is None


def test_without_faiss_a_huge_gallery_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(PtaclError, match="pip install faiss-cpu") as error:
        identified(np.eye(30), np.eye(30), named(30), exact_up_to=10)
    assert "\n" not in str(error.value)
