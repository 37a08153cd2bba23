"""Baseline wander removed by asymmetric least squares, with its corner stated in Hz.

Eilers & Boelens' smoother: minimise sum w_i (y_i - z_i)^2 + lambda sum (second difference of z)^2, with w_i = p where the
signal lies above the baseline and 1 - p below, a few times over. Solved as a banded system in float64 (in float32 the
matrix is no longer positive definite).
"""

import numpy as np
from scipy.linalg import solveh_banded

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
    """The baseline of each row of a float [leads, n] array, float64 [leads, n]; n of at least 5."""
    signal = np.asarray(signal, np.float64)
    penalty = _second_difference_bands(signal.shape[1]) * smoothing
    result = np.empty_like(signal)
    for lead, y in enumerate(signal):
        weight = np.full(len(y), _MEAN_WEIGHT)
        for _ in range(iterations):
            bands = penalty.copy()
            bands[2] += weight
            z = solveh_banded(bands, weight * y, overwrite_ab=True, overwrite_b=True, check_finite=False)
            weight = np.where(y > z, p, 1 - p)
        result[lead] = z
    return result


def _second_difference_bands(n: int) -> np.ndarray:
    """The upper bands of D'D for the second-difference operator D, as `solveh_banded` wants them: float64 [3, n]."""
    bands = np.zeros((3, n))
    bands[0, 2:] = 1
    bands[1, 1:] = -4
    bands[1, [1, -1]] = -2
    bands[2] = 6
    bands[2, [0, -1]] = 1
    bands[2, [1, -2]] = 5
    return bands
