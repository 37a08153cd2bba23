"""Every odd or damaged file is read right, or refused with its reason; and the table in the docs says so."""

from pathlib import Path

import numpy as np
import pytest

from ptacl.cmr import Cine, header, quality, read_cine
from ptacl.cmr.tensor import crop
from ptacl.ecg import read_ecg
from ptacl.ecg.clean import CleanEcg, clean_ecg
from ptacl.errors import RecordError
from tests.faults.cardiosoft_faults import FAULTS as CARDIOSOFT
from tests.faults.cardiosoft_faults import SOUND, write
from tests.faults.cine_faults import FAULTS as CINE
from tests.faults.cine_files import sound_cine
from tests.faults.ecg_faults import DICOM, MUSE, WFDB
from tests.faults.fault import Fault

ECG = {**CARDIOSOFT, **WFDB, **MUSE, **DICOM}
REPOSITORY = Path(__file__).resolve().parents[2]
# pydicom takes a header that breaks off for a short one.
OTHERWISE_BY_PYDICOM = {"header cut": "empty_zip"}
# Read whole from the start, their damage is found before the stack is put together: the same images, another note.
DAMAGE_FOUND_EARLIER = {"a frame damaged", "the first frame damaged"}
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


def outcome_of_cine(path: Path) -> tuple[str | None, Cine | None]:
    try:
        cine = read_cine(path, "ukb")
        quality.check(cine, "ukb")
        cine = cine.decoded()
        quality.check(cine, "ukb")
        quality.check_contrast(np.stack([s.pixels[0, :90] for s in cine.slices]))
    except RecordError as e:
        return e.code, None
    return None, cine


@pytest.mark.parametrize("name", CINE)
def test_a_cine_is_read_right_or_refused_with_its_reason(name: str, tmp_path: Path) -> None:
    fault, sound = CINE[name], sound_cine()
    reason, cine = outcome_of_cine(fault.make(tmp_path))
    assert reason == fault.reason
    if cine is not None:
        assert cine.flags == fault.flags
        assert (len(cine.slices), cine.n_frames) == (len(sound.slices), sound.n_frames)
        np.testing.assert_allclose(cine.positions_mm, sound.positions_mm, atol=0.2)
        assert cine.phase_0 < 0.03 or cine.phase_0 > 0.97
        if not name.startswith("NIfTI"):
            assert cine.rr_ms is None or cine.rr_ms == pytest.approx(sound.rr_ms, rel=0.01)
            axes = [(s.row_axis, s.column_axis) for s in cine.slices]
            np.testing.assert_allclose(axes, [(s.row_axis, s.column_axis) for s in sound.slices], atol=1e-3)
        for ours, theirs in zip(cine.slices, sound.slices, strict=True):
            rows = min(ours.shape[1], theirs.shape[1])
            point = theirs.to_mm(52.0, 40.0)  # the same place in the patient, however the file lays out its axes
            assert np.linalg.norm(ours.to_mm(*ours.to_pixel(point)) - point) < 0.5
            if ours.shape == theirs.shape and np.allclose(ours.row_axis, theirs.row_axis, atol=1e-3):
                difference = np.abs(ours.pixels[:, :rows].astype(float) - theirs.pixels[:, :rows])
                assert np.median(difference) < 1e-3
                if fault.tolerance is not None:
                    assert difference.max() <= fault.tolerance + 1e-3
            if name.startswith("NIfTI"):  # turned by right angles, never mirrored
                tensor, other = (crop(s, s.pixels, point, 120, 16) for s in (ours, theirs))
                alike = [np.corrcoef(np.rot90(tensor, k, (1, 2)).ravel(), other.ravel())[0, 1] for k in range(4)]
                assert max(alike) > 0.999


@pytest.mark.parametrize("name", CINE)
def test_a_cine_is_the_same_by_the_quick_way_and_by_pydicom_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = CINE[name].make(tmp_path)
    reason, quick = outcome_of_cine(path)
    monkeypatch.setattr(header, "find_tags", lambda data: (None, False))
    monkeypatch.setattr(header, "tail", lambda *_: None)
    reason_by_pydicom, plain = outcome_of_cine(path)
    assert reason_by_pydicom == OTHERWISE_BY_PYDICOM.get(name, reason)
    if quick is None or plain is None:
        assert quick is plain
        return
    if name in DAMAGE_FOUND_EARLIER:
        assert plain.flags == quick.flags | {"corrupt_file"}
    else:
        assert (plain.flags, plain.frame_order) == (quick.flags, quick.frame_order)
    assert (plain.n_repeats, plain.rr_ms, plain.phase_0) == (quick.n_repeats, quick.rr_ms, quick.phase_0)
    np.testing.assert_array_equal(plain.positions_mm, quick.positions_mm)
    for a, b in zip(plain.slices, quick.slices, strict=True):
        np.testing.assert_allclose(a.trigger_ms, b.trigger_ms, atol=0 if name not in DAMAGE_FOUND_EARLIER else 0.1)
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_the_table_in_the_docs_is_that_of_the_catalogue() -> None:
    page = REPOSITORY / "docs" / "faults.md"
    assert page.read_text() == table(ECG | CINE), "run: python -m tests.faults.test_faults > docs/faults.md"


def table(faults: dict[str, Fault]) -> str:
    """The page docs/faults.md."""
    lines = [
        "# What becomes of odd and damaged files",
        "",
        f"{len(faults)} kinds of files, made by `tests/faults/` from sound ones and read by its tests on every run: each is read right",
        "(the signal or the images equal the sound file's) or excluded with the reason given, which is the row's `reason` in the",
        "shard's table. `source: ukb` throughout. This page is written by `python -m tests.faults.test_faults > docs/faults.md`.",
        "",
        "| file | what is odd about it | what becomes of it |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {fault.what} | {fault.outcome} |" for name, fault in faults.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(ECG | CINE), end="")
