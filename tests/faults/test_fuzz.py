"""Whatever the bytes: a record, or one exception with a reason; never another exception, never a hang."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptacl.cmr import read_cine
from ptacl.cmr.tags import find_tags, tags_by_pydicom
from ptacl.ecg import read_ecg
from ptacl.ecg.clean import clean_ecg
from ptacl.errors import RecordError
from tests.faults.cardiosoft_faults import SOUND
from tests.faults.cine_files import images, sound_files, zipped
from tests.faults.ecg_faults import dicom_bytes, muse, wfdb
from tests.faults.nifti_files import nifti

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# Bytes put over, into or instead of a stretch at some share of the file; and where the file is cut.
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12), st.integers(0, 12)), max_size=4)


def changed(data: bytes, changes: list[tuple[float, bytes, int]], keep: float) -> bytes:
    for share, new, removed in changes:
        at = int(share * len(data))
        data = data[:at] + new + data[at + removed :]
    return data[: int(keep * len(data))]


def made(make) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder)).read_bytes()


@functools.cache
def sound(kind: str) -> bytes:
    """A sound file of each kind; the NIfTI not packed, so that changes reach its header and values."""
    if kind == "zip":
        some = {n: sound_files()[n] for n in images(1) + images(2) + images(3)}
        with tempfile.TemporaryDirectory() as folder:
            return zipped(Path(folder) / "x.zip", some).read_bytes()
    makers = {"muse.xml": lambda: made(muse()), "ecg.dcm": dicom_bytes, "x.nii": lambda: made(nifti(name="x.nii"))}
    return SOUND if kind == "ecg.xml" else makers[kind]()


@FUZZ
@given(kind=st.sampled_from(["ecg.xml", "muse.xml", "ecg.dcm"]), changes=CHANGES, keep=st.floats(0.3, 1))
def test_an_ecg_file_of_any_content(tmp_path_factory, kind: str, changes, keep: float) -> None:
    path = tmp_path_factory.getbasetemp() / kind
    path.write_bytes(changed(sound(kind), changes, keep))
    try:
        ecg = clean_ecg(read_ecg(path), SETTINGS, "ukb")
    except RecordError:
        return
    assert ecg.counts.shape == (12, 5000) and np.isfinite(ecg.r_peaks).all()


@FUZZ
@given(changes=CHANGES, in_header=st.booleans(), keep=st.floats(0.3, 1))
def test_a_wfdb_record_of_any_content(tmp_path_factory, changes, in_header: bool, keep: float) -> None:
    folder = tmp_path_factory.getbasetemp() / "wfdb"
    folder.mkdir(exist_ok=True)
    header = wfdb()(folder)
    path = header if in_header else folder / "rec.dat"
    path.write_bytes(changed(path.read_bytes(), changes, keep))
    try:
        clean_ecg(read_ecg(header), SETTINGS, "table")
    except RecordError:
        pass


@FUZZ
@given(kind=st.sampled_from(["zip", "x.nii"]), changes=CHANGES, keep=st.sampled_from([1.0, 1.0, 0.5]))
def test_a_cine_file_of_any_content(tmp_path_factory, kind: str, changes, keep: float) -> None:
    path = tmp_path_factory.getbasetemp() / kind
    path.write_bytes(changed(sound(kind), changes, keep))
    try:
        cine = read_cine(path).decoded()
    except RecordError:
        return
    assert all(s.pixels.shape == s.shape for s in cine.slices)
    assert np.isfinite(cine.positions_mm).all() and 0 <= cine.phase_0 < 1


@FUZZ
@given(changes=CHANGES, member=st.integers(0, 19))
def test_an_image_of_any_content_in_a_sound_zip(tmp_path_factory, changes, member: int) -> None:
    names = images(1) + images(2) + images(3)
    files = {n: sound_files()[n] for n in names}
    files[names[member]] = changed(
        files[names[member]], [(share * 0.15, new, removed) for share, new, removed in changes], 1
    )
    path = zipped(tmp_path_factory.getbasetemp() / "one.zip", files)
    try:
        cine = read_cine(path).decoded()
    except RecordError:
        return
    assert len(cine.slices) in (2, 3)


@FUZZ
@given(changes=CHANGES, keep=st.floats(0.2, 1))
def test_where_the_tag_walker_answers_it_answers_as_pydicom(changes, keep: float) -> None:
    data = sound_files()[images(1)[0]]
    head = len(data) - 104 * 104 * 2
    data = changed(data[:head], changes, keep) + data[head:]
    ours, _ = find_tags(data)
    theirs = tags_by_pydicom(data)
    if ours is not None and theirs is not None and "Rows" in ours:
        for name in ("Rows", "Columns", "ImagePositionPatient", "TriggerTime", "InstanceNumber"):
            if name in theirs and name in ours and b"\\" not in ours[name]:
                assert ours[name].strip() == theirs[name].strip() or _same_number(ours[name], theirs[name])


def _same_number(a: bytes, b: bytes) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return True  # garbled text, which pydicom shows in its own way


@pytest.mark.parametrize("size", [0, 1, 3, 131, 132, 133, 200])
def test_files_shorter_than_any_header(tmp_path: Path, size: int) -> None:
    for name in ("a.xml", "a.dcm", "a.hea", "a.dat", "a.zip", "a.nii", "a.nii.gz", "a"):
        path = tmp_path / name
        path.write_bytes(bytes(size))
        for read in (read_ecg, read_cine):
            with pytest.raises(RecordError):
                read(path)
