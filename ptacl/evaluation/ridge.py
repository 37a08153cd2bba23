"""The probe: ridge regression on frozen features, its strength chosen within the training split."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ALPHAS = np.logspace(-2, 5, 15)
FOLDS = 5
# Fewer labelled rows than this teach nothing.
LEAST_ROWS = 3
# Wider features (the phase bins of a large encoder side by side) are cut to this many principal components, found from so
# many random directions more, in so many passes (Halko, Martinsson and Tropp 2011).
MOST_COLUMNS, COMPONENTS, EXTRA, PASSES = 1024, 512, 32, 1
COLUMNS_AT_A_TIME = 64


def probe(features: np.ndarray, targets: np.ndarray, subjects: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Predictions [n, targets] of ridge regressions fitted on the labelled rows of the training split.

    features: [n, D], standardised here by the training rows, wider than MOST_COLUMNS cut to COMPONENTS; targets: [n, K]
    with NaN where missing; subjects: ids by row, so that visits of one person share a fold; rows: bool [n], those fitted.
    Alpha is chosen per target by cross-validation over people. Columns with fewer than LEAST_ROWS values predict NaN.
    """
    x = narrowed(standardised(features, rows), rows).astype(np.float64)
    predictions = np.full(targets.shape, np.nan)
    for columns, fit in _fits(x, targets, subjects, rows):
        predictions[:, columns] = fit.predict(x)
    return predictions


@dataclass(frozen=True)
class Heads:
    """Ridge regressions of plain features: predictions are `features @ weight + intercept`. float64 [D, K] and [K].

    Of targets with too few labels all is NaN.
    """

    weight: np.ndarray
    intercept: np.ndarray


def fit_heads(features: np.ndarray, targets: np.ndarray, subjects: Sequence[str], rows: np.ndarray) -> Heads:
    """The probe as something to keep: predicts what `probe` does, up to rounding, from features nobody has seen.

    Arguments as of `probe`; features at most MOST_COLUMNS wide.
    """
    x = standardised(features, rows).astype(np.float64)
    basis = _row_space(x[rows])
    basis = np.eye(x.shape[1]) if basis is None else basis
    mean, scale = _moments(features[rows].astype(np.float64))
    weight, intercept = np.full((len(mean), targets.shape[1]), np.nan), np.full(targets.shape[1], np.nan)
    for columns, fit in _fits(x @ basis, targets, subjects, rows):
        weight[:, columns] = scale[:, None] * (basis @ fit.weights)
        intercept[columns] = fit.intercept - mean @ weight[:, columns]
    return Heads(weight, intercept)


def _fits(
    x: np.ndarray, targets: np.ndarray, subjects: Sequence[str], rows: np.ndarray
) -> Iterator[tuple[np.ndarray, "_Ridge"]]:
    """Ridges of prepared features float64 [n, D] on the labelled rows, by columns of targets that are known of the same rows."""
    fold, known = _folds(subjects, rows), np.isfinite(targets) & rows[:, None]
    for columns in _alike(known):
        inside = known[:, columns[0]]
        if inside.sum() >= LEAST_ROWS:
            yield columns, _Ridge(x[inside], targets[np.ix_(inside, columns)], fold[inside])


