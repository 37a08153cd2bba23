"""From a record to what the model reads: ten seconds, 500 Hz, baseline-free, 5 µV per count."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.signal import filtfilt, iirnotch, resample_poly

from ptacl.ecg import phase, quality
from ptacl.ecg.baseline import baseline, smoothing_of_corner
from ptacl.ecg.gaps import fill_gaps, without_spikes
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
    signal, assessed, found = _whole_strip(record, source)
    flags |= found | assessed.flags

    strip = _resampled(signal.astype(np.float64), record.rate_hz)
    wander = baseline(strip, smoothing_of_corner(settings["corner_hz"], RATE_HZ))
    strip -= wander
    if settings["mains_hz"] and settings["mains_hz"] not in record.mains_filter_hz:
        strip = filtfilt(*iirnotch(settings["mains_hz"], NOTCH_Q, fs=RATE_HZ), strip, axis=1)
    strip[assessed.flat] = 0
    peaks = find_r_peaks(strip, RATE_HZ, record, ~assessed.flat)
    ok = phase.phase_ok(peaks.samples) and "atrial_fibrillation" not in flags and not peaks.shifted
    if len(peaks.samples) < 2:
        flags.add("no_beats")
    if peaks.agreement is not None and abs(peaks.agreement - 1) > 0.15:
        flags.add("rate_disagrees")
    if quality.implausible(record.measurements):
        flags.add("measurement_implausible")
    if peaks.shifted:
        flags.add("beats_shifted")
    rate = heart_rate_bpm(peaks.samples, RATE_HZ)
    beat, t_end = _device_beat(record)
    if beat is None:
        beat = phase.median_beat(strip, peaks.samples)
    beat[assessed.flat] = 0
    if t_end is None and np.isfinite(rate):
        t_end = phase.t_end_ms(beat, 60000 / rate)
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
        t_end_ms=t_end,
        noise_ratio=quality.noise_ratio(strip, RATE_HZ),
        drift_uv=float(np.ptp(wander[~assessed.flat], axis=1).max() / 2 * 1000),
        einthoven_uv=assessed.einthoven_mv * 1000,
        flags=frozenset(flags),
    )


def _whole_strip(record: EcgRecord, source: str) -> tuple[np.ndarray, quality.Quality, set[str]]:
    """Ten seconds of twelve leads without gaps, float32 [12, n] in mV on the file's grid; their quality; and flags."""
    quality.check_leads(record.present)
    signal, flags = _ten_seconds(record.signal, record.rate_hz, source)
    measured, filled = fill_gaps(without_spikes(signal[record.present]), record.rate_hz)
    quality.check_amplitude(measured)
    signal = signal.copy()
    signal[record.present] = measured
    signal, flat, derived = quality.complete_leads(signal, record.present)
    gaps = {"gaps"} if filled else set()
    return signal, quality.assess(signal, record.rate_hz, record.present, flat), flags | derived | gaps


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


def _device_beat(record: EcgRecord) -> tuple[np.ndarray | None, float | None]:
    """The device's median beat, float32 [12, 600] at 500 Hz, R peak at sample 200; and its T offset, in ms from there."""
    beat, said = record.median_beat, record.measurements
    if beat is None:
        return None, None
    ratio = Fraction(RATE_HZ / record.median_rate_hz).limit_denominator(1000)
    if ratio != 1:
        beat = resample_poly(beat, ratio.numerator, ratio.denominator, axis=1, padtype="line")
    r = phase.r_of_beat(beat, (said.get("q_onset_ms", np.nan), said.get("q_offset_ms", np.nan)))
    after_r = said.get("t_offset_ms", np.nan) - r / RATE_HZ * 1000
    return phase.align_beat(beat, r), after_r if 100 < after_r < 800 else None


def _counts(millivolt: np.ndarray) -> np.ndarray:
    return np.clip(np.round(millivolt / MV_PER_COUNT), -32767, 32767).astype(np.int16)
