"""The ECG: a cardiac dipole through the cycle, seen by twelve leads, for ten seconds at 500 Hz."""

from dataclasses import dataclass

import numpy as np

from ptacl.synthetic.latents import Subject, qt_regression_ms

RATE_HZ, SAMPLES = 500, 5000
MS_PER_SAMPLE = 1000 / RATE_HZ
COUNTS_PER_MV = 200
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
# Dower's matrix: leads I, II, V1..V6 from a dipole with x left, y down, z to the back.
DOWER = np.array(
    [
        [0.632, -0.235, 0.059], [0.235, 1.066, -0.132], [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277], [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
    ]
)  # fmt: skip
FIBRILLATION_CV, ELECTRODE_JITTER = 0.22, 0.08


@dataclass(frozen=True)
class Trace:
    """counts: int16 [12, 5000], 5 µV each. r_ms: true R peaks on the strip. rr_ms: mean RR of the strip."""

    counts: np.ndarray
    r_ms: np.ndarray
    rr_ms: float
    r_after_onset_ms: float


@dataclass(frozen=True)
class _Pulse:
    """A Gaussian pulse of the dipole: time after QRS onset, widths before and after, vector in mV."""

    at_ms: float
    left_ms: float
    right_ms: float
    vector: np.ndarray

    def __call__(self, t_ms: np.ndarray) -> np.ndarray:
        width = np.where(t_ms < self.at_ms, self.left_ms, self.right_ms)
        return self.vector[:, None] * np.exp(-0.5 * np.square((t_ms - self.at_ms) / width))


def _direction(frontal_deg: float, backward_deg: float) -> np.ndarray:
    a, b = np.deg2rad(frontal_deg), np.deg2rad(backward_deg)
    return np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)])


def _unit(*v: float) -> np.ndarray:
    return np.array(v) / np.linalg.norm(v)


def qt_ms(subject: Subject) -> float:
    """The subject's QT interval."""
    return float(qt_regression_ms(np.exp(subject["lnHR"]), subject.sex) + subject["QTr"])


def _qrs(subject: Subject) -> list[_Pulse]:
    """Septal, main and terminal activation; one slow wave to the left in LBBB, a late one to the right in RBBB."""
    duration, magnitude = np.exp(subject["lnQRSd"]), np.exp(subject["lnMag"])
    frontal, backward = subject["axF"], -subject["axH"]
    main = magnitude * _direction(frontal, backward)
    if subject.rhythm == "LBBB":
        second = magnitude * _direction(frontal - 12, backward + 14)
        return [
            _Pulse(0.30 * duration, 0.11 * duration, 0.11 * duration, 0.72 * main),
            _Pulse(0.58 * duration, 0.13 * duration, 0.13 * duration, 0.80 * second),
        ]
    septal = max(0.0, 0.26 * (1 + 0.25 * subject["qsep"])) * magnitude * _unit(-0.45, -0.15, -0.85)
    terminal = 0.34 * magnitude * _unit(-0.30, -0.55, 0.75)
    pulses = [
        _Pulse(0.20 * duration, 0.075 * duration, 0.075 * duration, septal),
        _Pulse(0.44 * duration, 0.105 * duration, 0.105 * duration, main),
        _Pulse(0.70 * duration, 0.085 * duration, 0.085 * duration, terminal),
    ]
    if subject.rhythm == "RBBB":
        late = 0.55 * magnitude * _unit(-0.75, 0.05, -0.65)
        pulses.append(_Pulse(0.82 * duration, 0.085 * duration, 0.085 * duration, late))
    return pulses


def _ventricular_beat(subject: Subject, qrs: list[_Pulse], t_ms: np.ndarray, qt_shift_ms: float) -> np.ndarray:
    """Dipole [3, n] of QRS, ST and T at times after QRS onset; the T wave's axis follows that of the QRS in part."""
    peak_to_end = subject["TpTe"]
    right = peak_to_end / 2.2
    left = right * np.clip(1.5 + 0.18 * subject["Tas"], 1.05, 2.3)
    t_peak = qt_ms(subject) - peak_to_end + qt_shift_ms
    axis = _direction(38 + 0.3 * (subject["axF"] - 37) + subject["tAngF"], -subject["axH"] - subject["tAngH"])
    dipole = sum(pulse(t_ms) for pulse in qrs) + _Pulse(t_peak, left, right, np.exp(subject["lnTmag"]) * axis)(t_ms)
    rise = 1 / (1 + np.exp(-(t_ms - 0.95 * np.exp(subject["lnQRSd"])) / 5))
    fall = 1 / (1 + np.exp(np.clip((t_ms - t_peak) / 18, -50, 50)))
    return dipole + (subject["ST"] * _unit(0.5, 0.4, -0.77))[:, None] * rise * fall


def _p_wave(subject: Subject, t_ms: np.ndarray) -> np.ndarray:
    """Right then left atrial half of the P wave, times after its onset; terminal force turns the second to the back."""
    duration, amplitude = subject["Pdur"], np.exp(subject["lnPamp"])
    left_atrial = amplitude * _unit(0.62, 0.50, 0.45 * (1 + 0.45 * subject["PTF"]))
    halves = (0.34, amplitude * _unit(0.45, 0.80, -0.35)), (0.66, left_atrial)
    return sum(_Pulse(at * duration, 0.16 * duration, 0.16 * duration, vector)(t_ms) for at, vector in halves)  # type: ignore[return-value]


