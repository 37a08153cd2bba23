"""R peaks: sleepecg first, a second and a third opinion where it disagrees with the device."""

from dataclasses import dataclass

import numpy as np
import sleepecg

from ptacl.ecg.magnitude import spatial_magnitude, without_pacing_spikes
from ptacl.ecg.record import LEADS, EcgRecord

SEARCH_MS, MATCH_MS = 60, 80
# Devices mark a beat 14 to 26 ms after its R peak in every public sample; a T wave comes 200 ms after it or later.
MAX_LAG_MS = 60
# A beat weaker than this share of the usual one, or a complex this strong and this far from every beat, is doubtful.
WEAK_SHARE, MISSED_SHARE, FAR_MS = 0.4, 0.7, 200


@dataclass(frozen=True)
class RPeaks:
    """Samples of the R peaks on the strip's grid, how they were found, and the agreement with the device.

    agreement: our rate over the device's; None when the device gives none.
    beats_matched: share of the device's beats that lie at one of ours, up to their median lag, lag_ms; None when it
    lists none.
    """

    samples: np.ndarray
    method: str
    agreement: float | None
    beats_matched: float | None
    lag_ms: float | None

    @property
    def shifted(self) -> bool:
        """Whether the device's beats lie elsewhere, as where T waves were taken for R peaks."""
        return self.lag_ms is not None and abs(self.lag_ms) > MAX_LAG_MS


def find_r_peaks(strip: np.ndarray, rate_hz: float, record: EcgRecord, usable: np.ndarray) -> RPeaks:
    """R peaks of a baseline-free strip, float [12, n] in mV, using leads that are `usable` (bool [12]).

    Tried in turn until one agrees with the device (rate within 15 %, number of beats within one, beats at the same
    place) and raises no doubt (see `doubtful_beats`): sleepecg on lead II and on the root mean square of all leads, then
    XQRS on both. Where none does, the one that agrees stands, then the one with the fewest doubtful beats, then the first.
    """
    lead = next((i for i in (1, 0, 10, *range(12)) if usable[i]), 1)
    strip = without_pacing_spikes(strip.astype(np.float32))  # a quarter of float64's time, and exact enough
    magnitude = spatial_magnitude(strip[usable] if usable.any() else strip)
    attempts = []
    for name, signal, detect in (
        (f"sleepecg:{LEADS[lead]}", strip[lead], _sleepecg),
        ("sleepecg:rms", magnitude, _sleepecg),
        (f"xqrs:{LEADS[lead]}", strip[lead], _xqrs),
        ("xqrs:rms", magnitude, _xqrs),
    ):
        samples = _refined(detect(signal.astype(np.float64), rate_hz), magnitude, rate_hz)
        found = RPeaks(samples, name, _agreement(samples, rate_hz, record), *_matched(samples, rate_hz, record))
        doubtful = doubtful_beats(samples, magnitude, rate_hz)
        doubts = (len(samples) < 2, not _agrees(found, record), found.shifted, doubtful)
        if not any(doubts):
            return found
        attempts.append((doubts, found))
    return min(attempts, key=lambda attempt: attempt[0])[1]


def doubtful_beats(samples: np.ndarray, magnitude: np.ndarray, rate_hz: float) -> int:
    """Beats found where the spatial magnitude is low, plus complexes far from any beat where it is high.

    An adaptive threshold that starts on an odd first beat can take P and T waves for beats and miss clear ones; no
    device's rate reveals it where there is none. Either is measured by the usual beat, the median of the higher half.
    """
    if len(samples) < 2:
        return 0
    height = magnitude[samples]
    usual = np.median(np.sort(height)[len(height) // 2 :])
    far = np.ones(len(magnitude), bool)
    reach = round(FAR_MS / 1000 * rate_hz)
    for s in samples:
        far[max(s - reach, 0) : s + reach + 1] = False
    far[: reach // 2] = far[-(reach // 2) :] = False  # a complex cut by the strip's end is no beat
    high = far & (magnitude > MISSED_SHARE * usual)
    missed = np.count_nonzero(high[1:] & ~high[:-1])
    return int(np.count_nonzero(height < WEAK_SHARE * usual) + missed)


def heart_rate_bpm(r_peaks: np.ndarray, rate_hz: float) -> float:
    """Beats per minute from the mean RR interval; NaN with fewer than two beats."""
    return float(60 * rate_hz / np.mean(np.diff(r_peaks))) if len(r_peaks) > 1 else float("nan")


def _sleepecg(signal: np.ndarray, rate_hz: float) -> np.ndarray:
    return np.asarray(sleepecg.detect_heartbeats(signal, rate_hz), np.int64) if np.ptp(signal) > 0 else np.zeros(0, int)


def _xqrs(signal: np.ndarray, rate_hz: float) -> np.ndarray:
    from wfdb.processing import XQRS  # slow to import, and rarely needed

    detector = XQRS(sig=signal, fs=rate_hz)
    try:
        detector.detect(verbose=False)
    except (ValueError, IndexError, ZeroDivisionError):
        return np.zeros(0, int)
    return np.asarray(detector.qrs_inds, np.int64)


def _refined(samples: np.ndarray, magnitude: np.ndarray, rate_hz: float) -> np.ndarray:
    """Each beat moved to the largest spatial magnitude nearby.

    Detectors mark different points of the QRS complex, in one lead; the phase axis needs the same point in every
    recording, whatever its electrical axis.
    """
    reach = round(SEARCH_MS / 1000 * rate_hz)
    moved = []
    for s in samples:
        low, high = max(int(s) - reach, 0), min(int(s) + reach + 1, len(magnitude))
        if high > low:
            moved.append(low + int(np.argmax(magnitude[low:high])))
    return np.unique(moved).astype(np.int64) if moved else np.zeros(0, np.int64)


def _agreement(samples: np.ndarray, rate_hz: float, record: EcgRecord) -> float | None:
    device = record.measurements.get("ventricular_rate_bpm", np.nan)
    ours = heart_rate_bpm(samples, rate_hz)
    return float(ours / device) if np.isfinite(device) and device > 0 and np.isfinite(ours) else None


def _matched(samples: np.ndarray, rate_hz: float, record: EcgRecord) -> tuple[float | None, float | None]:
    """Share of the device's beats at one of ours, and their median lag in ms, which does not count for that: a device
    marks another point of the QRS complex than its peak, always the same.
    """
    device = record.beat_times_ms[record.beat_times_ms < 10000]
    if not len(device) or not len(samples):
        return None, None
    ours = samples / rate_hz * 1000
    lag = device - ours[np.abs(device[:, None] - ours).argmin(1)]
    usual = float(np.median(lag))
    return float(np.mean(np.abs(lag - usual) < MATCH_MS)), usual


def _agrees(found: RPeaks, record: EcgRecord) -> bool:
    count = record.measurements.get("n_qrs", np.nan)
    if np.isfinite(count) and abs(len(found.samples) - count) > 1:
        return False
    return found.agreement is None or abs(found.agreement - 1) <= 0.15
