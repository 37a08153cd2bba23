"""Beats, cardiac phase, the median beat and the end of the T wave, on the 500 Hz grid."""

import numpy as np

from ptacl.ecg.magnitude import spatial_magnitude, without_pacing_spikes

RATE_HZ = 500
BEAT_SAMPLES, R_SAMPLE = 600, 200
QRS_REACH = 30
RR_TOLERANCE = 0.20
MAX_RELATIVE_RMSSD = 0.15


def complete_beats(r_peaks: np.ndarray) -> np.ndarray:
    """Which RR intervals lie within 20 % of the median: bool [len(r_peaks) - 1]."""
    rr = np.diff(r_peaks)
    return np.abs(rr - np.median(rr)) <= RR_TOLERANCE * np.median(rr) if len(rr) else np.zeros(0, bool)


def rr_irregularity(r_peaks: np.ndarray) -> float:
    """RMSSD over the mean RR interval: about 0.02 in sinus rhythm, above 0.15 in atrial fibrillation; NaN under 3 beats."""
    rr = np.diff(r_peaks)
    return float(np.sqrt(np.mean(np.diff(rr) ** 2)) / rr.mean()) if len(rr) > 1 else float("nan")


def phase_ok(r_peaks: np.ndarray) -> bool:
    """At least two complete beats, and RMSSD below 15 % of the mean RR: else cardiac phase says little."""
    return bool(complete_beats(r_peaks).sum() >= 2 and rr_irregularity(r_peaks) < MAX_RELATIVE_RMSSD)


def phase_of(samples: np.ndarray, r_peaks: np.ndarray) -> np.ndarray:
    """Cardiac phase (0 at an R peak, towards 1 at the next) at `samples`; NaN outside complete beats.

    The phase of every sample of a strip is `phase_of(np.arange(5000), r_peaks)`; the tables keep the R peaks only.
    """
    samples, r_peaks = np.asarray(samples, np.float64), np.asarray(r_peaks, np.float64)
    phase = np.full(samples.shape, np.nan)
    if len(r_peaks) < 2:
        return phase
    k = np.searchsorted(r_peaks, samples, side="right") - 1
    inside = (k >= 0) & (k < len(r_peaks) - 1)
    inside[inside] &= complete_beats(r_peaks)[k[inside]]
    start, stop = r_peaks[k[inside]], r_peaks[k[inside] + 1]
    phase[inside] = (samples[inside] - start) / (stop - start)
    return phase


def median_beat(strip: np.ndarray, r_peaks: np.ndarray) -> np.ndarray:
    """The median over whole beats of a float [12, n] strip, float32 [12, 600], its R peak at sample 200."""
    starts = np.round(r_peaks).astype(int) - R_SAMPLE
    whole = [s for s in starts if s >= 0 and s + BEAT_SAMPLES <= strip.shape[1]]
    if not whole:
        return np.zeros((12, BEAT_SAMPLES), np.float32)
    beats = np.median(np.stack([strip[:, s : s + BEAT_SAMPLES] for s in whole]), axis=0)
    return _centred(beats)


def r_of_beat(beat: np.ndarray, qrs_ms: tuple[float, float]) -> int:
    """The sample of the R peak of a device's median beat, float [12, m] at 500 Hz: the largest spatial magnitude of its
    QRS complex, since that of the T wave may be larger.

    `qrs_ms`: the device's onset and offset from the start of the beat. Where they are NaN or lie outside of it, the
    complex is sought 60 ms round the steepest slope.
    """
    magnitude = spatial_magnitude(without_pacing_spikes(_centred(beat)))
    onset, offset = (t / 1000 * RATE_HZ for t in qrs_ms)
    if not 0 <= onset < offset < len(magnitude):
        steepest = int(np.argmax(np.abs(np.diff(magnitude))))
        onset, offset = max(steepest - QRS_REACH, 0), min(steepest + QRS_REACH, len(magnitude) - 1)
    first = int(onset)
    return first + int(np.argmax(magnitude[first : int(offset) + 1]))


def align_beat(beat: np.ndarray, r: int) -> np.ndarray:
    """A device's median beat float [12, m] at 500 Hz, its R peak at sample r, shifted to sample 200: float32 [12, 600]."""
    columns = np.clip(np.arange(BEAT_SAMPLES) - R_SAMPLE + r, 0, beat.shape[1] - 1)
    return _centred(beat[:, columns])


def t_end_ms(beat: np.ndarray, rr_ms: float) -> float | None:
    """R peak to the end of the T wave of a median beat [12, 600], in ms; None where no T wave stands out.

    The tangent method on the spatial magnitude: the steepest fall after the T peak, extended to the level before the P
    wave of the next beat.
    """
    magnitude = spatial_magnitude(beat)
    magnitude = np.convolve(magnitude, np.ones(11) / 11, mode="same")
    first, last = R_SAMPLE + 60, min(R_SAMPLE + int(0.65 * rr_ms / 1000 * RATE_HZ), BEAT_SAMPLES - 10)
    if last - first < 40:
        return None
    peak = first + int(np.argmax(magnitude[first:last]))
    # At a quick rate the next beat's QRS complex follows soon after the T wave.
    latest = R_SAMPLE + 0.85 * rr_ms / 1000 * RATE_HZ
    tail = magnitude[peak : min(peak + 100, int(latest), BEAT_SAMPLES)]
    level = float(np.min(tail))
    fall = np.diff(tail)
    if len(fall) < 10 or magnitude[peak] - level < 0.02 or fall.min() >= 0:
        return None
    k = int(np.argmin(fall))
    end = peak + k + (level - tail[k]) / fall[k]
    return float((end - R_SAMPLE) / RATE_HZ * 1000) if end < latest else None


def _centred(beat: np.ndarray) -> np.ndarray:
    return (beat - np.median(beat, axis=1, keepdims=True)).astype(np.float32)
