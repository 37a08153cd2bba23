"""Metrics against scikit-learn, weights against repeated rows, intervals against loops and against the truth."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LinearRegression
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score, roc_auc_score

from ptacl.evaluation.statistics import (
    METRICS,
    Draws,
    Estimate,
    Resampling,
    auroc,
    discrimination,
    estimate,
    holm,
    interval,
    mean_estimates,
    median_estimate,
    metrics_of,
    moments,
    p_value,
    partial_r2,
    regression_metrics,
)

DRAWS = Draws(200, 0)
FIRST_ID = 9_000_001


def people(*visits: int) -> list[str]:
    """Ids of people with so many visits each."""
    return [str(FIRST_ID + i) for i, n in enumerate(visits) for _ in range(n)]


def of_everybody(y: np.ndarray, p: np.ndarray, resampling: Resampling) -> dict[str, Estimate]:
    (found,) = regression_metrics(y, p, np.ones((len(y), 1), bool), resampling)
    return found


def reference_metrics(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    d = p - y
    return {
        "r2": r2_score(y, p),
        "pearson_r": np.corrcoef(y, p)[0, 1],
        "mae": mean_absolute_error(y, p),
        "calibration_slope": LinearRegression().fit(p[:, None], y).coef_[0],
        "bias": d.mean(),
        "loa_lo": d.mean() - 1.96 * d.std(ddof=1),
        "loa_hi": d.mean() + 1.96 * d.std(ddof=1),
    }


def predicted(n: int, seed: int = 0, mean: float = 150, sd: float = 30) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and predictions that are biased, shrunk and noisy."""
    rng = np.random.default_rng(seed)
    y = rng.normal(mean, sd, n)
    return y, mean + 0.6 * (y - mean) - 0.2 * sd + rng.normal(0, 0.7 * sd, n)


def drawn_rows(weights: np.ndarray) -> list[np.ndarray]:
    """The rows of every draw, as often as they were drawn."""
    return [np.repeat(np.arange(len(w)), w.astype(int)) for w in weights]


# Metrics of predictions


def test_metrics_of_every_group_are_those_of_scikit_learn_on_the_rows_known_in_it() -> None:
    y, p = predicted(80)
    y[[3, 40]], p[[3, 17]] = np.nan, np.nan
    groups = np.stack([np.ones(80, bool), np.arange(80) < 25, np.arange(80) % 3 == 0], 1)
    found = regression_metrics(y, p, groups, Resampling(people(*[1] * 80), DRAWS))
    for group, metrics in zip(groups.T, found, strict=True):
        rows = group & np.isfinite(y) & np.isfinite(p)
        assert tuple(metrics) == METRICS
        assert {m: e.value for m, e in metrics.items()} == pytest.approx(reference_metrics(y[rows], p[rows]), rel=1e-9)


def test_weighted_metrics_are_those_of_repeated_rows() -> None:
    y, p = predicted(30)
    resampling = Resampling(people(*[1] * 30), Draws(20, 3))
    found = metrics_of(resampling.weights @ moments(y, p))
    for i, rows in enumerate(drawn_rows(resampling.weights)):
        assert {m: v[i] for m, v in found.items()} == pytest.approx(reference_metrics(y[rows], p[rows]), rel=1e-9)


def test_metrics_keep_their_digits_far_from_zero() -> None:
    y, p = predicted(100, mean=1e5, sd=1)
    found = of_everybody(y, p, Resampling(people(*[1] * 100), DRAWS))
    assert {m: e.value for m, e in found.items()} == pytest.approx(reference_metrics(y, p), rel=1e-8)


def test_what_is_undefined_is_null_with_a_note_and_the_rest_is_given() -> None:
    y, resampling = predicted(40)[0], Resampling(people(*[1] * 40), DRAWS)
    alike = of_everybody(y, np.full(40, 140.0), resampling)
    assert {m for m, e in alike.items() if e.value is None} == {"pearson_r", "calibration_slope"}
    assert "undefined" in str(alike["pearson_r"].note) and alike["pearson_r"].lo is None
    assert all(e.note is None and e.lo is not None and e.lo <= e.value for e in alike.values() if e.value is not None)
    same_truth = of_everybody(np.full(40, 150.0), y, resampling)
    assert {m for m, e in same_truth.items() if e.value is None} == {"r2", "pearson_r"}