def _rr_intervals(subject: Subject, rng: np.random.Generator) -> np.ndarray:
    """RR intervals in ms for a little more than the strip: respiratory and 0.1 Hz modulation; gamma-distributed in AF."""
    mean = 60000 / np.exp(subject["lnHR"])
    n = int(13000 / mean * 1.6) + 6
    if subject.rhythm == "AF":
        return mean * np.clip(rng.gamma(1 / FIBRILLATION_CV**2, FIBRILLATION_CV**2, n), 0.5, 1.9)
    rmssd, t = np.exp(subject["lnRMSSD"]), np.arange(n) * mean / 1000
    breathing = 0.9 * np.sin(2 * np.pi * rng.uniform(0.18, 0.32) * t + rng.uniform(0, 2 * np.pi))
    slow = 0.5 * np.sin(2 * np.pi * 0.1 * t + rng.uniform(0, 2 * np.pi))
    return np.clip(mean + rmssd * (breathing + slow + 0.35 * rng.standard_normal(n)), 0.6 * mean, 1.5 * mean)


def _add(dipole: np.ndarray, start_ms: float, stop_ms: float, wave) -> None:  # noqa: ANN001
    """Adds `wave(t)` to the samples between two times."""
    a, b = max(0, int(start_ms // MS_PER_SAMPLE)), min(SAMPLES, int(stop_ms // MS_PER_SAMPLE))
    if b > a:
        dipole[:, a:b] += wave(np.arange(a, b) * MS_PER_SAMPLE)


def simulate_trace(subject: Subject, rng: np.random.Generator) -> Trace:
    """Ten seconds of twelve leads with noise. III, aVR, aVL and aVF follow from the rounded I and II in whole counts."""
    rr, qrs = _rr_intervals(subject, rng), _qrs(subject)
    mean_rr, qt = 60000 / np.exp(subject["lnHR"]), qt_ms(subject)
    onsets = -1500 + np.cumsum(rr) + rng.uniform(0, mean_rr) - rr[0]
    r_after_onset = _r_after_onset(qrs)
    dipole = np.zeros((3, SAMPLES))
    for i, onset in enumerate(onsets):
        if not -900 < onset < 10400:
            continue
        # QT adapts to the preceding interval.
        shift = 0.15 * np.clip(rr[max(i - 1, 0)] - mean_rr, -250, 250)
        _add(
            dipole, onset - 20, onset + qt + 160,
            lambda t, o=onset, s=shift: _ventricular_beat(subject, qrs, t - o, s),
        )  # fmt: skip
        if subject.rhythm != "AF":
            p = onset - subject["PR"]
            _add(dipole, p - 30, p + subject["Pdur"] + 30, lambda t, p=p: _p_wave(subject, t - p))
    if subject.rhythm == "AF":
        dipole += _fibrillation(rng)
    r_ms = onsets + r_after_onset
    r_ms = r_ms[(r_ms >= 0) & (r_ms < SAMPLES * MS_PER_SAMPLE)]
    return Trace(_digitised(_leads(subject, dipole, rng)), r_ms, float(np.mean(np.diff(r_ms))), r_after_onset)


def _r_after_onset(qrs: list[_Pulse]) -> float:
    t = np.arange(0, 250, 0.5)
    return float(t[np.argmax(np.linalg.norm(sum(p(t) for p in qrs), axis=0))])


def _fibrillation(rng: np.random.Generator) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(rng.uniform(5, 7.5) + 0.12 * rng.standard_normal(SAMPLES)) / RATE_HZ
    amplitude = 0.045 * np.exp(0.3 * rng.standard_normal())
    return _unit(0.3, 0.35, -0.85)[:, None] * amplitude * (np.sin(phase) + 0.35 * np.sin(2 * phase + 1))


def _leads(subject: Subject, dipole: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """I, II, V1..V6 in mV: electrode placement, chest gains, wander, breathing, muscle noise, mains."""
    lead = DOWER.copy()
    lead[2:] += ELECTRODE_JITTER * rng.standard_normal((6, 1)) * np.gradient(DOWER[2:], axis=0)
    gain = np.ones(8)
    gain[2:] *= np.exp(subject["gainP"])
    gain[5:] *= np.exp(subject["lat"])
    gain[4] *= np.exp(0.5 * subject["lat"])
    signal = (lead * gain[:, None]) @ dipole
    t = np.arange(SAMPLES) / RATE_HZ

    def wave(hz: float) -> np.ndarray:
        return np.sin(2 * np.pi * hz * t + rng.uniform(0, 2 * np.pi))

    def amplitude(median_mv: float, spread: float) -> np.ndarray:
        return np.exp(rng.normal(np.log(median_mv), spread, 8))[:, None]

    breathing_hz = rng.uniform(0.18, 0.32)
    signal += amplitude(0.035, 0.5) * (wave(breathing_hz) + 0.6 * wave(rng.uniform(0.03, 0.12)))
    signal *= 1 + 0.03 * wave(breathing_hz)
    muscle = rng.standard_normal((8, SAMPLES))
    muscle[:, 1:-1] -= 0.3 * (muscle[:, :-2] + muscle[:, 2:])
    return signal + amplitude(0.010, 0.45) * muscle + amplitude(0.003, 0.6) * wave(50)


def _digitised(mv: np.ndarray) -> np.ndarray:
    """Whole counts; the other limb leads from the rounded I and II, halves towards minus infinity."""
    counts = np.round(np.clip(mv, -160, 160) * COUNTS_PER_MV).astype(np.int64)
    one, two = counts[0], counts[1]
    limb = [one, two, two - one, -((one + two) // 2), one - two // 2, two - one // 2]
    return np.clip(np.vstack([*limb, counts[2:]]), -32767, 32767).astype(np.int16)
