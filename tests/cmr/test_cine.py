"""Cines, real, odd and hostile: order and geometry right, or refused with a reason."""

import csv
import io
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from ptacl.cmr import read_cine
from ptacl.cmr.centre import heart_centre
from ptacl.cmr.frame import Frame
from ptacl.cmr.header import FrameReader
from ptacl.cmr.inspect import describe
from ptacl.cmr.quality import check
from ptacl.cmr.tags import find_tags, tags_by_pydicom
from ptacl.cmr.tensor import cardiac_frames, choose_slices, crop, make_tensor, resample_frames
from ptacl.errors import UnreadableCine, UnusableCine
from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject
from tests.faults.cine_files import images, sound_files

SUBJECT = draw_subject(3, 4)


def heart(folder: Path, *faults: str, long_axis: bool = False):
    """A synthetic zip and its truth."""
    truth = write_heart_files(
        SUBJECT, eid="9000001", instance=2, rng=np.random.default_rng(1), size="small", folder=folder,
        faults=frozenset(faults), long_axis=long_axis,
    )  # fmt: skip
    return folder / "9000001_20209_2_0.zip", truth


@dataclass(frozen=True)
class Bytes:
    """A member whose content is at hand."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def head(self, limit: int) -> bytes:
        return self.data[:limit]

    def content(self) -> bytes:
        return self.data


def parse_frame(data: bytes) -> Frame | None:
    try:
        return next(iter(FrameReader().read(Bytes(data))), None)
    except ValueError:
        return None


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as z:
        return {n: z.read(n) for n in z.namelist() if n.endswith(".dcm")}


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return path


def edited(data: bytes, **tags: object) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(data))
    for name, value in tags.items():
        setattr(dataset, name, value)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def contours(folder: Path, subject: str, kind: str) -> dict[int, np.ndarray]:
    pattern = f"IM-0001-*-{kind}contour-manual.txt"
    files = (folder / f"{subject}_contours").glob(pattern)
    return {int(f.name.split("-")[2]): np.loadtxt(f) for f in files}


def polygon_area(xy: np.ndarray) -> float:
    x, y = xy.T
    return 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))


@pytest.mark.parametrize("subject", ["SCD0000101", "SCD0000301"])
def test_expert_contours_fall_on_the_reference_frames_and_give_the_volumes(shared_data, subject: str) -> None:
    folder = shared_data("sunnybrook-scd")
    with open(folder / "reference.csv") as f:
        reference = next(r for r in csv.DictReader(f) if r["subject"] == subject)
    cine = read_cine(folder / f"{subject}_sax.zip")
    assert (len(cine.slices), cine.n_frames) == (int(reference["n_slices"]), int(reference["n_frames"]))
    assert cine.slice_step_mm == pytest.approx(float(reference["slice_step_mm"]), rel=1e-3)
    place = {n: (z, t) for z, order in enumerate(cine.frame_order) for t, n in enumerate(order)}
    pixel = cine.slices[0].spacing_mm[0] * cine.slices[0].spacing_mm[1]
    volume, ed_areas = {"ed": 0.0, "es": 0.0}, {}
    frames = {int(reference["ed_frame0"]): "ed", int(reference["es_frame0"]): "es"}
    for instance, xy in contours(folder, subject, "i").items():
        z, t = place[instance]
        volume[frames[t]] += polygon_area(xy) * pixel * cine.slice_step_mm / 1000
        if frames[t] == "ed":
            ed_areas[z] = polygon_area(xy)
    assert volume["ed"] == pytest.approx(float(reference["lv_edv_ml"]), rel=0.02)
    assert volume["es"] == pytest.approx(float(reference["lv_esv_ml"]), rel=0.02)
    areas = [ed_areas[z] for z in sorted(ed_areas)]
    assert areas[-1] < 0.5 * max(areas) and areas[-1] == min(areas)  # index grows towards the apex


def test_dicom_and_nifti_of_one_person_are_the_same_stack(shared_data) -> None:
    folder = shared_data("sunnybrook-scd")
    dicom = read_cine(folder / "SCD0000301_sax.zip")
    nifti = read_cine(folder / "nifti_derived" / "SCD0000301_sax_4d.nii.gz")
    assert nifti.slice_step_mm == pytest.approx(dicom.slice_step_mm, rel=1e-3)
    assert nifti.rr_ms == pytest.approx(dicom.rr_ms, rel=0.01)
    for a, b in zip(dicom.slices, nifti.slices, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        np.testing.assert_allclose(a.origin_mm, b.origin_mm, atol=0.01)
    assert dicom.phase_0 > 0 and nifti.phase_0 == 0


def test_the_siemens_stack_is_ordered_by_geometry_and_its_long_axis_is_no_stack(shared_data) -> None:
    folder = shared_data("biv-me-siemens")
    found = describe(folder / "patient1_sax.zip")
    assert (found["n_slices"], found["n_frames"], found["rows"], found["columns"]) == (6, 25, 208, 256)
    assert found["slice_step_mm"] == pytest.approx(17.7, abs=0.05) and 776 <= found["rr_ms"] <= 863
    assert not describe(folder / "patient1_lax.zip")["usable"]


def test_the_whole_way_from_rendered_heart_to_stack(tmp_path: Path) -> None:
    path, truth = heart(tmp_path, long_axis=True)
    cine = read_cine(path, "ukb")
    assert (len(cine.slices), cine.n_frames, cine.phase_0, cine.flags) == (6, 20, 0.0, set())
    assert cine.rr_ms == pytest.approx(truth.rr_ms, abs=1)
    assert [s.instances for s in cine.slices] == [list(range(1, 21))] * 6
    by_planes = heart_centre(cine, tmp_path / "9000001_20208_2_0.zip")
    assert by_planes.method == "planes"
    assert np.linalg.norm(by_planes.point_mm - truth.centre_mm) < 1
    by_image = heart_centre(cine)
    assert by_image.method == "ventricle"
    assert np.linalg.norm(by_image.point_mm - truth.centre_mm) < 8
    tensor, chosen = make_tensor(cine, by_planes.point_mm, {"slices": 3, "frames": 20, "crop_mm": 166, "size": 32})
    assert tensor.shape == (3, 20, 32, 32) and tensor.dtype == np.uint8 and chosen == [1, 2, 4]
    ed, es = cardiac_frames(tensor, 166, "ukb")
    assert ed == 0 and abs(es - truth.es_frame) <= 2


@pytest.mark.parametrize(
    ("fault", "flag"),
    [("duplicate_series", "repeated_slice"), ("inlinevf_series", "inlinevf_series"),
     ("frame_count", "frames_interpolated"), ("instance_from_51", None), ("manifest_csv", None)],
)  # fmt: skip
def test_known_quirks_leave_the_same_heart(tmp_path: Path, fault: str, flag: str | None) -> None:
    plain = read_cine(heart(tmp_path / "a")[0], "ukb")
    odd = read_cine(heart(tmp_path / "b", fault)[0], "ukb")
    assert odd.flags == ({flag} if flag else set())
    for a, b in zip(plain.slices, odd.slices, strict=True):
        difference = np.abs(a.pixels.astype(float) - b.pixels)
        assert difference.max() == 0 or (fault == "frame_count" and (difference.max(axis=(1, 2)) > 1).sum() == 1)


def test_a_missing_slice_leaves_too_few_for_uk_biobank(tmp_path: Path) -> None:
    cine = read_cine(heart(tmp_path, "missing_slice")[0], "ukb")
    assert "slice_gap" in cine.flags
    with pytest.raises(UnusableCine, match="too_few_slices"):
        check(cine, "ukb")
    check(cine, "table")


def test_order_does_not_depend_on_names_numbers_or_the_direction_of_the_stack(tmp_path: Path) -> None:
    path, _ = heart(tmp_path)
    plain = read_cine(path, "ukb")
    files = {}
    for i, data in enumerate(members(path).values()):
        frame = parse_frame(data)
        files[f"{(i * 37) % 1000:04d}"] = edited(
            data, SeriesNumber=99 - int(frame.series_number), InstanceNumber=21 - frame.instance,
            SeriesDescription="CINE_segmented_SAX", SeriesInstanceUID="1.2.3",
        )  # fmt: skip
    unsplit = read_cine(zipped(tmp_path / "odd.zip", files), "ukb")
    for a, b in zip(plain.slices, unsplit.slices, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_the_quick_header_walk_equals_pydicom(tmp_path: Path) -> None:
    for data in list(members(heart(tmp_path)[0]).values())[:5]:
        (ours, broken), theirs = find_tags(data), tags_by_pydicom(data)
        assert not broken and ours is not None and theirs is not None
        assert ours.pop("TransferSyntaxUID") == b"1.2.840.10008.1.2.1"
        assert ours == theirs
        np.testing.assert_array_equal(parse_frame(data).load(), pydicom.dcmread(io.BytesIO(data)).pixel_array)


def test_a_compressed_frame_is_decoded(tmp_path: Path) -> None:
    data = next(iter(members(heart(tmp_path)[0]).values()))
    dataset = pydicom.dcmread(io.BytesIO(data))
    plain = dataset.pixel_array
    dataset.compress(RLELossless)
    out = io.BytesIO()
    dataset.save_as(out)
    frame = parse_frame(out.getvalue())
    np.testing.assert_array_equal(frame.load(), plain)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: p.write_bytes(b""), "empty_file"),
        (lambda p: p.write_bytes(b"PK\3\4 not really"), "truncated"),
        (lambda p: p.write_bytes(b"something else"), "not_a_cine"),
        (lambda p: zipped(p, {}), "empty_zip"),
        (lambda p: zipped(p, {"manifest.cvs": b"filename\n", "notes.dcm": b"no DICOM"}), "empty_zip"),
        (lambda p: zipped(p, {f"{i}.dcm": b"\0" * (65 * 2**20) for i in range(2)}), "empty_zip"),
    ],
)
def test_an_unreadable_zip_has_its_reason(tmp_path: Path, make, expected: str) -> None:
    path = tmp_path / "x.zip"
    make(path)
    with pytest.raises(UnreadableCine) as error:
        read_cine(path, "ukb")
    assert error.value.code == expected


def test_a_zip_cut_anywhere_is_unreadable_and_nothing_worse(tmp_path: Path) -> None:
    path, _ = heart(tmp_path)
    data = path.read_bytes()
    for share in (0.01, 0.3, 0.8, 0.999):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(UnreadableCine, match="truncated"):
            read_cine(path, "ukb")


def test_damaged_members_cost_their_slices_only(tmp_path: Path) -> None:
    path, _ = heart(tmp_path)
    files = members(path)
    victims = [n for n, d in files.items() if parse_frame(d).description.endswith("b3")][:10]
    cine = read_cine(zipped(tmp_path / "x.zip", {n: d[:900] if n in victims else d for n, d in files.items()}), "ukb")
    assert len(cine.slices) == 5 and "slice_dropped" in cine.flags


def test_names_in_a_zip_are_never_paths(tmp_path: Path) -> None:
    path, _ = heart(tmp_path / "in")
    files = {f"../../{i}.dcm": d for i, d in enumerate(members(path).values())}
    assert len(read_cine(zipped(tmp_path / "x.zip", files), "ukb").slices) == 6
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "x.zip"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 3000))
def test_any_bytes_are_a_frame_or_none(tmp_path_factory, data: bytes, cut: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    if not folder.exists():
        heart(folder)
    whole = next(iter(members(folder / "9000001_20209_2_0.zip").values()))
    for attempt in (data, b"\0" * 128 + b"DICM" + data, whole[:cut] + data + whole[cut + len(data) :]):
        frame = parse_frame(attempt)
        if frame is not None:
            try:
                assert frame.load().shape == (frame.plane.rows, frame.plane.columns)
            except ValueError:
                pass


def test_nifti_faults_have_their_reason(tmp_path: Path) -> None:
    import nibabel as nib

    def code(name: str, array: np.ndarray, affine=np.diag([1.5, 1.5, 8, 1])) -> str | None:
        nib.save(nib.Nifti1Image(array, affine), tmp_path / name)
        try:
            read_cine(tmp_path / name)
        except UnreadableCine as e:
            return e.code
        return None

    volume = np.random.default_rng(0).integers(0, 99, (20, 20, 4, 10)).astype(np.int16)
    assert code("ok.nii.gz", volume) is None
    assert code("flat.nii.gz", volume[..., 0]) == "not_a_cine"
    bad = volume.astype(np.float32)
    bad[0, 0, 0, 0] = np.nan
    assert code("nan.nii.gz", bad) == "bad_values"
    whole = (tmp_path / "ok.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableCine, match="truncated"):
        read_cine(tmp_path / "cut.nii.gz")


@pytest.mark.parametrize(
    ("positions", "count", "expected"),
    [
        (np.arange(6.0), 3, [1, 2, 4]),
        (np.arange(9.0), 3, [2, 4, 6]),
        (np.arange(5.0), 1, [2]),
        (np.arange(6.0), 1, [2]),
    ],
)
def test_slices_are_nearest_to_equal_parts_with_ties_to_the_base(positions, count: int, expected) -> None:
    assert choose_slices(positions * 10, count) == expected


def test_frames_are_resampled_on_the_cycle_and_frame_0_stays() -> None:
    wave = np.cos(2 * np.pi * np.arange(50) / 50)[:, None, None]
    for count in (25, 20, 30):
        out = resample_frames(wave, count)
        assert out[0] == wave[0]
        np.testing.assert_allclose(out[:, 0, 0], np.cos(2 * np.pi * np.arange(count) / count), atol=0.005)
    assert resample_frames(wave, 25).base is wave.base or np.shares_memory(resample_frames(wave, 25), wave)


def test_a_crop_keeps_the_mean_the_place_and_the_size_in_mm(tmp_path: Path) -> None:
    cine = read_cine(heart(tmp_path)[0], "ukb")
    s = cine.slices[2]
    ramp = np.broadcast_to(np.arange(s.pixels.shape[2], dtype=np.float32), (1, *s.pixels.shape[1:]))
    centre = s.to_mm(52.0, 50.0)
    out = crop(s, ramp, centre, 83.2, 16)[0]
    assert out[:, 7:9].mean() == pytest.approx(50.0, abs=1e-3)
    assert np.diff(out, axis=1) == pytest.approx(83.2 / 16 / 2.6, rel=1e-3)


def test_no_value_of_a_header_reaches_a_log(caplog: pytest.LogCaptureFixture) -> None:
    data = sound_files()[images(1)[0]].replace(b"1.2.826", b"SOMEONE", 9)
    assert tags_by_pydicom(data) is not None
    assert "SOMEONE" not in caplog.text
    logging.getLogger("pydicom").setLevel(logging.WARNING)
    try:
        tags_by_pydicom(data)
        assert "SOMEONE" in caplog.text  # so it would be
    finally:
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
