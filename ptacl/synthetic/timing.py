"""When the heart does what, and the volume curve that follows."""

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, expit

from ptacl.synthetic.latents import Subject

_EJECTION, _EARLY, _ATRIAL = (1.7, 2.3), (1.8, 2.6), (1.9, 2.0)
_ATRIAL_MS, _SHORTEST_ATRIAL_MS = 125.0, 60.0


@dataclass(frozen=True)
class Timing:
    """Times in ms after the R wave; RR is that of the MRI. atrial_fraction is 0 in atrial fibrillation."""

    rr: float
    aortic_opening: float
    end_systole: float
    mitral_opening: float
    early_filling: float
    atrial_kick: float
    atrial_duration: float
    atrial_fraction: float


def timing(subject: Subject) -> Timing:
    """The subject's timing, clamped to what fits into the cycle (regressions after Weissler)."""
    rate = np.exp(subject["lnHRm"])
    rr, to_r = 60000 / rate, 0.42 * np.exp(subject["lnQRSd"])
    male = subject.sex == "M"
    pre_ejection = (131 if male else 133) - 0.4 * rate + subject["PEPr"]
    systole = (541 - 2.2 * rate if male else 540 - 2.0 * rate) + subject["ESr"]
    opening = max(pre_ejection - to_r, 10.0)
    end_systole = float(np.clip(systole - to_r, opening + 150, 0.72 * rr))
    mitral = min(end_systole + max(subject["IVRT"], 40.0), rr - 80)
    kick = rr - to_r - (subject["PR"] - 70) + subject["tA"]
    # The kick ends within the cycle: a curve that breaks off at the R wave would not be periodic.
    kick = float(np.clip(kick, mitral, max(mitral, rr - _SHORTEST_ATRIAL_MS)))
    return Timing(
        rr=rr,
        aortic_opening=opening,
        end_systole=end_systole,
        mitral_opening=mitral,
        early_filling=max(min(max(subject["TE"], 110.0), rr - mitral - 20), 60.0),
        atrial_kick=kick,
        atrial_duration=max(_SHORTEST_ATRIAL_MS, min(_ATRIAL_MS, rr - kick)),
        atrial_fraction=0.0 if subject.rhythm == "AF" else float(expit(subject["lgfA"])),
    )


def filling(t_ms: np.ndarray, q: Timing) -> np.ndarray:
    """Share of the stroke volume inside the ventricle at times after the R wave: 1 at the start, 0 at end-systole.

    Ejection, early filling, diastasis and atrial kick are incomplete-beta pieces; the curve is periodic in RR.
    """
    t = np.mod(t_ms, q.rr)

    def piece(shape: tuple[float, float], start: float, duration: float) -> np.ndarray:
        return betainc(*shape, np.clip((t - start) / duration, 0, 1))

    atrial = q.atrial_fraction
    diastasis = 0.08 * (1 - atrial) if atrial else 0.25
    end = max(q.atrial_kick, q.mitral_opening + 0.6 * q.early_filling) if atrial else q.rr
    share = 1 - piece(_EJECTION, q.aortic_opening, q.end_systole - q.aortic_opening)
    share = share + (1 - atrial - diastasis) * piece(_EARLY, q.mitral_opening, q.early_filling)
    share = share + diastasis * np.clip((t - q.mitral_opening) / (end - q.mitral_opening), 0, 1)
    return share + atrial * piece(_ATRIAL, q.atrial_kick, q.atrial_duration) if atrial else share
