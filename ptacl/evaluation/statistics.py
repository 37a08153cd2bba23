"""Metrics of predictions, with intervals from resampling people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

METRICS = ("r2", "pearson_r", "mae", "calibration_slope", "bias", "loa_lo", "loa_hi")
LEVEL = (2.5, 97.5)
# Half the width of limits of agreement, in standard deviations of the differences (Bland and Altman 1986).
AGREEMENT_SD = 1.96
# Below these numbers of people a value has no interval, or no meaning at all.
MIN_FOR_INTERVAL, MIN_FOR_VALUE = 20, 3


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where the study is too small, and why."""

    value: float | None
    lo: float | None
    hi: float | None
    note: str | None = None


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws and their seed."""

    number: int
    seed: int


class Resampling:
    """Bootstrap draws of the people behind some rows: all visits of a person are drawn together.

    weights: float64 [draws, rows], how often each row is in each draw. They depend on the number of people and the seed
    alone, so that any two methods scored on the same rows are scored in the same draws, and their difference pairs.
    """

    def __init__(self, subjects: Sequence[str], draws: Draws) -> None:
        people, self.person = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
        n = len(people)
        rng = np.random.default_rng([draws.seed, n])
        counts = rng.multinomial(n, np.full(n, 1 / n), size=draws.number) if n else np.zeros((draws.number, 0))
        self.weights = counts.astype(np.float64)[:, self.person]

    def people(self, rows: np.ndarray) -> int:
        """The number of people behind rows (bool mask or numbers)."""
        return len(np.unique(self.person[rows]))

    def estimates(self, rows: np.ndarray, of: Callable[[np.ndarray], dict[str, np.ndarray]]) -> dict[str, Estimate]:
        """Every statistic of `of`, which takes weights [any, rows] and gives values [any], NaN where undefined."""
        point = of(np.ones((1, len(self.person[rows]))))
        n = self.people(rows)
        drawn = of(self.weights[:, rows]) if n >= MIN_FOR_INTERVAL else {}
        return {m: estimate(v[0], drawn.get(m), n) for m, v in point.items()}


def estimate(value: float, drawn: np.ndarray | None, people: int) -> Estimate:
    """A value with the interval of its draws, as far as the number of people allows."""
    if people < MIN_FOR_VALUE:
        return Estimate(None, None, None, f"{people} people; at least {MIN_FOR_VALUE} are needed")
    if not np.isfinite(value):
        return Estimate(None, None, None, "undefined: the truth or the prediction is the same for everybody")
    if people < MIN_FOR_INTERVAL or drawn is None:
        return Estimate(float(value), None, None, f"{people} people; an interval needs at least {MIN_FOR_INTERVAL}")
    return Estimate(float(value), *interval(drawn))


_MOMENTS = ("1", "y", "p", "yy", "pp", "yp", "|y - p|", "(y - p)^2")


def moments(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """What the metrics are made of, float64 [rows, 8]; `metrics_of` takes their weighted sums.

    Shifted by a constant, so that moments of numbers around 150 keep their digits.
    """
    centre = truth.mean() if len(truth) else 0.0
    y, p = truth - centre, prediction - centre
    return np.stack([np.ones_like(y), y, p, y * y, p * p, y * p, np.abs(y - p), np.square(y - p)], axis=1)


def metrics_of(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Every metric from sums of `moments` [..., 8]; NaN where it is undefined.

    r2: 1 - residual / total sum of squares. calibration_slope: of truth on prediction. bias: mean of prediction - truth,
    in the target's unit like mae and the limits of agreement loa_lo and loa_hi.
    """
    total, sy, sp, syy, spp, syp, sabs, see = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        var_y, var_p, cov = syy - sy * sy / total, spp - sp * sp / total, syp - sy * sp / total
        var_y, var_p = np.where(var_y > 1e-9, var_y, np.nan), np.where(var_p > 1e-9, var_p, np.nan)
        bias = (sp - sy) / total
        half = AGREEMENT_SD * np.sqrt(np.maximum(see / total - bias * bias, 0) * total / np.maximum(total - 1, 1e-9))
        return {
            "r2": 1 - see / var_y,
            "pearson_r": cov / np.sqrt(var_y * var_p),
            "mae": sabs / total,
            "calibration_slope": cov / var_p,
            "bias": bias,
            "loa_lo": bias - half,
            "loa_hi": bias + half,
        }


def regression_metrics(
    truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray, resampling: Resampling
) -> list[dict[str, Estimate]]:
    """The metrics of METRICS within each of G groups, bool [rows, G], for predictions and truth [rows], NaN where unknown."""
    known = np.isfinite(truth) & np.isfinite(prediction)
    parts = np.zeros((len(truth), len(_MOMENTS)))
    parts[known] = moments(truth[known], prediction[known])
    shape = (-1, groups.shape[1], len(_MOMENTS))
    of_groups = (groups[:, :, None] * parts[:, None, :]).reshape(len(truth), shape[1] * shape[2])
    point = metrics_of(of_groups.sum(0).reshape(shape))
    drawn = metrics_of((resampling.weights @ of_groups).reshape(shape))
    people = [resampling.people(known & g) for g in groups.T]
    return [{m: estimate(point[m][0, g], drawn[m][:, g], n) for m in METRICS} for g, n in enumerate(people)]


