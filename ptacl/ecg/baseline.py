"""Baseline wander removed by asymmetric least squares, with its corner stated in Hz.

Eilers & Boelens' smoother (2005): minimise sum w_i (y_i - z_i)^2 + lambda sum (second difference of z)^2, with w_i = p
where the signal lies above the baseline and 1 - p below, a few times over. The matrix has five diagonals, so that one
pass down and one pass up solve it; in float64, since in float32 it is no longer positive definite.
"""

import numpy as np

from ptacl.compiled import compiled

ASYMMETRY, ITERATIONS = 0.3, 5
# Weights are p or 1 - p; their mean decides the corner.
_MEAN_WEIGHT = 0.5


def smoothing_of_corner(corner_hz: float, rate_hz: float) -> float:
    """Lambda for which the baseline keeps half of a sine at `corner_hz`.

    The smoother's gain is w / (w + lambda (2 - 2 cos omega)^2), which is 1/2 at (2 - 2 cos omega)^2 = w / lambda.
    """
    omega = 2 * np.pi * corner_hz / rate_hz
    return float(_MEAN_WEIGHT / (2 - 2 * np.cos(omega)) ** 2)


def baseline(signal: np.ndarray, smoothing: float, p: float = ASYMMETRY, iterations: int = ITERATIONS) -> np.ndarray:
    """The baseline of each row of a float [leads, n] array, float64 [leads, n]; n of at least 4."""
    by_sample = np.ascontiguousarray(np.asarray(signal, np.float64).T)
    return _solve(by_sample, *_second_difference_bands(len(by_sample)), smoothing, p, iterations).T


def _second_difference_bands(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagonal, first and second upper diagonal of D'D for the second-difference operator D: float64 [n] each."""
    diagonal, first, second = np.full(n, 6.0), np.full(n, -4.0), np.ones(n)
    diagonal[[0, -1]], diagonal[[1, -2]] = 1, 5
    first[[0, n - 2]], first[-1], second[-2:] = -2, 0, 0
    return diagonal, first, second


@compiled("float64[:,::1](float64[:,::1], float64[::1], float64[::1], float64[::1], float64, float64, int64)")
def _solve(y, diagonal, first, second, smoothing, p, iterations):  # noqa: ANN001, ANN202 (numba infers the types)
    """Baselines of the columns of y [n, leads]. The inner loop runs over leads, which the compiler turns into vectors.

    A = L D L' with unit lower L of two subdiagonals e and f; forward substitution goes along with the factorisation.
    """
    n, leads = y.shape
    z, u = np.empty((n, leads)), np.empty((n, leads))
    e, f, g = np.zeros((n, leads)), np.zeros((n, leads)), np.zeros((n, leads))
    weight = np.ones((n, leads))
    for _ in range(iterations):
        for i in range(n):
            for k in range(leads):
                w = weight[i, k]
                pivot, right, across = smoothing * diagonal[i] + w, w * y[i, k], smoothing * first[i]
                if i >= 1:
                    pivot -= g[i - 1, k] * e[i - 1, k]
                    right -= e[i - 1, k] * u[i - 1, k]
                    across -= g[i - 1, k] * f[i - 1, k]
                if i >= 2:
                    pivot -= smoothing * second[i - 2] * f[i - 2, k]
                    right -= f[i - 2, k] * u[i - 2, k]
                inverse = 1 / pivot
                g[i, k], e[i, k], f[i, k] = across, across * inverse, smoothing * second[i] * inverse
                u[i, k], z[i, k] = right, right * inverse
        for i in range(n - 1, -1, -1):
            for k in range(leads):
                if i + 1 < n:
                    z[i, k] -= e[i, k] * z[i + 1, k]
                if i + 2 < n:
                    z[i, k] -= f[i, k] * z[i + 2, k]
                weight[i, k] = p if y[i, k] > z[i, k] else 1 - p
    return z
