"""One ECG recording, as the file has it."""

from dataclasses import dataclass, field

import numpy as np

from ptacl.errors import UnreadableEcg

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
LIMB, CHEST = slice(0, 6), slice(6, 12)

# The device's own measurements, as columns of the shard's table; NaN where it gives none.
MEASUREMENTS = (
    "ventricular_rate_bpm", "p_duration_ms", "pq_ms", "qrs_ms", "qt_ms", "qtc_ms", "rr_ms", "pp_ms", "p_axis_deg",
    "r_axis_deg", "t_axis_deg", "n_qrs",
)  # fmt: skip

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
    measurements: the device's own, such as `qrs_ms`; NaN where it gives none. Besides MEASUREMENTS they may hold
    `q_onset_ms`, `q_offset_ms` and `t_offset_ms`, from the start of the median beat.
    beat_times_ms: the device's beats, from the start of the strip; empty when it lists none.
    median_beat: the device's float32 [12, m] in mV with its rate, or None where it gives none that is whole.
    flags: what the reader noticed, such as `trailing_comma` or `pacemaker`.
    statements: codes of the device's statements (`ptacl.ecg.statements`).
    mains_filter_hz: mains frequencies that the device says it has filtered out already.
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
    statements: set[str] = field(default_factory=set)
    mains_filter_hz: frozenset[int] = frozenset()

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


def derive_limb_leads(signal: np.ndarray, present: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limb leads that are not `present` (bool [12]), computed from `usable` ones: signal [12, n], present [12] afterwards.

    By least squares; needs two usable ones, any two of which are independent, and changes nothing without.
    """
    known, absent = np.flatnonzero(usable[LIMB]), np.flatnonzero(~present[LIMB])
    if len(absent) == 0 or len(known) < 2:
        return signal, present
    signal, present = signal.copy(), present.copy()
    i_ii = np.linalg.pinv(LIMB_FROM_I_II[known]) @ signal[known].astype(np.float64)
    signal[absent] = LIMB_FROM_I_II[absent] @ i_ii
    present[absent] = True
    return signal, present


def whole_beat(found: dict[str, np.ndarray], rate_hz: float) -> np.ndarray:
    """A device's median beat, float32 [12, m], from its leads by standard name; absent limb leads are derived.

    Raises UnreadableEcg(`no_median_beat`) for leads of different lengths, too few of them, a sample that is no number,
    nothing but constant leads, or another length than 0.5 to 3 s.
    """
    signal, present = assemble(found)
    signal, present = derive_limb_leads(signal, present, present)
    alike = len({len(v) for v in found.values()}) == 1 and 0.5 <= signal.shape[1] / rate_hz <= 3
    if not alike or not present.all() or not np.isfinite(signal).all() or not np.ptp(signal, axis=1).any():
        raise UnreadableEcg("no_median_beat", "the device's median beat is not whole")
    return signal
