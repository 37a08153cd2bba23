"""Intervals that hold what they promise, and what is said of unusual recordings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.evaluation.ridge import fit_heads, probe
from ptacl.package.calibration import Typical, conformal_quantile, first_visits, rounded_up, training_range


@pytest.mark.parametrize(("n", "coverage"), [(1, 0.5), (9, 0.9), (10, 0.9), (99, 0.99), (250, 0.9), (251, 0.8)])
def test_the_quantile_is_the_smallest_score_that_enough_scores_do_not_exceed(n: int, coverage: float) -> None:
    scores = np.random.default_rng(n).exponential(size=n)
    # By definition: of n + 1 scores, the last unknown and as likely at any place, `coverage` lie at or below it.
    enough = [s for s in sorted(scores) if sum(scores <= s) >= coverage * (n + 1)]
    found = conformal_quantile(np.append(scores, np.nan), coverage)
    assert found is not None and enough[0] <= found <= 1.011 * enough[0]


@pytest.mark.parametrize("n", [0, 1, 8])
def test_too_few_people_give_no_interval(n: int) -> None:
    assert conformal_quantile(np.ones(n), 0.9) is None


def test_intervals_hold_nine_of_ten_truths_whatever_the_errors_are_like() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        errors = np.abs(rng.standard_t(2, size=300))
        half = conformal_quantile(errors[:150], 0.9)
        assert half is not None
        covered.append((errors[150:] <= half).mean())
    assert np.mean(covered) == pytest.approx(0.9 + 0.1 / 151 / 2, abs=0.01)
    assert np.std(covered) > 0.02  # and no single study holds it exactly


def test_people_count_once_in_calibration_with_their_first_visit() -> None:
    subjects, visits = ["a", "a", "b", "c", "c"], [3, 2, 2, 2, 3]
    found = first_visits(subjects, visits, np.array([True, True, True, False, True]))
    assert found.tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("n", [500, 777, 5000])
def test_the_training_range_is_nobodys_extreme(n: int) -> None:
    values = np.random.default_rng(n).normal(150, 30, n)
    low, high = training_range(values) or (0, 0)
    assert np.mean((values < low) | (values > high)) == pytest.approx(0.02, abs=0.008)
    assert values.min() < low and high < values.max()
    assert training_range(values[:499]) is None


@given(st.floats(1e-6, 1e6), st.sampled_from([1, -1]))
def test_a_rounded_value_is_a_little_larger(value: float, sign: int) -> None:
    found = sign * rounded_up(sign * value)
    assert value * (1 - 1e-9) <= found <= value * 1.0101
    assert len(f"{found:.12g}".replace(".", "").replace("e-0", "").strip("0")) <= 4


def test_distances_are_mahalanobis_and_tell_what_was_never_seen() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 6)) @ rng.normal(size=(6, 6)) + 5
    typical = Typical.of(x)
    z = x - x.mean(0)
    exact = np.sqrt(np.einsum("ij,jk,ik->i", z, np.linalg.inv(np.cov(x, rowvar=False)), z))
    np.testing.assert_allclose(typical.distance(x), exact, rtol=0.05)
    limit = conformal_quantile(typical.distance(x[:999]), 0.99)
    assert limit is not None and np.mean(typical.distance(x) > limit) == pytest.approx(0.01, abs=0.006)
    assert (typical.distance(x + 40) > limit).all()
    # A direction that nobody uses must not divide by zero.
    flat = np.hstack([x, np.ones((4000, 1))])
    assert np.isfinite(Typical.of(flat).distance(flat)).all()


@pytest.mark.parametrize("width", [3, 40])
def test_kept_heads_predict_what_the_probe_does(width: int) -> None:
    rng = np.random.default_rng(width)
    x = (rng.normal(size=(120, width)) * rng.uniform(0.01, 100, width) + rng.normal(size=width)).astype(np.float32)
    x[:, 0] = 7  # tells nothing, and must not divide by zero
    y = np.stack([x[:, 1] + rng.normal(size=120), rng.normal(size=120), np.full(120, np.nan)], 1)
    y[::7, 1] = np.nan
    subjects, train = [f"S{i // 2}" for i in range(120)], np.arange(120) < 80
    heads = fit_heads(x, y, subjects, train)
    np.testing.assert_allclose(
        x.astype(np.float64) @ heads.weight + heads.intercept, probe(x, y, subjects, train), rtol=1e-4, atol=1e-4
    )
    assert np.isnan(heads.weight[:, 2]).all() and np.isfinite(heads.weight[:, :2]).all()
