"""The files of the synthetic heart: DICOM objects, zips, long axis, planted faults."""

import io
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from ptacl.cmr.centre import heart_centre
from ptacl.cmr.readers import read_cine
from ptacl.errors import UnreadableCine
from ptacl.synthetic.dicom import Series, zip_of_series
from ptacl.synthetic.heart_files import HeartTruth, write_heart_files
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.presets import PRESETS

EID = "9000004"
NEEDED = [
    "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "AcquisitionTime", "InstanceNumber", "ImageType",
    "TriggerTime", "NominalInterval", "CardiacNumberOfImages", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "SliceLocation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "PixelRepresentation",
]  # fmt: skip


def _write(folder: Path, *faults: str, instance: int = 2, long_axis: bool = False, index: int = 3) -> HeartTruth:
    return write_heart_files(
        draw_subject(7, index), eid=EID, instance=instance, rng=np.random.default_rng([7, index, instance]),
        size="small", folder=folder, faults=frozenset(faults), long_axis=long_axis,
    )  # fmt: skip


def _short_axis(folder: Path, instance: int = 2) -> Path:
    return folder / f"{EID}_20209_{instance}_0.zip"


def _objects(path: Path) -> list[FileDataset]:
    """All images of a zip, read by pydicom with every warning an error."""
    with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
        warnings.simplefilter("error")
        images = [pydicom.dcmread(io.BytesIO(archive.read(n))) for n in archive.namelist() if n.endswith(".dcm")]
        for image in images:
            assert list(image.iterall())  # parses every value
    return images


@pytest.fixture(scope="module")
def subject_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, HeartTruth]:
    folder = tmp_path_factory.mktemp("heart")
    return folder, _write(folder, long_axis=True)


def test_every_image_is_a_valid_mr_object_with_the_needed_tags(subject_files: tuple[Path, HeartTruth]) -> None:
    images = _objects(_short_axis(subject_files[0]))
    preset = PRESETS["small"]
    assert len(images) == preset.n_slices * preset.n_frames
    for image in images:
        assert [name for name in NEEDED if name not in image] == []
        assert image.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert image.file_meta.MediaStorageSOPClassUID == image.SOPClassUID == pydicom.uid.MRImageStorage
        assert image.file_meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
        assert image.PatientID == EID and str(image.PatientName) == EID
        assert image.pixel_array.shape == (preset.rows, preset.columns)
    assert {i.SeriesDescription for i in images} == {f"CINE_segmented_SAX_b{k + 1}" for k in range(preset.n_slices)}


def test_uids_are_valid_and_unique_also_between_the_visits(tmp_path: Path, subject_files) -> None:
    _write(tmp_path, instance=3)
    first, second = _objects(_short_axis(subject_files[0])), _objects(_short_axis(tmp_path, 3))
    first += _objects(subject_files[0] / f"{EID}_20208_2_0.zip")
    for image in first + second:
        for uid in (image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID, image.FrameOfReferenceUID):
            assert len(uid) <= 64 and not re.search(r"(^|\.)0\d", uid)
    instances = [i.SOPInstanceUID for i in first + second]
    assert len(set(instances)) == len(instances)
    assert not {i.SeriesInstanceUID for i in first} & {i.SeriesInstanceUID for i in second}
    assert len({i.StudyInstanceUID for i in first}) == 1


def test_frames_are_timed_from_the_r_wave_in_equal_steps(subject_files: tuple[Path, HeartTruth]) -> None:
    folder, truth = subject_files
    for image in _objects(_short_axis(folder)):
        n = PRESETS["small"].n_frames
        expected = (image.InstanceNumber - 1) * truth.rr_ms / n
        assert abs(image.TriggerTime - expected) < 1e-3
        assert image.CardiacNumberOfImages == n and image.NominalInterval == round(truth.rr_ms)


def test_slices_lie_at_equal_nominal_distances_from_base_to_apex(subject_files: tuple[Path, HeartTruth]) -> None:
    first = {i.SeriesDescription: i for i in _objects(_short_axis(subject_files[0])) if i.InstanceNumber == 1}
    stack = [first[f"CINE_segmented_SAX_b{k + 1}"] for k in range(PRESETS["small"].n_slices)]
    steps = np.diff([np.array(s.ImagePositionPatient, float) for s in stack], axis=0)
    axes = np.array(stack[0].ImageOrientationPatient, float).reshape(2, 3)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-5)
    np.testing.assert_allclose(steps @ axes.T, 0, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), PRESETS["small"].step_mm, atol=1e-3)
    assert all(s.SpacingBetweenSlices == PRESETS["small"].step_mm for s in stack)
    # The apex points to the patient's left, front and feet.
    assert (steps[:, 0] > 0).all() and (steps[:, 1] < 0).all() and (steps[:, 2] < 0).all()
    location = [float(s.SliceLocation) for s in stack]
    np.testing.assert_allclose(np.abs(np.diff(location)), PRESETS["small"].step_mm, atol=1e-3)
    times = [s.AcquisitionTime for s in stack]
    assert times == sorted(set(times))


