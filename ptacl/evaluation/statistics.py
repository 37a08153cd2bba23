"""Point estimates with subject-level bootstrap intervals.

The bootstrap resamples subjects, all visits of a subject together. Every statistic here is a function of sums over
rows, so the rows are first summed by subject, and all draws are one product of counts [draws, subjects] and sums.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

METRICS = ("r2", "pearson_r", "mae", "calibration_slope", "bias")
LEVEL = (2.5, 97.5)
# Below these numbers of subjects a value has no interval, or no meaning at all.
MIN_FOR_INTERVAL, MIN_FOR_VALUE = 20, 3
# A quantity varies when its SD exceeds this share of its largest value: below lies rounding.
MIN_SPREAD = 1e-6
# Draws made at a time, to bound the memory of their indices.
_CHUNK = 100


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % percentile interval; None where the study is too small, and why."""

    value: float | None
    lo: float | None
    hi: float | None
    note: str | None = None


@functools.lru_cache(maxsize=8)
def draw_counts(n: int, draws: int, seed: int) -> np.ndarray:
    """How often each of n subjects is in each bootstrap draw: float32 [draws, n].

    The same for every method, so that differences between methods are paired.
    """
    rng = np.random.default_rng([seed, n])
    counts = np.empty((draws, n), np.float32)
    for start in range(0, draws, _CHUNK):
        part = counts[start : start + _CHUNK]
        drawn = rng.integers(n, size=part.shape) + n * np.arange(len(part))[:, None]
        part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    counts.flags.writeable = False
    return counts


def sum_by_subject(values: np.ndarray, subjects: Sequence[str]) -> np.ndarray:
    """Rows [n, m] summed to one per subject, subjects in sorted order."""
    names, place = np.unique(np.asarray(subjects, str), return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, place, values)
    return sums


def regression_metrics(
    truth: np.ndarray, prediction: np.ndarray, subjects: Sequence[str], draws: int, seed: int
) -> dict[str, Estimate]:
    """R², Pearson r, mean absolute error, calibration slope (truth on prediction) and bias (prediction - truth)."""
    n = len(set(subjects))
    note = size_note(n, "test subjects")
    if n < MIN_FOR_VALUE:
        return dict.fromkeys(METRICS, Estimate(None, None, None, note))
    sums, spread = moments(truth, prediction, subjects)
    point = metric_values(sums, spread, np.ones((1, n)))
    drawn = None if note else metric_values(sums, spread, draw_counts(n, draws, seed))
    return {m: _estimate(point[m][0], drawn[m] if drawn else None, note or "") for m in METRICS}


def moments(truth: np.ndarray, prediction: np.ndarray, subjects: Sequence[str]) -> tuple[np.ndarray, float]:
    """What the metrics need of each subject, float64 [subjects, 9], and the variance below which nothing varies."""
    # Shifted, so that squares of numbers around 150 keep their digits.
    y, p = truth - truth.mean(), prediction - truth.mean()
    e = y - p
    columns = [np.ones_like(y), y, p, y * y, p * p, y * p, e * e, np.abs(e), -e]
    return sum_by_subject(np.stack(columns, axis=1), subjects), float((MIN_SPREAD * np.abs(truth).max()) ** 2)


def metric_values(sums: np.ndarray, spread: float, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric for every row of counts [draws, subjects]; NaN where it is undefined."""
    total, sy, sp, syy, spp, syp, see, sabs, sbias = (counts @ sums).T
    var_y, var_p = syy / total - np.square(sy / total), spp / total - np.square(sp / total)
    cov = syp / total - sy * sp / np.square(total)
    var_y, var_p = np.where(var_y > spread, var_y, np.nan), np.where(var_p > spread, var_p, np.nan)
    return {
        "r2": 1 - see / total / var_y,
        "pearson_r": cov / np.sqrt(var_y * var_p),
        "mae": sabs / total,
        "calibration_slope": cov / var_p,
        "bias": sbias / total,
    }


def mean_estimates(values: np.ndarray, subjects: Sequence[str], draws: int, seed: int) -> list[Estimate]:
    """Means over queries of every column of `values` [n, m] (NaN: not a query of that column), with intervals."""
    known = np.isfinite(values)
    sums = sum_by_subject(np.hstack([np.where(known, values, 0), known]), subjects)
    m = values.shape[1]
    of_column = (sums[:, m:] > 0).sum(0)
    drawn = None
    if (of_column >= MIN_FOR_INTERVAL).any():
        product = draw_counts(len(sums), draws, seed) @ sums
        drawn = product[:, :m] / np.where(product[:, m:] > 0, product[:, m:], np.nan)
    estimates = []
    for j, n in enumerate(of_column):
        note = size_note(int(n), "queries")
        if n < MIN_FOR_VALUE:
            estimates.append(Estimate(None, None, None, note))
        else:
            mean = sums[:, j].sum() / sums[:, m + j].sum()
            estimates.append(_estimate(mean, None if note or drawn is None else drawn[:, j], note or ""))
    return estimates


def median_estimate(values: np.ndarray, subjects: Sequence[str], draws: int, seed: int) -> Estimate:
    """Median over queries [n], one per subject, with its interval."""
    n = len(values)
    note = size_note(n, "queries")
    if n < MIN_FOR_VALUE:
        return Estimate(None, None, None, note)
    if note:
        return Estimate(float(np.median(values)), None, None, note)
    place = np.unique(np.asarray(subjects, str), return_inverse=True)[1]
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(draw_counts(n, draws, seed)[:, place[order]], axis=1)
    # The two middle values of the n drawn: the first places where half of them, and more than half, are passed.
    low = values[order][np.argmax(cumulated >= n / 2, axis=1)]
    high = values[order][np.argmax(cumulated > n / 2, axis=1)]
    return Estimate(float(np.median(values)), *interval((low + high) / 2))


def interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    """Percentile interval of bootstrap draws, undefined draws left out."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None, None
    lo, hi = np.percentile(drawn, LEVEL)
    return float(lo), float(hi)


def size_note(n: int, what: str) -> str | None:
    """What a number of subjects doesn't allow, and how many would; None when it allows everything."""
    if n < MIN_FOR_VALUE:
        return f"{n} {what}; at least {MIN_FOR_VALUE} are needed"
    return f"{n} {what}; an interval needs at least {MIN_FOR_INTERVAL}" if n < MIN_FOR_INTERVAL else None


def _estimate(value: float, drawn: np.ndarray | None, note: str) -> Estimate:
    """The estimate of a point value and its draws (None: no interval); undefined when nothing varies."""
    if not np.isfinite(value):
        return Estimate(None, None, None, "undefined: the truth or the prediction is the same for everybody")
    lo, hi = (None, None) if drawn is None else interval(drawn)
    return Estimate(float(value), lo, hi, note or None)