def choose_alphas(x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Per column of y [n, K] the alpha with the smallest squared error over the folds; the largest where there is one fold."""
    return _Ridge(x, y, fold).alphas


class _Ridge:
    """Ridge with intercept of y [n, K] on x [n, D], from sums of products of every fold: no fold is visited twice."""

    def __init__(self, x: np.ndarray, y: np.ndarray, fold: np.ndarray) -> None:
        parts = [(x[fold == f], y[fold == f]) for f in np.unique(fold)]
        sums = [_sums(a, b) for a, b in parts]
        total = [np.sum(s, axis=0) for s in zip(*sums, strict=True)]
        if len(parts) < 2:
            self.alphas = np.full(y.shape[1], ALPHAS[-1])
        else:
            error = np.zeros((len(ALPHAS), y.shape[1]))
            for (a, b), own in zip(parts, sums, strict=True):
                weights, intercept = _solved([t - o for t, o in zip(total, own, strict=True)], ALPHAS)
                for i in range(len(ALPHAS)):
                    error[i] += np.square(a @ weights[i] + intercept[i] - b).sum(0)
            self.alphas = ALPHAS[np.argmin(error, axis=0)]
        weights, intercept = _solved(total, ALPHAS)
        chosen, k = np.searchsorted(ALPHAS, self.alphas), np.arange(y.shape[1])
        self.weights, self.intercept = weights[chosen, :, k].T, intercept[chosen, k]

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weights + self.intercept


def _sums(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """Number of rows, sums of x and y, and of their products x'x and x'y."""
    return [np.array(float(len(x))), x.sum(0), y.sum(0), x.T @ x, x.T @ y]


def _solved(sums: list[np.ndarray], alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [alphas, D, K] and intercepts [alphas, K]."""
    n, sx, sy, sxx, sxy = sums
    mean_x, mean_y = sx / n, sy / n
    values, vectors = np.linalg.eigh(sxx - n * np.outer(mean_x, mean_x))
    along = vectors.T @ (sxy - n * np.outer(mean_x, mean_y))
    shrunk = along / (np.maximum(values, 0)[:, None] + alphas[:, None, None])
    weights = vectors @ shrunk
    return weights, mean_y - mean_x @ weights


def _alike(known: np.ndarray) -> Iterator[np.ndarray]:
    """Columns of bool [n, K] in groups that are the same: one factorisation serves all targets known of the same rows."""
    groups: dict[bytes, list[int]] = {}
    for j in range(known.shape[1]):
        groups.setdefault(np.packbits(known[:, j]).tobytes(), []).append(j)
    yield from map(np.array, groups.values())


def narrowed(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Features [n, D] as they are, or wider ones as principal components of the training rows, not scaled: [n, COMPONENTS].

    Where the training rows are fewer than the columns: turned to the directions that they span, which changes no ridge.

    Deterministic: the random directions come from a fixed seed.
    """
    if x.shape[1] <= MOST_COLUMNS or rows.sum() <= COMPONENTS + EXTRA:
        return x @ basis if (basis := _row_space(x[rows])) is not None else x
    x = x.astype(np.float32, copy=False)
    train = x[rows]
    start = np.random.default_rng(0).standard_normal((x.shape[1], COMPONENTS + EXTRA), np.float32)
    basis = np.linalg.qr(start)[0]
    for _ in range(PASSES):
        basis = np.linalg.qr(train.T @ (train @ basis))[0]
    inside = train @ basis
    _, turn = np.linalg.eigh((inside.T @ inside).astype(np.float64))
    return x @ (basis @ turn[:, ::-1][:, :COMPONENTS].astype(np.float32))


def _row_space(train: np.ndarray) -> np.ndarray | None:
    """Orthonormal directions [D, n] that span n rows [n, D], where these are fewer than columns; else None.

    A ridge looks along no other direction, and does not mind being turned: with few people and a wide embedding the same
    predictions cost a hundredth.
    """
    if not 0 < len(train) < train.shape[1]:
        return None
    return np.linalg.svd(train.astype(np.float64), full_matrices=False)[2].T


def standardised(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Columns to mean 0 and SD 1 over the training rows; constant columns become 0, missing values the mean.

    In the precision of x (float32 or float64).
    """
    if not rows.any():
        return np.zeros_like(x)
    found = np.empty_like(x)
    # A few columns at a time, in float64: sums over 17,000 values of float32 would lose four digits.
    for first in range(0, x.shape[1], COLUMNS_AT_A_TIME):
        columns = slice(first, first + COLUMNS_AT_A_TIME)
        part = x[:, columns].astype(np.float64)
        unknown = ~np.isfinite(part)
        part[unknown] = np.nan
        mean, scale = _moments(part[rows])
        part -= mean
        part *= scale
        part[unknown] = 0
        found[:, columns] = part
    return found


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and 1 / SD of the columns of float64 [n, D] over known values; 0 for the latter where a column is constant."""
    # The plain ones, where all are known, need no copies.
    moments = (np.nanmean, np.nanstd) if np.isnan(x).any() else (np.mean, np.std)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any known value
        mean, sd = (np.nan_to_num(of(x, axis=0)) for of in moments)
    return mean, np.where(sd > 1e-12, 1 / np.maximum(sd, 1e-12), 0)


def _folds(subjects: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Fold of each training row, -1 elsewhere: the split's people in sorted order in turn, all visits of one alike."""
    train = {s for s, inside in zip(subjects, rows.tolist(), strict=True) if inside}
    number = {s: i for i, s in enumerate(sorted(train))}
    return np.array([number[s] % FOLDS if i else -1 for s, i in zip(subjects, rows.tolist(), strict=True)], int)
