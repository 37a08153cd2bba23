"""Stacks of synthetic and real slices with what scanners and exporters make of them; pixels and files besides."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.cmr import enhanced, header, pixels, quality, read_cine
from ptacl.cmr.container import FolderMember
from ptacl.cmr.record import Cine
from ptacl.cmr.stage import read_member
from ptacl.cmr.tensor import choose_slices, make_tensor
from ptacl.errors import UnreadableCine, UnusableCine
from tests.faults.cine_changes import (
    counted_on,
    deflated_bomb,
    drawn_repeat,
    enhanced_per_slice,
    moved,
    overlaid_in,
    turned,
)
from tests.faults.cine_files import (
    FRAMES,
    and_more,
    both,
    copies,
    darker,
    edited,
    images,
    place,
    sets,
    sound_cine,
    sound_files,
    with_bytes,
    with_tags,
    without,
    zip_of,
)
from tests.faults.nifti_files import nifti, reoriented

SETTINGS = {"slices": 3, "frames": 20, "frame_ms": None, "crop_mm": 166, "size": 32}


def stage_row(path: Path, source: str = "ukb", **changes: object) -> dict:
    """The row that the stage makes of a file."""
    member = {"subject_id": "9000001", "visit": 2, "cmr_path": path.name, "lax_path": None}
    return read_member(member, path.parent, SETTINGS | changes, source)[0]


def test_a_repeat_with_interleaved_numbers_and_no_time_of_its_own_is_one_acquisition(tmp_path: Path) -> None:
    def interleaved(dataset) -> None:
        dataset.InstanceNumber = dataset.InstanceNumber * 2
        dataset.TriggerTime = f"{float(dataset.TriggerTime) * 0.97:.3f}"

    cine = read_cine(and_more(copies(2, both(darker, interleaved)))(tmp_path), "ukb").decoded()
    assert cine.n_repeats == 1 and cine.flags == {"repeated_slice"}
    sound = sound_cine().slices[1].pixels
    assert any(np.array_equal(cine.slices[1].pixels, p) for p in (sound, sound // 2))


def test_of_two_whole_acquisitions_in_a_series_the_later_counts(tmp_path: Path) -> None:
    for by in (FRAMES, 0):
        cine = read_cine(and_more(copies(2, counted_on(by, 0.97)))(tmp_path), "ukb").decoded()
        np.testing.assert_array_equal(cine.slices[1].pixels, sound_cine().slices[1].pixels // 2)
        assert cine.n_repeats == 1


def test_of_two_whole_stacks_the_later_counts(tmp_path: Path) -> None:
    def planned_anew(files) -> dict[str, bytes]:
        return {
            f"c{n}": edited(
                files[n], both(turned, sets(SeriesInstanceUID=f"1.0.{place(n)[0]}", AcquisitionTime="120000"))
            )
            for n in images()
        }

    cine = read_cine(and_more(planned_anew)(tmp_path), "ukb")
    assert cine.flags == {"other_orientation"}
    assert abs(cine.slices[0].normal @ sound_cine().slices[0].normal) < 0.97


@pytest.mark.parametrize("absent", [range(7, 8), range(1, 2), range(20, 21), range(19, 21)])
def test_frames_absent_everywhere_are_filled_and_no_other_changes(absent: range, tmp_path: Path) -> None:
    for make in (without(lambda: images(None, absent)), no_nominal(absent)):
        cine = read_cine(make(tmp_path), "ukb").decoded()
        assert (cine.n_frames, cine.flags) == (20, {"frames_interpolated"})
        assert cine.phase_0 == pytest.approx(0, abs=1e-4)
        assert cine.rr_ms == pytest.approx(sound_cine().rr_ms, abs=1)
        there = [t for t in range(20) if t + 1 not in absent]
        for ours, theirs in zip(cine.slices, sound_cine().slices, strict=True):
            np.testing.assert_array_equal(ours.pixels[there], theirs.pixels[there])
            np.testing.assert_allclose(ours.trigger_ms, theirs.trigger_ms, atol=0.1)


def no_nominal(absent: range) -> Callable[[Path], Path]:
    names = [n for n in images() if place(n)[1] not in absent]
    return zip_of(lambda files: {n: edited(files[n], sets(NominalInterval="")) for n in names})


def test_a_gap_in_trigger_times_tells_of_an_absent_frame_where_the_header_does_not(tmp_path: Path) -> None:
    names = images(None, [t for t in range(1, 21) if t != 7])
    path = zip_of(lambda files: {n: edited(files[n], sets(CardiacNumberOfImages="")) for n in names})(tmp_path)
    cine = read_cine(path, "ukb")
    assert (cine.n_frames, cine.flags) == (20, {"frames_interpolated"})


def test_a_slice_that_drops_out_leaves_a_gap(tmp_path: Path) -> None:
    path = with_bytes(lambda: images(3), lambda d: d[:-3000])(tmp_path)
    cine = read_cine(path, "table")
    assert cine.flags == set() and cine.decoded().flags == {"slice_dropped", "slice_gap"}


def test_slices_turned_in_their_plane_are_noted(tmp_path: Path) -> None:
    def half_turn(dataset) -> None:
        axes = -np.array(dataset.ImageOrientationPatient, float)
        dataset.ImageOrientationPatient = [f"{x:.6f}" for x in axes]

    cine = read_cine(with_tags(lambda: images(3), half_turn)(tmp_path), "table")
    assert len(cine.slices) == 5 and cine.flags == {"slice_dropped", "slice_gap"}


def test_a_moved_repeat_is_no_slice_between_slices(tmp_path: Path) -> None:
    change = both(darker, moved(3), sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000"))
    cine = read_cine(and_more(copies(3, change))(tmp_path), "ukb")
    assert len(cine.slices) == 6 and cine.n_repeats == 1


def test_contours_in_every_image_are_the_reason_in_the_stage_too(tmp_path: Path) -> None:
    path = with_tags(images, overlaid_in(0x6000))(tmp_path)
    assert stage_row(path)["reason"] == "no_cine_series"
    assert stage_row(path, "table")["status"] == "ok"
    assert stage_row(drawn_repeat(0x6000, None)(tmp_path))["status"] == "ok"


def test_one_slice_is_enough_for_the_middle_slice_and_for_nothing_else(tmp_path: Path) -> None:
    path = zip_of(lambda files: {n: files[n] for n in images(3)})(tmp_path)
    assert stage_row(path)["reason"] == "too_few_slices"
    row = stage_row(path, slices=1)
    assert (row["status"], row["n_slices"], row["slice_positions_mm"]) == ("ok", 1, [0.0])
    for source, needed in (("ukb", 6), ("table", 3)):
        cine = read_cine(path, source)
        with pytest.raises(UnusableCine, match=f"at least {needed}"):
            quality.check(cine, source)


@pytest.mark.parametrize(
    ("positions", "count", "expected"),
    [
        (np.arange(3), 3, [0, 1, 2]),
        (np.arange(4), 3, [0, 1, 2]),
        (np.arange(6), 6, [0, 1, 2, 3, 4, 5]),
        (np.arange(6), 5, [0, 1, 2, 3, 4]),
        (np.array([0, 1, 2, 8, 9, 10]), 3, [1, 2, 3]),
        (np.arange(12), 6, [2, 3, 5, 6, 8, 9]),
        (np.arange(2), 3, [0, 1]),
    ],
)
def test_no_slice_is_chosen_twice(positions: np.ndarray, count: int, expected: list[int]) -> None:
    assert choose_slices(positions * 10.0, count) == expected


@given(st.lists(st.integers(3, 30), min_size=1, max_size=14), st.integers(1, 6))
def test_slices_are_chosen_as_the_nearest_ones_wherever_these_are_distinct(steps: list[int], count: int) -> None:
    positions = np.cumsum([0.0, *steps])
    targets = positions[-1] * (np.arange(count) + 1) / (count + 1)
    nearest = [int(np.argmin(np.round(np.abs(positions - t), 3))) for t in targets]
    chosen = choose_slices(positions, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(positions)) and chosen == sorted(chosen)
    if len(set(nearest)) == count:
        assert chosen == nearest


# --- NIfTI in any order of voxels ---------------------------------------------------------------------------------------


def tensor_of(cine: Cine, centre_mm: np.ndarray) -> np.ndarray:
    return make_tensor(cine, centre_mm, SETTINGS)[0].astype(float)


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_a_nifti_gives_one_tensor_in_whatever_order_its_voxels_are(tmp_path: Path, shared_data) -> None:
    folder = shared_data("sunnybrook-scd")
    dicom = read_cine(folder / "SCD0000301_sax.zip")
    centre = dicom.slices[5].to_mm(128, 128)
    plain = tensor_of(dicom, centre)
    image = nib.load(folder / "nifti_derived" / "SCD0000301_sax_4d.nii.gz")
    wholes = [image, nib.as_closest_canonical(image)]
    for codes in ("LPS", "LAS", "SPL", "PIR"):
        turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(codes))
        wholes.append(image.as_reoriented(turn))
    for k, whole in enumerate(wholes):
        nib.save(whole, tmp_path / f"{k}.nii")
        assert alike(tensor_of(read_cine(tmp_path / f"{k}.nii"), centre), plain) > 0.999


def test_every_reader_shows_the_heart_from_the_apex(tmp_path: Path) -> None:
    sound = sound_cine()
    centre = sound.slices[3].to_mm(52, 52)
    reference = tensor_of(sound, centre)
    for codes in ("RAS", "LPS", "SPL"):
        (tmp_path / codes).mkdir()
        other = tensor_of(read_cine(nifti(reoriented(codes))(tmp_path / codes)), centre)
        # The synthetic scanner turns its images half round; no reader mirrors them.
        assert alike(other[..., ::-1, ::-1], reference) > 0.999


# --- Pixels and files ---------------------------------------------------------------------------------------------------


def plain_file(image: np.ndarray) -> bytes:
    length = (2 * image.size).to_bytes(4, "little")
    return bytes(200) + b"\xe0\x7f\x10\0OW\0\0" + length + image.tobytes()


def test_bits_above_the_stored_ones_do_not_count() -> None:
    image = np.array([[0, 5, 4095], [2047, 2048, 1]], "<u2")
    dirty = plain_file(image | np.uint16(0xA000))
    np.testing.assert_array_equal(pixels.tail(dirty, (2, 3), "<u2", 12), image)
    signed = pixels.tail(dirty, (2, 3), "<i2", 12)
    np.testing.assert_array_equal(signed, [[0, 5, -1], [2047, -2048, 1]])
    np.testing.assert_array_equal(pixels.tail(dirty, (2, 3), "<u2", 16), image | np.uint16(0xA000))
    assert [pixels.stored_bits(*x) for x in ((12, 11, 16), (12, 15, 16), (0, -1, 16), (99, 3, 16))] == [12, 16, 16, 16]


def test_pixels_in_the_upper_bits_are_the_same_by_pydicom(tmp_path: Path) -> None:
    def upper(dataset) -> None:
        dataset.PixelData = (dataset.pixel_array.astype("<u2") << 4).tobytes()
        dataset.HighBit = 15

    path = tmp_path / "a.dcm"
    path.write_bytes(edited(sound_files()[images(2)[0]], upper))
    (frame,) = header.FrameReader().read(FolderMember(path, path.stat().st_size))
    np.testing.assert_array_equal(frame.load(), pixels.decode(path.read_bytes()))
    assert frame.load().max() > 4095


def test_a_damaged_multi_frame_object_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(data: bytes) -> np.ndarray:
        calls.append(len(data))
        raise ValueError("a fragment is missing")

    monkeypatch.setattr(enhanced, "decode", broken)
    with pytest.raises(UnreadableCine, match="truncated"):
        read_cine(enhanced_per_slice(tmp_path), "table").decoded()
    assert len(calls) == 6


def test_what_is_read_whole_is_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_tags(images, sets(), "1.2.840.10008.1.2.1.99")(tmp_path)
    assert len(read_cine(path, "ukb").slices) == 6
    monkeypatch.setattr(header, "MAX_TOTAL_BYTES", 10**6)
    with pytest.raises(UnreadableCine, match="too_large"):
        read_cine(path, "ukb")


def test_a_deflated_bomb_costs_no_more_than_the_largest_file(tmp_path: Path) -> None:
    bomb = deflated_bomb(tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableCine):
            read_cine(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * header.MAX_FILE_BYTES < 200 * 2**20
