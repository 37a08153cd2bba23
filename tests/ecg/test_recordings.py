"""Every public recording that comes with the sources: read whole, in mV, with the device's heart rate."""

import os
from pathlib import Path

import numpy as np
import pytest

from ptacl.ecg import LEADS, read_ecg
from ptacl.ecg.clean import clean_ecg

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}
BASE = Path(os.environ.get("PTACL_SHARED_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
RECORDINGS = sorted(p for kind in ("*-wfdb/*.hea", "*-muse/*.xml", "*-cardiosoft/*.xml") for p in BASE.glob(kind))
FLAT = {"JS20004": {"V2", "V4", "V6"}, "JS20008": {"V2", "V4", "V6"}}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda p: p.stem)
def test_a_public_recording_is_usable(path: Path) -> None:
    record = read_ecg(path)
    ecg = clean_ecg(record, SETTINGS, "table")
    flat = {LEADS[i] for i in np.flatnonzero(~ecg.lead_mask)}
    assert flat == FLAT.get(path.stem, set()) and ("flat_lead" in ecg.flags) == bool(flat)
    assert not ecg.counts[~ecg.lead_mask].any()
    height_mv = np.abs(ecg.counts[ecg.lead_mask] * 0.005).max(axis=1)
    assert height_mv.min() > 0.1 and height_mv.max() < 12
    assert 30 < ecg.heart_rate_bpm < 160
    device = record.measurements.get("ventricular_rate_bpm", np.nan)
    assert np.isnan(device) or abs(ecg.heart_rate_bpm - device) < 2
    assert ("cropped" in ecg.flags) == (record.n_samples > 10 * record.rate_hz) == (path.stem == "s0010_re")
    assert not ecg.flags & {"gaps", "einthoven", "beats_shifted", "no_median_beat", "rate_disagrees"}


def test_the_recordings_are_all_there(shared_data) -> None:
    shared_data("challenge2021-wfdb")
    formats = {read_ecg(p).format for p in RECORDINGS}
    assert len(RECORDINGS) == 32 and formats == {"wfdb", "muse-xml", "cardiosoft-xml"}