def test_partial_r2_is_the_share_of_the_squared_error_that_is_taken_away() -> None:
    y, without = predicted(60)
    with_it = 0.5 * y + 0.5 * without
    y[5], with_it[6], without[7] = np.nan, np.nan, np.nan
    known = np.setdiff1d(np.arange(60), [5, 6, 7])
    resampling = Resampling(people(*[1] * 60), DRAWS)

    def naive(rows: np.ndarray) -> float:
        rows = rows[np.isin(rows, known)]
        return 1 - np.square(y - with_it)[rows].sum() / np.square(y - without)[rows].sum()

    found = partial_r2(y, with_it, without, resampling)
    assert found.value == pytest.approx(naive(known), rel=1e-12) == pytest.approx(0.75)
    worse = partial_r2(y, without, with_it, resampling)
    assert worse.value == pytest.approx(-3)
    noisy = with_it + np.random.default_rng(1).normal(0, 20, 60)
    found, drawn = partial_r2(y, noisy, without, resampling), []
    for rows in drawn_rows(resampling.weights):
        rows = rows[np.isin(rows, known)]
        drawn.append(1 - np.square(y - noisy)[rows].sum() / np.square(y - without)[rows].sum())
    assert (found.lo, found.hi) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), rel=1e-9)
    assert (
        partial_r2(y, with_it, y, resampling).note == "undefined: the truth or the prediction is the same for everybody"
    )


