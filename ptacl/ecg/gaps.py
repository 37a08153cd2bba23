"""Samples that a lead lacks: found, held within limits, and filled."""

import numpy as np

from ptacl.errors import UnusableEcg

SPIKE_MV = 30.0
MAX_SPIKE_SHARE = 0.01
MAX_MISSING_SHARE, MAX_MISSING_OF_LEAD, MAX_GAP_S = 0.01, 0.05, 0.2


def without_spikes(signal: np.ndarray) -> np.ndarray:
    """Samples of a float [leads, n] signal in mV that lie over 30 mV from their lead's median become NaN.

    No heart reaches that: they are discharges, or sentinels such as -32768 counts. Where more than 1 % of a lead lie
    there, its unit is wrong rather than its samples, and they stay for `quality.check_amplitude`.
    """
    # A sample can't lie further from the median than the lead's range, which is quick to find.
    wide = np.flatnonzero(np.fmax.reduce(signal, axis=1) - np.fmin.reduce(signal, axis=1) > SPIKE_MV)
    if len(wide) == 0:
        return signal
    signal = signal.copy()
    for lead in wide:
        with np.errstate(invalid="ignore"):  # of infinite samples, which are gaps anyway
            far = np.abs(signal[lead] - np.nanmedian(signal[lead])) > SPIKE_MV
        if far.mean() <= MAX_SPIKE_SHARE:
            signal[lead, far] = np.nan
    return signal


def fill_gaps(signal: np.ndarray, rate_hz: float) -> tuple[np.ndarray, bool]:
    """Samples of a float [leads, n] signal that are no number, filled by linear interpolation; and whether any was.

    Raises UnusableEcg(`bad_values`) with more than 1 % of all samples, 5 % of a lead or 200 ms on end.
    """
    bad = ~np.isfinite(signal)
    if not bad.any():
        return signal, False
    longest = max(longest_run(b) for b in bad)
    if bad.mean() > MAX_MISSING_SHARE or bad.mean(axis=1).max() > MAX_MISSING_OF_LEAD or longest > MAX_GAP_S * rate_hz:
        raise UnusableEcg("bad_values", "over 1 % of all samples, 5 % of a lead's or 200 ms on end are no numbers")
    filled, x = signal.copy(), np.arange(signal.shape[1])
    for lead in np.flatnonzero(bad.any(axis=1)):
        filled[lead, bad[lead]] = np.interp(x[bad[lead]], x[~bad[lead]], signal[lead, ~bad[lead]])
    return filled, True


def longest_run(true: np.ndarray) -> int:
    """Length of the longest run of True in a bool [n] array."""
    edges = np.flatnonzero(np.diff(true, prepend=False, append=False))
    return int((edges[1::2] - edges[::2]).max(initial=0))
