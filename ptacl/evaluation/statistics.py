"""Regression metrics with subject-level bootstrap intervals."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

METRICS = ("r2", "pearson_r", "mae", "calibration_slope", "bias")
LEVEL = (2.5, 97.5)
# Below these numbers of subjects a value has no interval, or no meaning at all.
MIN_FOR_INTERVAL, MIN_FOR_VALUE = 20, 3


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where the study is too small, and why."""

    value: float | None
    lo: float | None
    hi: float | None
    note: str | None = None


@functools.lru_cache(maxsize=8)
def _counts(n: int, draws: int, seed: int) -> np.ndarray:
    """How often each of n subjects is in each draw, float32 [draws, n]: the same for every method, so differences pair."""
    rng = np.random.default_rng([seed, n])
    return rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(np.float32)


def row_weights(subjects: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """Weights [draws, rows]: subjects are drawn with replacement, all visits of one together."""
    number = {s: i for i, s in enumerate(sorted(set(subjects)))}
    return _counts(len(number), draws, seed)[:, [number[s] for s in subjects]]


def regression_metrics(
    truth: np.ndarray, prediction: np.ndarray, subjects: Sequence[str], draws: int, seed: int
) -> dict[str, Estimate]:
    """R², Pearson r, mean absolute error, calibration slope (truth on prediction) and bias (prediction - truth)."""
    n = len(set(subjects))
    if n < MIN_FOR_VALUE:
        note = f"{n} test subjects with this phenotype; at least {MIN_FOR_VALUE} are needed"
        return dict.fromkeys(METRICS, Estimate(None, None, None, note))
    point = metric_values(truth, prediction, np.ones((1, len(truth))))
    if n < MIN_FOR_INTERVAL:
        note = f"{n} test subjects; an interval needs at least {MIN_FOR_INTERVAL}"
        return {m: Estimate(_finite(point[m][0]), None, None, note) for m in METRICS}
    drawn = metric_values(truth, prediction, row_weights(subjects, draws, seed))
    return {m: Estimate(_finite(point[m][0]), *interval(drawn[m]), _undefined(point[m][0])) for m in METRICS}


def metric_values(truth: np.ndarray, prediction: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for every row of weights [draws, n], from weighted moments; NaN where it is undefined."""
    # Shifted, so that moments of numbers around 150 keep their digits.
    y, p = truth - truth.mean(), prediction - truth.mean()
    e = y - p
    moments = np.stack([np.ones_like(y), y, p, y * y, p * p, y * p, e * e, np.abs(e), -e], axis=1)
    total, sy, sp, syy, spp, syp, see, sabs, sbias = (weights @ moments).T
    with np.errstate(divide="ignore", invalid="ignore"):
        var_y, var_p, cov = syy - sy * sy / total, spp - sp * sp / total, syp - sy * sp / total
        var_y, var_p = np.where(var_y > 1e-9, var_y, np.nan), np.where(var_p > 1e-9, var_p, np.nan)
        return {
            "r2": 1 - see / var_y,
            "pearson_r": cov / np.sqrt(var_y * var_p),
            "mae": sabs / total,
            "calibration_slope": cov / var_p,
            "bias": sbias / total,
        }


def mean_estimate(values: np.ndarray, subjects: Sequence[str], draws: int, seed: int) -> Estimate:
    """Mean over queries with an interval over resampled subjects."""
    known = np.isfinite(values)
    subjects = [s for s, k in zip(subjects, known, strict=True) if k]
    values, n = values[known], len(set(subjects))
    if n < MIN_FOR_VALUE:
        return Estimate(None, None, None, f"{n} queries; at least {MIN_FOR_VALUE} are needed")
    if n < MIN_FOR_INTERVAL:
        return Estimate(float(values.mean()), None, None, f"{n} queries; an interval needs at least {MIN_FOR_INTERVAL}")
    weights = row_weights(subjects, draws, seed)
    return Estimate(float(values.mean()), *interval(weights @ values / weights.sum(1)))


def median_estimate(values: np.ndarray, subjects: Sequence[str], draws: int, seed: int) -> Estimate:
    """Median over queries, one per subject, with an interval over resampled subjects."""
    n = len(values)
    if n < MIN_FOR_VALUE:
        return Estimate(None, None, None, f"{n} queries; at least {MIN_FOR_VALUE} are needed")
    if n < MIN_FOR_INTERVAL:
        note = f"{n} queries; an interval needs at least {MIN_FOR_INTERVAL}"
        return Estimate(float(np.median(values)), None, None, note)
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(row_weights(subjects, draws, seed)[:, order], axis=1)
    half = cumulated[:, -1:] / 2
    low = values[order][np.argmax(cumulated >= half, axis=1)]
    high = values[order][np.argmax(cumulated > half, axis=1)]
    return Estimate(float(np.median(values)), *interval((low + high) / 2))


def interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    """Percentile interval of bootstrap draws, undefined draws left out."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None, None
    lo, hi = np.percentile(drawn, LEVEL)
    return float(lo), float(hi)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _undefined(value: float) -> str | None:
    return None if np.isfinite(value) else "undefined: the truth or the prediction is the same for everybody"
