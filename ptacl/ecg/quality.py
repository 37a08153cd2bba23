"""What is wrong with a strip: flags to keep, and reasons to refuse it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ptacl.ecg.gaps import longest_run
from ptacl.ecg.record import CHEST, LIMB, LIMB_FROM_I_II, derive_limb_leads
from ptacl.errors import UnusableEcg

MIN_SECONDS = 9.9
MAX_DEVIATION_MV, MIN_RANGE_MV = 20.0, 0.1
FLAT_MV, FLAT_DISTINCT, MAX_FLAT_LEADS = 0.005, 20, 3
SATURATED_SHARE, DROPOUT_S, DROPOUT_SAMPLES = 0.01, 0.2, 50
EINTHOVEN_FLAG_MV, EINTHOVEN_REJECT_MV = 0.020, 0.100
PLAUSIBLE = {"ventricular_rate_bpm": (25, 220), "qrs_ms": (40, 240), "qt_ms": (200, 700)}


@dataclass(frozen=True)
class Quality:
    """flat: bool [12]; flags; what the limb leads miss their identities by (NaN where none can be tried)."""

    flat: np.ndarray
    flags: frozenset[str]
    einthoven_mv: float


def implausible(measurements: Mapping[str, float]) -> bool:
    """Whether the device measured something outside PLAUSIBLE; what it did not measure is not."""
    limits = ((measurements.get(name, np.nan), *limit) for name, limit in PLAUSIBLE.items())
    return any(value < low or value > high for value, low, high in limits)


def check_leads(present: np.ndarray) -> None:
    """Raises UnusableEcg(`missing_leads`) without all chest leads and two limb leads among those present, bool [12]."""
    if not present[CHEST].all():
        raise UnusableEcg("missing_leads", "a chest lead is absent")
    if present[LIMB].sum() < 2:
        raise UnusableEcg("missing_leads", "fewer than two limb leads")


def check_amplitude(measured: np.ndarray) -> None:
    """Raises UnusableEcg(`bad_amplitude`) for leads, float [k, n] in mV, that no heart gives: a wrong unit or gain.

    That is over 20 mV from a lead's median for 1 % of the time, or a range of less than 0.1 mV, without that 1 % on
    either side, in the largest lead. The largest artefact of the public samples reaches 11 mV. Leads that are all
    constant pass, to be refused as flat.
    """
    # The percentiles of every lead would take long; most are decided by the extremes, or by the first lead.
    extent = measured.max(axis=1) - measured.min(axis=1)
    for x in measured[extent > MAX_DEVIATION_MV]:
        low, middle, high = np.percentile(x, (1, 50, 99))
        if max(high - middle, middle - low) > MAX_DEVIATION_MV:
            raise UnusableEcg("bad_amplitude", f"a lead beyond {MAX_DEVIATION_MV:.0f} mV: another unit or gain")
    if extent.any() and all(np.ptp(np.percentile(x, (1, 99))) < MIN_RANGE_MV for x in measured):
        raise UnusableEcg("bad_amplitude", f"no lead reaches {MIN_RANGE_MV} mV: another unit or gain")


def complete_leads(signal: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, set[str]]:
    """All twelve leads of a float [12, n] signal in mV without gaps, which are flat (bool [12]), and flags.

    Absent limb leads are derived from those present [12] and not flat; nothing is derived over a lead that is there.
    Raises UnusableEcg(`missing_leads`) with fewer than two to derive them from.
    """
    flat = flat_leads(signal, present)
    signal, there = derive_limb_leads(signal, present, present & ~flat)
    if not there.all():
        raise UnusableEcg("missing_leads", "limb leads are absent, and fewer than two others are there and not flat")
    derived = there & ~present
    return signal, flat | flat_leads(signal, derived), {"leads_derived"} if derived.any() else set()


def flat_leads(signal: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of the leads `among` (bool [12]) show no heart: bool [12]."""
    return np.array([there and _is_flat(x) for x, there in zip(signal, among, strict=True)])


def _is_flat(x: np.ndarray) -> bool:
    # Where every tenth sample shows enough values, which is quick to see, all of them do.
    few = len(np.unique(x[::10])) < FLAT_DISTINCT and len(np.unique(x)) < FLAT_DISTINCT
    return few or bool(x.std() < FLAT_MV)


def assess(signal: np.ndarray, rate_hz: float, present: np.ndarray, flat: np.ndarray) -> Quality:
    """Quality of a complete strip, float [12, n] in mV, on the file's own grid. Raises UnusableEcg.

    `present` [12]: leads that the file holds; an identity with one that was computed from others proves nothing.
    """
    if flat.sum() > MAX_FLAT_LEADS:
        raise UnusableEcg("flat_leads", f"{flat.sum()} leads are flat")
    flags = set()
    if flat.any():
        flags.add("flat_lead")
    live = signal[~flat]
    extreme = (live == live.max(1, keepdims=True)) | (live == live.min(1, keepdims=True))
    if (extreme.mean(1) > SATURATED_SHARE).any():
        flags.add("saturated")
    if any(longest_run(np.diff(x) == 0) + 1 > max(DROPOUT_S * rate_hz, DROPOUT_SAMPLES) for x in live):
        flags.add("dropout")
    residual = limb_residual_mv(signal, present & ~flat)
    if residual > EINTHOVEN_REJECT_MV:
        raise UnusableEcg("einthoven", "the limb leads contradict each other: swapped, mislabelled or broken")
    if residual > EINTHOVEN_FLAG_MV:
        flags.add("einthoven")
    return Quality(flat, frozenset(flags), residual)


def limb_residual_mv(signal: np.ndarray, usable: np.ndarray) -> float:
    """How far the limb leads that are `usable` (bool [12]) contradict each other; NaN with fewer than three.

    Any two limb leads give every other: the first two usable ones, I and II where they are, are held against each of
    the rest, as an identity whose largest weight is one. Of what it misses, a constant offset (an amplifier's) does not
    count. The 99th percentile over time: a swapped lead is wrong during the QRS complex, 4 % of the time, which a median
    hides; a true recording misses by rounding only, 5 µV at most in every public sample.
    """
    leads = np.flatnonzero(usable[LIMB])
    if len(leads) < 3:
        return float("nan")
    base, others = leads[:2], leads[2:]
    weights = LIMB_FROM_I_II[others] @ np.linalg.inv(LIMB_FROM_I_II[base])
    identities = np.concatenate([weights, -np.eye(len(others))], axis=1)
    identities /= np.abs(identities).max(axis=1, keepdims=True)
    residual = identities.astype(np.float32) @ signal[leads]
    residual -= np.median(residual, axis=1, keepdims=True)
    return float(np.percentile(np.abs(residual), 99, axis=1).max())


def noise_ratio(strip: np.ndarray, rate_hz: float) -> float:
    """Power above 40 Hz over power from 5 to 40 Hz, over all leads."""
    power = np.square(np.abs(np.fft.rfft(strip, axis=1))).sum(0)
    frequency = np.fft.rfftfreq(strip.shape[1], 1 / rate_hz)
    signal = power[(frequency >= 5) & (frequency <= 40)].sum()
    return float(power[frequency > 40].sum() / signal) if signal > 0 else float("nan")
