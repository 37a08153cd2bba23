"""From a record to what the model reads: ten seconds, 500 Hz, baseline-free, 5 µV per count."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.signal import filtfilt, iirnotch, resample_poly

from ptacl.ecg import phase, quality
from ptacl.ecg.baseline import baseline, smoothing_of_corner
from ptacl.ecg.record import EcgRecord
from ptacl.ecg.rpeaks import find_r_peaks, heart_rate_bpm
from ptacl.errors import UnusableEcg

RATE_HZ, SAMPLES = phase.RATE_HZ, 5000
MV_PER_COUNT = 0.005
MAX_SECONDS_UKB = 10.1
NOTCH_Q = 30


@dataclass(frozen=True)
class CleanEcg:
    """A usable recording on the common grid.

    counts: int16 [12, 5000], baseline-free, 5 µV per count; flat leads are zero and False in lead_mask.
    median_beat: int16 [12, 600], same unit, R peak at sample 200.
    r_peaks: float64, samples on the 500 Hz strip. drift_uv: half the range of the removed baseline.
    """

    counts: np.ndarray
    median_beat: np.ndarray
    lead_mask: np.ndarray
    r_peaks: np.ndarray
    heart_rate_bpm: float
    r_method: str
    r_agreement: float | None
    beats_matched: float | None
    rr_irregularity: float
    phase_ok: bool
    t_end_ms: float | None
    noise_ratio: float
    drift_uv: float
    einthoven_uv: float
    flags: frozenset[str]


def clean_ecg(record: EcgRecord, settings: Mapping[str, Any], source: str) -> CleanEcg:
    """Cleans one record; `settings` holds corner_hz, mains_hz, poor_quality, pacemaker. Raises UnusableEcg with a reason."""
    flags = set(record.flags)
    for flag in ("poor_quality", "pacemaker"):
        if flag in flags and settings[flag] == "drop":
            raise UnusableEcg(flag, "dropped by the config")
    signal, found = quality.complete_leads(record)
    flags |= found
    signal, cropped = _ten_seconds(signal, record.rate_hz, source)
    flags |= cropped
    signal, filled = quality.fill_gaps(signal)
    flags |= {"gaps"} if filled else set()
    assessed = quality.assess(signal, record.rate_hz, record.present)
    flags |= assessed.flags

    strip = _resampled(signal.astype(np.float64), record.rate_hz)
    wander = baseline(strip, smoothing_of_corner(settings["corner_hz"], RATE_HZ))
    strip -= wander
    if settings["mains_hz"] and settings["mains_hz"] not in record.mains_filter_hz:
        strip = filtfilt(*iirnotch(settings["mains_hz"], NOTCH_Q, fs=RATE_HZ), strip, axis=1)
    strip[assessed.flat] = 0
    peaks = find_r_peaks(strip, RATE_HZ, record, ~assessed.flat)
    ok = phase.phase_ok(peaks.samples) and "atrial_fibrillation" not in flags
    if len(peaks.samples) < 2:
        flags.add("no_beats")
    if peaks.agreement is not None and abs(peaks.agreement - 1) > 0.15:
        flags.add("rate_disagrees")
    device_beat = _device_beat(record)
    beat = phase.align_beat(device_beat) if device_beat is not None else phase.median_beat(strip, peaks.samples)
    beat[assessed.flat] = 0
    rate = heart_rate_bpm(peaks.samples, RATE_HZ)
    return CleanEcg(
        counts=_counts(strip),
        median_beat=_counts(beat),
        lead_mask=~assessed.flat,
        r_peaks=peaks.samples.astype(np.float64),
        heart_rate_bpm=rate,
        r_method=peaks.method,
        r_agreement=peaks.agreement,
        beats_matched=peaks.beats_matched,
        rr_irregularity=phase.rr_irregularity(peaks.samples),
        phase_ok=ok,
        t_end_ms=_t_end(record, device_beat, beat, rate),
        noise_ratio=quality.noise_ratio(strip, RATE_HZ),
        drift_uv=float(np.ptp(wander[~assessed.flat], axis=1).max() / 2 * 1000),
        einthoven_uv=assessed.einthoven_mv * 1000,
        flags=frozenset(flags),
    )


def _ten_seconds(signal: np.ndarray, rate_hz: float, source: str) -> tuple[np.ndarray, set[str]]:
    """The first ten seconds on the file's grid; a strip a little short is padded with its last value."""
    n, wanted = signal.shape[1], round(10 * rate_hz)
    if n < quality.MIN_SECONDS * rate_hz:
        raise UnusableEcg("too_short", f"{n / rate_hz:.1f} s, at least {quality.MIN_SECONDS} s are needed")
    if source == "ukb" and n > MAX_SECONDS_UKB * rate_hz:
        raise UnusableEcg("wrong_length", f"{n / rate_hz:.1f} s, a UK Biobank strip has 10 s")
    if n > wanted:
        return signal[:, :wanted], {"cropped"}
    if n < wanted:
        return np.pad(signal, ((0, 0), (0, wanted - n)), mode="edge"), {"padded"}
    return signal, set()


def _resampled(signal: np.ndarray, rate_hz: float) -> np.ndarray:
    """Anti-aliased to 500 Hz: float64 [12, 5000]."""
    ratio = Fraction(RATE_HZ / rate_hz).limit_denominator(1000)
    if ratio != 1:
        # Resampling assumes zeros beyond the ends: the line from first to last sample is taken away and put back.
        signal = resample_poly(signal, ratio.numerator, ratio.denominator, axis=1, padtype="line")[:, :SAMPLES]
        signal = np.pad(signal, ((0, 0), (0, SAMPLES - signal.shape[1])), mode="edge")
    return signal


def _device_beat(record: EcgRecord) -> np.ndarray | None:
    """The device's median beat on the 500 Hz grid, float [12, m]; None where it gives none that is whole."""
    beat = record.median_beat
    if beat is None or not np.isfinite(beat).all() or not 0.5 <= beat.shape[1] / record.median_rate_hz <= 3:
        return None
    ratio = Fraction(RATE_HZ / record.median_rate_hz).limit_denominator(1000)
    return beat if ratio == 1 else resample_poly(beat, ratio.numerator, ratio.denominator, axis=1, padtype="line")


def _t_end(record: EcgRecord, device_beat: np.ndarray | None, beat: np.ndarray, rate_bpm: float) -> float | None:
    """The device's T offset, counted from the R peak of its median beat; else ours."""
    offset = record.measurements.get("t_offset_ms", np.nan)
    if device_beat is not None and np.isfinite(offset):
        magnitude = np.square(device_beat - np.median(device_beat, axis=1, keepdims=True)).sum(0)
        after_r = offset - float(np.argmax(magnitude)) / RATE_HZ * 1000
        if 100 < after_r < 800:
            return after_r
    return phase.t_end_ms(beat, 60000 / rate_bpm) if np.isfinite(rate_bpm) else None


def _counts(millivolt: np.ndarray) -> np.ndarray:
    return np.clip(np.round(millivolt / MV_PER_COUNT), -32767, 32767).astype(np.int16)
