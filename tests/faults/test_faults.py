"""Every odd or damaged file is read right, or refused with its reason; and the table in the docs says so."""

from pathlib import Path

import numpy as np
import pytest

from ptacl.ecg import read_ecg
from ptacl.ecg.clean import CleanEcg, clean_ecg
from ptacl.errors import RecordError
from tests.faults.cardiosoft_faults import FAULTS as CARDIOSOFT
from tests.faults.cardiosoft_faults import SOUND, write
from tests.faults.ecg_faults import DICOM, MUSE, WFDB
from tests.faults.fault import Fault

ECG = {**CARDIOSOFT, **WFDB, **MUSE, **DICOM}
SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}


def outcome_of_ecg(path: Path, fault: Fault, source: str) -> tuple[str | None, CleanEcg | None]:
    try:
        return None, clean_ecg(read_ecg(path), SETTINGS | fault.settings, source)
    except RecordError as e:
        return e.code, None


@pytest.fixture(scope="module")
def sound_ecg(tmp_path_factory: pytest.TempPathFactory) -> CleanEcg:
    return clean_ecg(read_ecg(write(tmp_path_factory.mktemp("sound"), SOUND)), SETTINGS, "ukb")


@pytest.mark.parametrize("name", ECG)
def test_an_ecg_is_read_right_or_refused_with_its_reason(name: str, tmp_path: Path, sound_ecg: CleanEcg) -> None:
    fault = ECG[name]
    reason, ecg = outcome_of_ecg(fault.make(tmp_path), fault, "ukb")
    assert reason == fault.reason
    if ecg is not None:
        assert ecg.flags == fault.flags | sound_ecg.flags
        if fault.tolerance is not None:
            assert np.abs(ecg.counts.astype(int) - sound_ecg.counts).max() <= fault.tolerance
            assert np.abs(ecg.r_peaks - sound_ecg.r_peaks).max() <= 1
        live = ecg.lead_mask
        difference = np.abs(ecg.counts[live].astype(int) - sound_ecg.counts[live])
        assert np.median(difference) <= 2  # whatever was done, no lead is another one
