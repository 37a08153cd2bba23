"""When the heart does what, and the volume curve that follows.

All of it takes one subject or, as arrays, many of one class: the renderer draws by it, the ceiling averages it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import beta, betainc, expit

from ptacl.synthetic.latents import Subject

_EJECTION, _EARLY, _ATRIAL = (1.7, 2.3), (1.8, 2.6), (1.9, 2.0)
_ATRIAL_MS, _SHORTEST_ATRIAL_MS = 125.0, 60.0
_FUSED_STEPS = 24  # gives the peak of fused waves to 0.5 %


@dataclass(frozen=True)
class Timing:
    """Times in ms after the R wave, floats or arrays; RR is that of the MRI. atrial_fraction is 0 in atrial fibrillation."""

    rr: Any
    aortic_opening: Any
    end_systole: Any
    mitral_opening: Any
    early_filling: Any
    atrial_kick: Any
    atrial_duration: Any
    atrial_fraction: Any


def timing(subject: Subject) -> Timing:
    """The subject's timing, clamped to what fits into the cycle (regressions after Weissler)."""
    rate = np.exp(subject["lnHRm"])
    rr, to_r = 60000 / rate, 0.42 * np.exp(subject["lnQRSd"])
    male = subject.sex == "M"
    pre_ejection = (131 if male else 133) - 0.4 * rate + subject["PEPr"]
    systole = (541 - 2.2 * rate if male else 540 - 2.0 * rate) + subject["ESr"]
    opening = np.maximum(pre_ejection - to_r, 10.0)
    end_systole = np.clip(systole - to_r, opening + 150, 0.72 * rr)
    mitral = np.minimum(end_systole + np.maximum(subject["IVRT"], 40.0), rr - 80)
    kick = rr - to_r - (subject["PR"] - 70) + subject["tA"]
    # The kick ends within the cycle: a curve that breaks off at the R wave would not be periodic.
    kick = np.clip(kick, mitral, np.maximum(mitral, rr - _SHORTEST_ATRIAL_MS))
    return Timing(
        rr=rr,
        aortic_opening=opening,
        end_systole=end_systole,
        mitral_opening=mitral,
        early_filling=np.maximum(np.minimum(np.maximum(subject["TE"], 110.0), rr - mitral - 20), 60.0),
        atrial_kick=kick,
        atrial_duration=np.maximum(_SHORTEST_ATRIAL_MS, np.minimum(_ATRIAL_MS, rr - kick)),
        atrial_fraction=expit(subject["lgfA"]) * (subject.rhythm != "AF"),
    )


def _diastasis(q: Timing) -> tuple[Any, Any]:
    """Share of the stroke volume that flows in evenly from mitral opening on, and until when (ms)."""
    kicks = q.atrial_fraction > 0
    share = np.where(kicks, 0.08 * (1 - q.atrial_fraction), 0.25)
    return share, np.where(kicks, np.maximum(q.atrial_kick, q.mitral_opening + 0.6 * q.early_filling), q.rr)


def filling(t_ms: np.ndarray, q: Timing) -> np.ndarray:
    """Share of the stroke volume inside the ventricle at times after the R wave: 1 at the start, 0 at end-systole.

    Ejection, early filling, diastasis and atrial kick are incomplete-beta pieces; the curve is periodic in RR.
    """
    t = np.mod(t_ms, q.rr)

    def piece(shape: tuple[float, float], start: Any, duration: Any) -> np.ndarray:
        return betainc(*shape, np.clip((t - start) / duration, 0, 1))

    diastasis, end = _diastasis(q)
    share = 1 - piece(_EJECTION, q.aortic_opening, q.end_systole - q.aortic_opening)
    share = share + (1 - q.atrial_fraction - diastasis) * piece(_EARLY, q.mitral_opening, q.early_filling)
    share = share + diastasis * np.clip((t - q.mitral_opening) / (end - q.mitral_opening), 0, 1)
    return share + q.atrial_fraction * piece(_ATRIAL, q.atrial_kick, q.atrial_duration)


def inflow(t_ms: Any, q: Timing) -> Any:
    """Slope of `filling` at times from mitral opening on, in stroke volumes per ms."""

    def piece(shape: tuple[float, float], start: Any, duration: Any) -> Any:
        a, b = shape
        x = np.clip((t_ms - start) / duration, 0, 1)
        return x ** (a - 1) * (1 - x) ** (b - 1) / (beta(a, b) * duration)

    diastasis, end = _diastasis(q)
    rate = (1 - q.atrial_fraction - diastasis) * piece(_EARLY, q.mitral_opening, q.early_filling)
    rate = rate + np.where(t_ms <= end, diastasis / (end - q.mitral_opening), 0)
    return rate + q.atrial_fraction * piece(_ATRIAL, q.atrial_kick, q.atrial_duration)


def peak_inflow(q: Timing) -> Any:
    """Largest `inflow` of the cycle, in stroke volumes per ms."""
    early = q.mitral_opening + _mode(_EARLY) * q.early_filling
    atrial = q.atrial_kick + _mode(_ATRIAL) * q.atrial_duration
    peak = np.maximum(inflow(early, q), inflow(atrial, q))
    # At a high rate the waves fuse: their sum is largest somewhere between the two, or where the even inflow ends.
    fused = np.asarray(q.atrial_kick < q.mitral_opening + q.early_filling)
    if fused.any():
        part = Timing(**{k: np.broadcast_to(x, fused.shape)[fused] for k, x in vars(q).items()})
        start, step = np.asarray(early)[fused], np.asarray(atrial - early)[fused] / _FUSED_STEPS
        times = [*(start + k * step for k in range(1, _FUSED_STEPS)), _diastasis(part)[1]]
        peak = np.array(peak)
        peak[fused] = np.maximum(peak[fused], np.max([inflow(t, part) for t in times], axis=0))
    return peak


def _mode(shape: tuple[float, float]) -> float:
    a, b = shape
    return (a - 1) / (a + b - 2)


def landmarks(subject: Subject, q: Timing) -> dict[str, Any]:
    """What can be read off the timing without the volumes; in the order of timings.csv, whose last is the peak filling rate.

    es_ms: end of ejection, from the R wave; the volume stays least until the mitral valve opens. atrial_fraction: share
    of the stroke volume that the atrial kick adds (0 in AF). septal_lateral_ms: delay of the lateral behind the septal
    wall. atrial_kick_phase: start of the kick as phase of the cycle (NaN in AF). mitral_opening_ms: start of filling,
    from the R wave.
    """
    return {
        "es_ms": q.end_systole,
        "atrial_fraction": q.atrial_fraction,
        "septal_lateral_ms": np.maximum(subject["DYS"], 0.0),
        "atrial_kick_phase": np.where(q.atrial_fraction > 0, q.atrial_kick / q.rr, np.nan),
        "mitral_opening_ms": q.mitral_opening,
    }
