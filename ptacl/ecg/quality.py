"""What is wrong with a strip: flags to keep, and reasons to refuse it."""

from dataclasses import dataclass

import numpy as np

from ptacl.ecg.record import CHEST, LIMB, LIMB_FROM_I_II, EcgRecord, derive_limb_leads
from ptacl.errors import UnusableEcg

FLAT_MV, FLAT_DISTINCT = 0.005, 20
SATURATED_SHARE, DROPOUT_S, DROPOUT_SAMPLES = 0.01, 0.2, 50
EINTHOVEN_FLAG_MV, EINTHOVEN_REJECT_MV = 0.020, 0.100
MAX_FLAT_LEADS, MAX_MISSING_SHARE, MIN_SECONDS = 3, 0.01, 9.9


@dataclass(frozen=True)
class Quality:
    """flat: bool [12]; flags; what the limb leads miss their identities by (NaN where none can be tried)."""

    flat: np.ndarray
    flags: frozenset[str]
    einthoven_mv: float


def complete_leads(record: EcgRecord) -> tuple[np.ndarray, set[str]]:
    """All twelve leads, float32 [12, n], absent limb leads derived from those there; and flags.

    Raises UnusableEcg(`missing_leads`) with fewer than two independent limb leads or a chest lead absent.
    """
    if not record.present[CHEST].all():
        raise UnusableEcg("missing_leads", "a chest lead is absent")
    signal, present = derive_limb_leads(record.signal, record.present)
    if not present[LIMB].all():
        raise UnusableEcg("missing_leads", "fewer than two independent limb leads")
    return signal, set() if record.present.all() else {"leads_derived"}


def fill_gaps(signal: np.ndarray) -> tuple[np.ndarray, bool]:
    """Samples that are no number, up to 1 %, filled by linear interpolation; more raise UnusableEcg(`bad_values`)."""
    bad = ~np.isfinite(signal)
    if not bad.any():
        return signal, False
    if bad.mean() > MAX_MISSING_SHARE or bad.all(axis=1).any():
        raise UnusableEcg("bad_values", "more than 1 % of the samples are no numbers")
    filled, x = signal.copy(), np.arange(signal.shape[1])
    for lead in np.flatnonzero(bad.any(axis=1)):
        filled[lead, bad[lead]] = np.interp(x[bad[lead]], x[~bad[lead]], signal[lead, ~bad[lead]])
    return filled, True


def assess(signal: np.ndarray, rate_hz: float, present: np.ndarray) -> Quality:
    """Quality of a complete strip, float [12, n] in mV, on the file's own grid. Raises UnusableEcg.

    `present` [12]: leads that the file holds; an identity with one that was computed from others proves nothing.
    """
    flat = np.array([x.std() < FLAT_MV or len(np.unique(x)) < FLAT_DISTINCT for x in signal])
    if flat.sum() > MAX_FLAT_LEADS:
        raise UnusableEcg("flat_leads", f"{flat.sum()} leads are flat")
    flags = set()
    if flat.any():
        flags.add("flat_lead")
    live = signal[~flat]
    extreme = (live == live.max(1, keepdims=True)) | (live == live.min(1, keepdims=True))
    if (extreme.mean(1) > SATURATED_SHARE).any():
        flags.add("saturated")
    if any(_longest_constant(x) > max(DROPOUT_S * rate_hz, DROPOUT_SAMPLES) for x in live):
        flags.add("dropout")
    residual = limb_residual_mv(signal, present & ~flat)
    if residual > EINTHOVEN_REJECT_MV:
        raise UnusableEcg("einthoven", "the limb leads contradict each other: swapped, mislabelled or broken")
    if residual > EINTHOVEN_FLAG_MV:
        flags.add("einthoven")
    return Quality(flat, frozenset(flags), residual)


def limb_residual_mv(signal: np.ndarray, usable: np.ndarray) -> float:
    """How far the limb leads miss Einthoven's and Goldberger's identities: the worst of them; NaN where none applies.

    The 99th percentile over time: a swapped lead is wrong during the QRS complex, 4 % of the time, which a median hides;
    a true recording misses by rounding only, 5 µV at most in every public sample.
    """
    missed = [
        float(np.percentile(np.abs(signal[lead] - weights @ signal[:2]), 99))
        for lead, weights in enumerate(LIMB_FROM_I_II.astype(np.float32))
        if lead > 1 and usable[[0, 1, lead]].all()
    ]
    return max(missed, default=float("nan"))


def noise_ratio(strip: np.ndarray, rate_hz: float) -> float:
    """Power above 40 Hz over power from 5 to 40 Hz, over all leads."""
    power = np.square(np.abs(np.fft.rfft(strip, axis=1))).sum(0)
    frequency = np.fft.rfftfreq(strip.shape[1], 1 / rate_hz)
    signal = power[(frequency >= 5) & (frequency <= 40)].sum()
    return float(power[frequency > 40].sum() / signal) if signal > 0 else float("nan")


def _longest_constant(x: np.ndarray) -> int:
    """Length of the longest run of equal samples."""
    changes = np.flatnonzero(np.diff(x) != 0)
    return int(np.diff(np.concatenate([[-1], changes, [len(x) - 1]])).max())