def test_pixels_come_back_as_they_were_packed() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4096, (3, 5, 7), dtype=np.uint16)
    plain = Series(
        number=10, description="CINE_segmented_SAX_b1", pixels=pixels, origin_mm=np.array([1.0, -2.0, 3.5]),
        row_axis=np.array([1.0, 0, 0]), column_axis=np.array([0, 1.0, 0]), pixel_mm=1.826923, thickness_mm=8.0,
        location_mm=-4.0, rr_ms=900.0, step_mm=10.0, private_blocks=True,
    )  # fmt: skip
    data = zip_of_series([plain], rng, eid=EID, visit=2, sex="F", age=61, manifest="manifest.cvs")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        images = [pydicom.dcmread(io.BytesIO(archive.read(n))) for n in archive.namelist() if n.endswith(".dcm")]
    images.sort(key=lambda i: i.InstanceNumber)
    np.testing.assert_array_equal([i.pixel_array for i in images], pixels)
    assert [i.TriggerTime for i in images] == [0, 300, 600]
    # Two vendor blocks of realistic length stand between the tags needed and the pixels.
    assert len(images[0][0x29, 0x1010].value) > 11_000 and len(images[0][0x29, 0x1020].value) > 80_000
    tags = [e.tag for e in images[0]]
    assert tags == sorted(tags) and tags[-1] == 0x7FE00010


def test_zip_is_deflated_shuffled_and_holds_a_manifest_with_commas_in_its_dates(subject_files) -> None:
    with zipfile.ZipFile(_short_axis(subject_files[0])) as archive:
        members = archive.infolist()
        manifest = archive.read("manifest.cvs").decode().splitlines()
    names = [m.filename for m in members if m.filename.endswith(".dcm")]
    assert len(names) == len(members) - 1 and all(re.fullmatch(r"[0-9.]+\.dcm", n) for n in names)
    assert names != sorted(names)
    assert all(m.compress_type == zipfile.ZIP_DEFLATED for m in members if m.filename.endswith(".dcm"))
    assert manifest[0] == "filename,patientid,studyid,study discription,seriesid,series discription,aet,host,date"
    assert len(manifest) == len(names) + 1 and all(row.count(",") > manifest[0].count(",") for row in manifest[1:])


def test_files_are_the_same_byte_for_byte_every_time(tmp_path: Path, subject_files) -> None:
    _write(tmp_path, long_axis=True)
    for field in ("20208", "20209"):
        name = f"{EID}_{field}_2_0.zip"
        assert (tmp_path / name).read_bytes() == (subject_files[0] / name).read_bytes()


def test_planes_of_both_axes_cross_at_the_lv_centre(tmp_path: Path) -> None:
    for index in range(3):
        truth = _write(tmp_path, long_axis=True, index=index)
        cine = read_cine(_short_axis(tmp_path), "ukb")
        centre = heart_centre(cine, tmp_path / f"{EID}_20208_2_0.zip")
        assert centre.method == "planes"
        assert np.linalg.norm(centre.point_mm - np.array(truth.centre_mm)) < 1.0


def test_blood_is_bright_at_the_lv_centre_in_both_axes(subject_files: tuple[Path, HeartTruth]) -> None:
    folder, truth = subject_files
    for field, description in (("20209", "SAX_b4"), ("20208", "LAX_2Ch"), ("20208", "LAX_4Ch")):
        images = _objects(folder / f"{EID}_{field}_2_0.zip")
        image = next(i for i in images if i.SeriesDescription.endswith(description) and i.InstanceNumber == 1)
        offset = np.array(truth.centre_mm) - np.array(image.ImagePositionPatient, float)
        axes = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        column, row = np.round(axes @ offset / np.array(image.PixelSpacing, float)[::-1]).astype(int)
        assert 1 <= row < image.Rows - 1 and 1 <= column < image.Columns - 1
        around = image.pixel_array[row - 1 : row + 2, column - 1 : column + 2]
        assert around.mean() > 3 * np.median(image.pixel_array)


