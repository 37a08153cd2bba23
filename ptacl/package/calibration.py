"""What may be said of a prediction: split-conformal intervals, the training range, and whether an ECG is like those learnt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Share of truths that intervals hold, and of ordinary ECGs that pass as such.
COVERAGE, TYPICAL = 0.9, 0.99
# The training range leaves out this share at either end, and five people at least: extremes are individuals.
BEYOND, PEOPLE_BEYOND = 0.01, 5
# Added to the variance along every direction, as a share of the mean variance: directions hardly used tell nothing.
FLOOR = 1e-3


def conformal_quantile(scores: np.ndarray, coverage: float) -> float | None:
    """The ceil((n + 1) coverage)-th smallest of n scores, which a further score exceeds with probability 1 - coverage at most.

    NaN scores don't count. None where n is too small for any. Vovk et al. 2005; Lei et al. 2018, split conformal.
    """
    known = np.sort(scores[np.isfinite(scores)])
    k = int(np.ceil((len(known) + 1) * coverage))
    return float(known[k - 1]) if 0 < k <= len(known) else None


def training_range(values: np.ndarray) -> tuple[float, float]:
    """The range of known values that leaves out BEYOND of them, and PEOPLE_BEYOND at least, at either end."""
    beyond = min(max(BEYOND, PEOPLE_BEYOND / len(values)), 0.5)
    low, high = np.quantile(values, (beyond, 1 - beyond)).tolist()
    return low, high


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
        mean = x.mean(0)
        values, vectors = np.linalg.eigh(np.cov(x, rowvar=False, bias=True).reshape(x.shape[1], -1))
        values = np.maximum(values, 0)
        scale = 1 / np.sqrt(values + FLOOR * max(values.mean(), 1e-12))
        return cls(mean, vectors * scale)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Mahalanobis distance [n] of features [n, D] from the mean."""
        return np.linalg.norm((features.astype(np.float64) - self.mean) @ self.whiten, axis=1)