def partial_r2(truth: np.ndarray, with_it: np.ndarray, without: np.ndarray, resampling: Resampling) -> Estimate:
    """The share of the squared error of predictions `without` something that predictions `with_it` take away."""
    squares = np.stack([np.square(truth - with_it), np.square(truth - without)], axis=1)
    known = np.isfinite(squares).all(1)

    def share(weights: np.ndarray) -> dict[str, np.ndarray]:
        left, before = (weights @ squares[known]).T
        return {"partial_r2": 1 - left / np.where(before > 1e-9, before, np.nan)}

    return resampling.estimates(known, share)["partial_r2"]


def discrimination(
    positive: np.ndarray, score: np.ndarray, rows: np.ndarray, resampling: Resampling
) -> dict[str, Estimate]:
    """How well a score (higher: more likely positive) tells bool [rows] apart: auroc, auprc and the prevalence.

    `rows` (bool): those that are scored. auprc is the average precision, whose chance level is the prevalence.
    """
    positive, score = positive[rows], score[rows]

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        parts = _by_score(positive, score, weights)
        share = weights @ positive / weights.sum(1)
        return {"auroc": _auroc(*parts), "auprc": _average_precision(*parts), "prevalence": share}

    return resampling.estimates(rows, of)


def auroc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the receiver operating characteristic for every row of weights [any, rows]; NaN with one class alone.

    The chance that a positive is scored higher than a negative, scores alike counting half.
    """
    return _auroc(*_by_score(positive, score, weights))


def _auroc(of_positive: np.ndarray, of_all: np.ndarray) -> np.ndarray:
    above = of_positive.cumsum(1) - of_positive / 2
    n_positive, n = of_positive.sum(1), of_all.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((of_all - of_positive) * above).sum(1) / (n_positive * (n - n_positive))


def _average_precision(of_positive: np.ndarray, of_all: np.ndarray) -> np.ndarray:
    """Mean of the precision at every positive; NaN without positives."""
    found, seen = of_positive.cumsum(1), of_all.cumsum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (of_positive * np.where(seen > 0, found / seen, 0.0)).sum(1) / found[:, -1]


def _by_score(positive: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of positives and of all rows at each distinct score, from the highest downwards: [any, scores] each."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    of_all = weights[:, order]
    return np.add.reduceat(of_all * positive[order], starts, axis=1), np.add.reduceat(of_all, starts, axis=1)


def mean_estimates(values: np.ndarray, rows: np.ndarray, resampling: Resampling) -> list[Estimate]:
    """Means over queries of values [queries, M], those that are NaN left out; `rows`: the number of the row of each query."""
    known = np.isfinite(values)
    filled = np.zeros((2, len(resampling.person), values.shape[1]))
    filled[:, rows] = np.where(known, values, 0.0), known
    with np.errstate(divide="ignore", invalid="ignore"):
        point = filled[0].sum(0) / filled[1].sum(0)
        drawn = (resampling.weights @ filled[0]) / (resampling.weights @ filled[1])
    people = [resampling.people(rows[k]) for k in known.T]
    return [estimate(p, d, n) for p, d, n in zip(point, drawn.T, people, strict=True)]


def median_estimate(values: np.ndarray, rows: np.ndarray, resampling: Resampling) -> Estimate:
    """Median of values [queries]; `rows`: the number of the row of each query."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]

    def median(weights: np.ndarray) -> dict[str, np.ndarray]:
        if not len(ranked):
            return {"median": np.full(len(weights), np.nan)}
        cumulated = np.cumsum(weights[:, order], axis=1)
        half = cumulated[:, -1:] / 2
        low = ranked[np.argmax(cumulated >= half, axis=1)]
        high = ranked[np.argmax(cumulated > half, axis=1)]
        return {"median": (low + high) / 2}

    return resampling.estimates(rows, median)["median"]


def interval(drawn: np.ndarray) -> tuple[float | None, float | None]:
    """Percentile interval of bootstrap draws, undefined draws left out."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None, None
    lo, hi = np.percentile(drawn, LEVEL)
    return float(lo), float(hi)


def p_value(difference: float, drawn: np.ndarray) -> float | None:
    """Two-sided p of no difference, by the normal distribution with the standard error of the draws.

    The share of draws beyond 0 could not fall below 1 / draws, too coarse to be corrected for many comparisons.
    """
    spread = float(np.std(drawn[np.isfinite(drawn)], ddof=1)) if np.isfinite(drawn).sum() > 1 else 0.0
    # Less than that is rounding: of draws that are all alike, or of a method beside its copy.
    return float(2 * norm.sf(abs(difference) / spread)) if spread > 1e-12 else None


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979): the chance of any false finding among them stays below each."""
    corrected, highest = [0.0] * len(p), 0.0
    for i, place in enumerate(sorted(range(len(p)), key=lambda j: p[j])):
        highest = max(highest, min(1.0, (len(p) - i) * p[place]))
        corrected[place] = highest
    return corrected