# Low values told apart


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_auroc_and_average_precision_are_those_of_scikit_learn_with_ties_and_weights(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(60) < 0.3
    score = np.floor((positive + rng.normal(size=60)) * levels) / levels  # few levels: many ties across both classes
    known = np.arange(60) != 11
    resampling = Resampling(people(*[1] * 60), Draws(100, 1))
    found, all_drawn = discrimination(positive, score, known, resampling), []
    for rows in [np.arange(60), *drawn_rows(resampling.weights)]:
        rows = rows[known[rows]]
        y, s = positive[rows], score[rows]
        all_drawn.append((roc_auc_score(y, s), average_precision_score(y, s), y.mean()))
    value, drawn = all_drawn[0], np.array(all_drawn[1:])
    for j, metric in enumerate(("auroc", "auprc", "prevalence")):
        e = found[metric]
        assert (e.value, e.lo, e.hi) == pytest.approx((value[j], *np.percentile(drawn[:, j], [2.5, 97.5])), rel=1e-9)


def test_auroc_of_a_useless_score_is_a_half_and_of_a_reversed_one_what_is_missing_to_one() -> None:
    positive, ones = np.array([True, False, True, False, False]), np.ones((1, 5))
    assert auroc(positive, np.zeros(5), ones)[0] == 0.5
    score = np.array([3.0, 1.0, 1.0, 0.0, 5.0])
    assert auroc(positive, score, ones)[0] == pytest.approx(roc_auc_score(positive, score))
    assert auroc(positive, -score, ones)[0] == pytest.approx(1 - roc_auc_score(positive, score))


def test_one_class_alone_has_a_prevalence_but_no_area() -> None:
    score, rows = np.arange(30.0), np.ones(30, bool)
    for positive, prevalence in ((np.zeros(30, bool), 0.0), (np.ones(30, bool), 1.0)):
        found = discrimination(positive, score, rows, Resampling(people(*[1] * 30), DRAWS))
        assert found["auroc"].value is None and found["auroc"].note
        assert found["prevalence"].value == prevalence


# Resampling


def test_all_visits_of_a_person_are_drawn_together_and_every_draw_has_as_many_people() -> None:
    subjects = people(3, 1, 2, 1, 1)
    shuffled = np.random.default_rng(0).permutation(len(subjects))
    resampling = Resampling([subjects[i] for i in shuffled], Draws(500, 2))
    by_row = np.empty_like(resampling.weights)
    by_row[:, shuffled] = resampling.weights
    np.testing.assert_array_equal(by_row[:, [0, 0, 4]], by_row[:, [1, 2, 5]])
    of_people = by_row[:, [0, 3, 4, 6, 7]]
    assert (of_people.sum(1) == 5).all() and len(np.unique(of_people, axis=0)) > 50
    assert of_people.mean(0) == pytest.approx(np.ones(5), abs=0.15)  # nobody is drawn more often than others
    assert of_people.var(0) == pytest.approx(np.full(5, 1 - 1 / 5), abs=0.2)  # with replacement


def test_draws_depend_on_seed_and_number_of_people_alone() -> None:
    one = Resampling(people(*[1] * 25), Draws(10, 4)).weights
    np.testing.assert_array_equal(one, Resampling([f"P{i:03d}" for i in range(25)], Draws(10, 4)).weights)
    assert (one != Resampling(people(*[1] * 25), Draws(10, 5)).weights).any()


def test_the_interval_of_r2_is_that_of_a_loop_that_resamples_people_with_all_their_visits() -> None:
    y, p = predicted(90)
    resampling = Resampling(people(*[1, 2, 6] * 10), Draws(200, 7))
    drawn = np.array([list(reference_metrics(y[rows], p[rows]).values()) for rows in drawn_rows(resampling.weights)])
    found = of_everybody(y, p, resampling)
    for j, metric in enumerate(reference_metrics(y, p)):
        e = found[metric]
        assert (e.lo, e.hi) == pytest.approx(tuple(np.percentile(drawn[:, j], [2.5, 97.5])), rel=1e-9), metric


def test_visits_that_tell_the_same_again_narrow_no_interval() -> None:
    y, p = predicted(40)
    once = of_everybody(y, p, Resampling(people(*[1] * 40), DRAWS))
    twice = of_everybody(np.repeat(y, 3), np.repeat(p, 3), Resampling(people(*[3] * 40), DRAWS))
    for metric in ("r2", "pearson_r", "mae", "calibration_slope", "bias"):
        assert (twice[metric].lo, twice[metric].hi) == pytest.approx((once[metric].lo, once[metric].hi)), metric


@pytest.mark.parametrize("n", [0, 1, 2, 3, 19, 20])
def test_studies_too_small_for_a_value_or_an_interval_say_so(n: int) -> None:
    y, p = predicted(2 * n)
    resampling = Resampling(people(*[2] * n), DRAWS)  # rows do not count, people do
    values = p[:, None]
    found = [*of_everybody(y, p, resampling).values(), *mean_estimates(values, np.arange(2 * n), resampling)]
    found += [median_estimate(p, np.arange(2 * n), resampling), partial_r2(y, p, p + 1, resampling)]
    for e in found:
        assert (e.value is None) == (n < 3)
        assert (e.lo is None) == (e.hi is None) == (n < 20)
        assert (e.note or "").startswith(f"{n} people") == (n < 20)


def test_a_small_group_of_a_large_study_has_no_interval() -> None:
    y, p = predicted(100)
    groups = np.stack([np.arange(100) < n for n in (2, 19, 20)], 1)
    small, some, enough = regression_metrics(y, p, groups, Resampling(people(*[1] * 100), DRAWS))
    assert small["mae"].value is None
    assert some["mae"].value is not None and some["mae"].lo is None and "19 people" in str(some["mae"].note)
    assert enough["mae"].lo is not None and enough["mae"].note is None


def test_draws_that_are_undefined_are_left_out_of_the_interval() -> None:
    drawn = np.r_[np.arange(101.0), np.nan, np.inf]
    assert interval(drawn) == (2.5, 97.5)
    assert interval(np.full(3, np.nan)) == (None, None)
    assert estimate(float("nan"), drawn, 50).value is None


# Means and medians over queries


def test_means_over_queries_leave_out_what_is_unknown_in_the_study_and_in_every_draw() -> None:
    rng = np.random.default_rng(0)
    resampling = Resampling(people(*[1, 2] * 20), DRAWS)
    rows = np.arange(3, 60)  # no query of the first people
    values = rng.random((57, 2))
    values[rng.random(57) < 0.3, 1] = np.nan
    found = mean_estimates(values, rows, resampling)
    for j, e in enumerate(found):
        full = np.full(60, np.nan)
        full[rows] = values[:, j]
        drawn = [np.nanmean(full[r]) for r in drawn_rows(resampling.weights)]
        expected = (np.nanmean(full), *np.percentile(drawn, [2.5, 97.5]))
        assert (e.value, e.lo, e.hi) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [24, 25])
def test_the_interval_of_the_median_is_that_of_a_loop(n: int) -> None:
    values = np.random.default_rng(6).integers(1, 40, n).astype(float)
    resampling = Resampling(people(*[1] * (n + 2)), Draws(200, 1))
    rows = np.arange(2, n + 2)
    drawn = [np.median(np.repeat(values, w.astype(int))) for w in resampling.weights[:, rows]]
    found = median_estimate(values, rows, resampling)
    assert found.value == np.median(values)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


