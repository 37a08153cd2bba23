"""The spatial magnitude of the leads, in which an R peak stands out whatever the electrical axis."""

import numpy as np

SPIKE_MV = 0.5


def spatial_magnitude(leads: np.ndarray) -> np.ndarray:
    """Root mean square over the leads of a float [leads, n] array, float64 [n]."""
    return np.sqrt(np.mean(np.square(leads, dtype=np.float64), axis=0))


def without_pacing_spikes(leads: np.ndarray) -> np.ndarray:
    """Leads [leads, n] in mV at 500 Hz, of which spikes up to 4 ms wide and over 0.5 mV high are taken off.

    A pacing spike is 0.5 to 2 ms wide and may be higher than the R wave that follows it. Five samples' median is without
    it; a QRS complex, ten times as wide, differs from that by less than 0.5 mV, and so stays as it is.
    """
    n = leads.shape[1]
    padded = np.pad(leads, ((0, 0), (2, 2)), mode="edge")
    a, b, c, d, e = (padded[:, k : k + n] for k in range(5))
    # Of four values neither the least nor the greatest is the median of the five.
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    median = np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), e))
    return np.where(np.abs(leads - median) > SPIKE_MV, median, leads)
