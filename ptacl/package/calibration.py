"""What may be said of a prediction: split-conformal intervals, the training range, and whether an ECG is like those learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Share of truths that intervals hold, and of ordinary ECGs that pass as such.
COVERAGE, TYPICAL = 0.9, 0.99
# The training range leaves out this share at either end, since extremes are individuals; with fewer values there is none.
BEYOND, LEAST_VALUES = 0.01, 500
# Digits of what is the value of one person, though nobody can tell whose: errors and distances at a quantile.
DIGITS = 2
# Added to the variance along every direction, as a share of the mean variance: directions hardly used tell nothing.
FLOOR = 1e-3


def conformal_quantile(scores: np.ndarray, coverage: float) -> float | None:
    """The ceil((n + 1) coverage)-th smallest of n scores, which a further score exceeds with probability 1 - coverage at most.

    Rounded up, since it is somebody's. NaN scores don't count. None where n is too small for any.
    Vovk et al. 2005; Lei et al. 2018, split conformal.
    """
    known = np.sort(scores[np.isfinite(scores)])
    k = int(np.ceil((len(known) + 1) * coverage))
    return rounded_up(float(known[k - 1])) if 0 < k <= len(known) else None


def training_range(values: np.ndarray) -> list[float] | None:
    """The range of known values that leaves out BEYOND of them at either end; None where they are too few to tell."""
    if len(values) < LEAST_VALUES:
        return None
    return [float(f"{q:.{DIGITS + 1}g}") for q in np.quantile(values, (BEYOND, 1 - BEYOND)).tolist()]


def rounded_up(value: float) -> float:
    """To DIGITS + 1 digits, away from zero: intervals hold no less than before."""
    if value == 0 or not np.isfinite(value):
        return value
    unit = 10.0 ** (np.floor(np.log10(abs(value))) - DIGITS)
    return float(f"{np.sign(value) * np.ceil(abs(value) / unit) * unit:.{DIGITS + 2}g}")


def first_visits(subjects: Sequence[str], visits: Sequence[int], inside: np.ndarray) -> np.ndarray:
    """Bool [n]: of the rows `inside`, each person's first visit; calibration needs people who are independent."""
    first: dict[str, int] = {}
    for i in np.flatnonzero(inside).tolist():
        best = first.setdefault(subjects[i], i)
        if visits[i] < visits[best]:
            first[subjects[i]] = i
    found = np.zeros(len(inside), bool)
    found[list(first.values())] = True
    return found


@dataclass(frozen=True)
class Typical:
    """Where the features of ordinary ECGs lie. mean [D], whiten [D, D]: to features that are uncorrelated and of SD 1."""

    mean: np.ndarray
    whiten: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Typical":
        """From features [n, D] of the training split."""
        x = features.astype(np.float64)
        if len(x) < 2:
            return cls(np.zeros(x.shape[1]), np.eye(x.shape[1]))
        mean = x.mean(0)
        values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1))
        values = np.maximum(values, 0)
        scale = 1 / np.sqrt(values + FLOOR * max(values.mean(), 1e-12))
        return cls(mean, vectors * scale)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Mahalanobis distance [n] of features [n, D] from the mean."""
        return np.linalg.norm((features.astype(np.float64) - self.mean) @ self.whiten, axis=1)
