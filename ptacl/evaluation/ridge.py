"""The probe: ridge regression on frozen features, its strength chosen within the training split."""

from collections.abc import Sequence

import numpy as np

ALPHAS = np.logspace(-2, 5, 15)
FOLDS = 5
MIN_TRAINING = 3
# A column that varies by less than this share of its mean holds the rounding of float32, not information.
MIN_SPREAD = 1e-6


def probe(features: np.ndarray, targets: np.ndarray, subjects: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Predictions float64 [n, K] of ridge regressions fitted on the training split.

    features: [n, D], standardised here by the training rows, NaN where missing; targets: [n, K], NaN where missing;
    subjects: ids by row, so that all visits of a person share a fold; rows: bool [n], the training split. Alpha is
    chosen per target by cross-validation over the subjects of the training split. A target known for fewer than three
    training rows predicts NaN; features without spread predict the training mean.
    """
    x, fold = standardised(features, rows), subject_folds(subjects, rows)
    predictions = np.full(targets.shape, np.nan)
    known = rows[:, None] & np.isfinite(targets)
    for columns in _columns_known_alike(known):
        train = known[:, columns[0]]
        if train.sum() >= MIN_TRAINING:
            y = targets[np.ix_(train, columns)]
            chosen = choose_alphas(x[train], y, fold[train])
            by_alpha = ridge_predictions(x[train], y, ALPHAS[np.unique(chosen)], x)
            for column, place in zip(columns, np.searchsorted(np.unique(chosen), chosen), strict=True):
                predictions[:, column] = by_alpha[place, :, columns.index(column)]
    return predictions


def choose_alphas(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Place in ALPHAS, per target, of the smallest squared error over the folds; the largest alpha for one fold only.

    x: [n, D]; y: [n, K], complete; fold: int [n].
    """
    present = np.unique(fold)
    if len(present) < 2:
        return np.full(y.shape[1], len(ALPHAS) - 1)
    error = np.zeros((len(ALPHAS), y.shape[1]))
    for held_out in (fold == f for f in present):
        predicted = ridge_predictions(x[~held_out], y[~held_out], ALPHAS, x[held_out])
        error += np.square(predicted - y[held_out]).sum(1)
    return error.argmin(0)


def ridge_predictions(x: np.ndarray, y: np.ndarray, alphas: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Ridge with intercept for every alpha: predictions [A, m, K] for the rows of `new` [m, D].

    One eigendecomposition serves all alphas and targets: of the D x D Gram matrix, or in the dual form, where there
    are more features than rows, of the n x n one (Hastie, Tibshirani & Friedman, section 3.4.1 and exercise 18.4).
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y, new = x - x_mean, y - y_mean, new - x_mean
    if x.shape[1] <= x.shape[0]:
        spectrum, basis = np.linalg.eigh(x.T @ x)
        onto, projected = new @ basis, basis.T @ (x.T @ y)
    else:
        spectrum, basis = np.linalg.eigh(x @ x.T)
        onto, projected = (new @ x.T) @ basis, basis.T @ y
    return onto @ (projected / (np.maximum(spectrum, 0)[:, None] + alphas[:, None, None])) + y_mean


def standardised(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns to mean 0 and SD 1 over the training rows; constant columns become 0, and missing values the mean."""
    x = np.asarray(x, np.float64)
    finite = np.isfinite(x)
    known = finite & rows[:, None]
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, x, 0).sum(0) / count
    centred = np.where(finite, x, mean) - mean
    sd = np.sqrt(np.where(known, np.square(centred), 0).sum(0) / count)
    varies = sd > MIN_SPREAD * np.abs(mean)
    return np.where(varies, centred / np.where(varies, sd, 1), 0.0)


def subject_folds(subjects: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Fold of each training row, -1 elsewhere: the split's subjects in sorted order, dealt out in turn."""
    train = [s for s, inside in zip(subjects, rows, strict=True) if inside]
    number = {s: i for i, s in enumerate(sorted(set(train)))}
    return np.array([number[s] % FOLDS if inside else -1 for s, inside in zip(subjects, rows, strict=True)], int)


def _columns_known_alike(known: np.ndarray) -> list[list[int]]:
    """Columns grouped by the rows in which they are known, so that each group shares its decompositions."""
    groups: dict[bytes, list[int]] = {}
    for j in range(known.shape[1]):
        groups.setdefault(known[:, j].tobytes(), []).append(j)
    return list(groups.values())
