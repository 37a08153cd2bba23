"""One ECG recording, as the file has it."""

from dataclasses import dataclass, field

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB, CHEST = slice(0, 6), slice(6, 12)

# Limb leads as weights of (I, II): Einthoven's and Goldberger's identities.
LIMB_FROM_I_II = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]])

_STANDARD = {name.upper(): name for name in LEADS}


def standard_lead(name: str) -> str | None:
    """`AVR`, `a VR ` and `avr` are aVR; None for a signal that is none of the twelve leads."""
    return _STANDARD.get("".join(name.split()).upper())


@dataclass
class EcgRecord:
    """A 12-lead strip on its file's own sampling grid.

    signal: float32 [12, n] in mV, standard lead order, NaN where the file has no value.
    present: bool [12], leads the file holds a value of (before any is derived from others).
    measurements: the device's own, such as `qrs_ms`; NaN where it gives none.
    beat_times_ms: the device's beats, from the start of the strip; empty when it lists none.
    median_beat: the device's float32 [12, m] in mV with its rate, or None.
    flags: what the reader noticed, such as `trailing_comma` or `pacemaker`.
    """

    format: str
    rate_hz: float
    signal: np.ndarray
    present: np.ndarray
    measurements: dict[str, float] = field(default_factory=dict)
    beat_times_ms: np.ndarray = field(default_factory=lambda: np.zeros(0))
    median_beat: np.ndarray | None = None
    median_rate_hz: float = 500.0
    flags: set[str] = field(default_factory=set)

    @property
    def n_samples(self) -> int:
        return self.signal.shape[1]


def assemble(found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Leads by standard name to (signal float32 [12, n], present bool [12]); absent leads are NaN."""
    n = max((len(v) for v in found.values()), default=0)
    signal = np.full((12, n), np.nan, np.float32)
    present = np.zeros(12, bool)
    for i, name in enumerate(LEADS):
        if name in found:
            signal[i, : len(found[name])] = found[name]
            present[i] = np.isfinite(signal[i]).any()
    return signal, present