# Do intervals keep what they promise?


def test_intervals_of_every_metric_cover_the_truth_in_95_of_100_studies() -> None:
    repeats, n, slope, noise, shift = 2000, 500, 0.8, 0.9, 0.3
    rng = np.random.default_rng(11)
    p = rng.normal(size=(repeats, n))
    y = slope * p + rng.normal(0, noise, (repeats, n)) - shift
    spread, var_y = np.hypot(1 - slope, noise), slope**2 + noise**2  # sd of p - y
    shifted = spread * np.sqrt(2 / np.pi) * np.exp(-(shift**2) / (2 * spread**2))
    truth = {
        "r2": 1 - (spread**2 + shift**2) / var_y,
        "pearson_r": slope / np.sqrt(var_y),
        "mae": shifted + shift * (1 - 2 * norm.cdf(-shift / spread)),
        "calibration_slope": slope,
        "bias": shift,
        "loa_lo": shift - 1.96 * spread,
        "loa_hi": shift + 1.96 * spread,
    }
    resampling = Resampling(people(*[1] * n), Draws(1000, 0))
    hits = dict.fromkeys(METRICS, 0)
    for first in range(0, repeats, 250):
        block = range(first, first + 250)
        parts = np.stack([moments(y[i], p[i]) for i in block], axis=1)
        drawn = metrics_of((resampling.weights @ parts.reshape(n, -1)).reshape(-1, 250, parts.shape[2]))
        for m in METRICS:
            lo, hi = np.percentile(drawn[m], [2.5, 97.5], axis=0)
            hits[m] += int(((lo <= truth[m]) & (truth[m] <= hi)).sum())
            if first == 0:  # this is what is written
                e = of_everybody(y[7], p[7], resampling)[m]
                assert (e.lo, e.hi) == pytest.approx((lo[7], hi[7]), rel=1e-9)
    assert {m: h / repeats for m, h in hits.items()} == pytest.approx(dict.fromkeys(METRICS, 0.95), abs=0.02)


def test_intervals_of_a_mean_over_queries_cover_the_truth_with_repeat_visits() -> None:
    """Visits of a person are alike: rows taken for people would be far too sure of themselves."""
    repeats, visits = 1000, [1, 2, 3] * 100
    rng = np.random.default_rng(12)
    person = np.repeat(np.arange(300), visits)
    ease = rng.beta(1, 1, (repeats, 300))
    hit = (rng.random((repeats, 600)) < ease[:, person]).astype(float)
    people_alike, alone = (
        mean_estimates(hit.T, np.arange(600), Resampling(s, Draws(500, 0)))
        for s in (people(*visits), people(*[1] * 600))
    )
    covered = [np.mean([e.lo <= 0.5 <= e.hi for e in found]) for found in (people_alike, alone)]
    assert covered[0] == pytest.approx(0.95, abs=0.02)
    assert covered[1] < 0.92


def test_a_p_value_is_that_of_the_normal_distribution_and_needs_a_spread() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 0.1, 4000)
    assert p_value(0.3, drawn) == pytest.approx(2 * norm.sf(3), rel=0.2)
    assert p_value(-0.3, drawn) == p_value(0.3, drawn) == p_value(0.3, np.r_[drawn, np.nan])
    assert p_value(1.959964 * np.std(drawn, ddof=1), drawn) == pytest.approx(0.05, rel=1e-5)
    assert p_value(0.3, np.full(10, 0.3)) is None and p_value(0.3, np.array([np.nan, 0.3])) is None


def test_holm_is_that_of_an_example_by_hand() -> None:
    # In order .005, .01, .03, .04, times 4, 3, 2, 1; the last may not be surer than the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])
    assert holm([0.7, 0.7, 0.9]) == [1.0, 1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []


def test_holm_finds_anything_false_in_at_most_5_of_100_studies_and_more_than_bonferroni() -> None:
    rng = np.random.default_rng(3)
    false = np.mean([min(holm(rng.random(6).tolist())) < 0.05 for _ in range(2000)])
    assert false == pytest.approx(0.05, abs=0.015)
    p = [0.001, 0.012, 0.02]
    assert all(h <= min(1, 3 * x) for h, x in zip(holm(p), p, strict=True)) and holm(p)[2] == pytest.approx(0.024)