def test_long_axis_ventricle_empties_and_fills_with_the_volume_curve(subject_files) -> None:
    folder, truth = subject_files
    images = [i for i in _objects(folder / f"{EID}_20208_2_0.zip") if i.SeriesDescription.endswith("2Ch")]
    images.sort(key=lambda i: i.TriggerTime)
    middle = slice(images[0].Rows // 2 - 2, images[0].Rows // 2 + 8)
    pool = np.array([i.pixel_array[middle, 14:-14].mean(dtype=float) for i in images])
    assert len(images) == PRESETS["small"].n_frames
    assert abs(int(np.argmin(pool)) - truth.es_frame) <= 2
    assert pool.min() < 0.9 * pool[0]


def test_truncated_zip_has_lost_its_directory(tmp_path: Path) -> None:
    _write(tmp_path, "truncated_zip")
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(_short_axis(tmp_path))
    with pytest.raises(UnreadableCine):
        read_cine(_short_axis(tmp_path), "ukb")


def test_missing_slice_leaves_a_gap_in_the_middle(tmp_path: Path) -> None:
    _write(tmp_path, "missing_slice")
    cine = read_cine(_short_axis(tmp_path), "ukb")
    assert len(cine.slices) == PRESETS["small"].n_slices - 1 and "slice_gap" in cine.flags


def test_of_a_repeated_slice_the_later_complete_series_is_the_true_one(tmp_path: Path, subject_files) -> None:
    _write(tmp_path, "duplicate_series")
    images = _objects(_short_axis(tmp_path))
    series = {i.SeriesInstanceUID: [j for j in images if j.SeriesInstanceUID == i.SeriesInstanceUID] for i in images}
    twice = [s for s in series.values() if s[0].SeriesDescription == "CINE_segmented_SAX_b4"]
    short, complete = sorted(twice, key=len)
    n = PRESETS["small"].n_frames
    assert len(short) < len(complete) == n and short[0].AcquisitionTime < complete[0].AcquisitionTime
    assert min(i.InstanceNumber for i in short) == 1 and short[0].CardiacNumberOfImages == n
    # The attempt broke off: its frames lie at the times of the complete one.
    assert {i.TriggerTime for i in short} < {i.TriggerTime for i in complete}
    read, clean = read_cine(_short_axis(tmp_path), "ukb"), read_cine(_short_axis(subject_files[0]), "ukb")
    assert read.n_repeats == 1
    np.testing.assert_array_equal(read.slices[3].pixels, clean.slices[3].pixels)


def test_inlinevf_series_comes_on_top_of_the_cine(tmp_path: Path, subject_files) -> None:
    _write(tmp_path, "inlinevf_series")
    names = {i.SeriesDescription for i in _objects(_short_axis(tmp_path))}
    assert "CINE_segmented_SAX_InlineVF" in names and len(names) == PRESETS["small"].n_slices + 1
    read, clean = read_cine(_short_axis(tmp_path), "ukb"), read_cine(_short_axis(subject_files[0]), "ukb")
    for a, b in zip(read.slices, clean.slices, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_one_frame_short_leaves_a_hole_in_the_trigger_times(tmp_path: Path) -> None:
    truth = _write(tmp_path, "frame_count")
    images = [i for i in _objects(_short_axis(tmp_path)) if i.SeriesDescription.endswith("_b2")]
    n = PRESETS["small"].n_frames
    assert len(images) == n - 1 and {i.CardiacNumberOfImages for i in images} == {n}
    gaps = np.diff(sorted(i.TriggerTime for i in images)) * n / truth.rr_ms
    assert sorted(np.round(gaps)) == [1] * (n - 3) + [2]


def test_instances_of_one_series_start_after_the_number_of_frames(tmp_path: Path) -> None:
    _write(tmp_path, "instance_from_51")
    n = PRESETS["small"].n_frames
    numbers = sorted(i.InstanceNumber for i in _objects(_short_axis(tmp_path)) if i.SeriesDescription.endswith("_b3"))
    assert numbers == list(range(n + 1, 2 * n + 1))


def test_manifest_may_carry_its_proper_extension(tmp_path: Path) -> None:
    _write(tmp_path, "manifest_csv")
    with zipfile.ZipFile(_short_axis(tmp_path)) as archive:
        assert "manifest.csv" in archive.namelist() and "manifest.cvs" not in archive.namelist()
