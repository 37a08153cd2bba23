"""What the readers understand of one ECG file, for people."""

from pathlib import Path
from typing import Any

import numpy as np

from ptacl.ecg.clean import RATE_HZ, clean_ecg
from ptacl.ecg.readers import read_ecg
from ptacl.ecg.record import LEADS
from ptacl.errors import UnusableEcg

_SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}


def describe(path: Path) -> dict[str, Any]:
    """Format, leads, beats and usability of a file; rate_hz, n_samples and r_peaks on the file's own grid.

    Raises UnreadableEcg.
    """
    record = read_ecg(path)
    found: dict[str, Any] = {
        "kind": "ecg",
        "format": record.format,
        "leads": [name for name, there in zip(LEADS, record.present, strict=True) if there],
        "rate_hz": record.rate_hz,
        "n_samples": record.n_samples,
    }
    try:
        ecg = clean_ecg(record, _SETTINGS, source="table")
    except UnusableEcg as e:
        unusable = {"flags": sorted(record.flags), "usable": False, "reason": str(e)}
        return found | {"heart_rate_bpm": None, "n_beats": None, "r_peaks": []} | unusable
    rate = ecg.heart_rate_bpm
    return found | {
        "heart_rate_bpm": round(rate, 1) if np.isfinite(rate) else None,
        "n_beats": len(ecg.r_peaks),
        "r_peaks": [min(round(p * record.rate_hz / RATE_HZ), record.n_samples - 1) for p in ecg.r_peaks],
        "flags": sorted(ecg.flags),
        "usable": True,
        "reason": None,
    }
