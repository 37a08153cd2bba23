"""The probe: ridge regression on frozen features, its strength chosen within the training split."""

import warnings
from collections.abc import Sequence

import numpy as np

ALPHAS = np.logspace(-2, 5, 15)
FOLDS = 5


def probe(features: np.ndarray, targets: np.ndarray, subjects: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Predictions [n, targets] of ridge regressions fitted on the rows of the training split.

    features: [n, D], standardised here by the training rows; targets: [n, K] with NaN where missing; subjects: ids by row, so
    that visits of one person share a fold; rows: bool [n], the training split. Alpha is chosen per target by
    cross-validation over subjects. Columns with fewer than three training values, or without spread, predict NaN or the
    mean.
    """
    x = standardised(np.asarray(features, np.float64), rows)
    fold = _folds(subjects, rows)
    predictions = np.full(targets.shape, np.nan)
    for j in range(targets.shape[1]):
        known = rows & np.isfinite(targets[:, j])
        if known.sum() >= 3:
            y = targets[known, j]
            alpha = choose_alpha(x[known], y, fold[known])
            predictions[:, j] = _fit(x[known], y, np.array([alpha]), x)[0]
    return predictions


def choose_alpha(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> float:
    """The alpha with the smallest squared error over the folds present; the largest where there is only one fold."""
    present = np.unique(fold)
    if len(present) < 2:
        return float(ALPHAS[-1])
    error = np.zeros(len(ALPHAS))
    for f in present:
        inside = fold != f
        error += np.square(_fit(x[inside], y[inside], ALPHAS, x[~inside]) - y[~inside]).sum(1)
    return float(ALPHAS[int(np.argmin(error))])


def _fit(x: np.ndarray, y: np.ndarray, alphas: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Ridge with intercept for every alpha: predictions [alphas, new rows]."""
    x_mean, y_mean = x.mean(0), y.mean()
    u, s, vt = np.linalg.svd(x - x_mean, full_matrices=False)
    projected, onto = u.T @ (y - y_mean), (new - x_mean) @ vt.T
    shrink = s / (s * s + alphas[:, None])
    return (shrink * projected) @ onto.T + y_mean


def standardised(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns to mean 0 and SD 1 over the training rows; constant columns become 0, missing values the mean."""
    if not rows.any():
        return np.zeros_like(x)
    x = np.where(np.isfinite(x), x, np.nan)
    train = x[rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any known value
        mean, sd = np.nan_to_num(np.nanmean(train, axis=0)), np.nan_to_num(np.nanstd(train, axis=0))
    varies = sd > 1e-12
    return np.nan_to_num(np.where(varies, (x - mean) / np.where(varies, sd, 1), 0.0))


def _folds(subjects: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Fold of each training row, -1 elsewhere: the split's subjects in sorted order in turn, all visits of one alike."""
    train = {s for s, inside in zip(subjects, rows, strict=True) if inside}
    number = {s: i for i, s in enumerate(sorted(train))}
    return np.array([number[s] % FOLDS if inside else -1 for s, inside in zip(subjects, rows, strict=True)], int)
