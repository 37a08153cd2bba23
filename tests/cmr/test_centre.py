"""The heart's centre and its two frames: against experts' contours, synthetic truth and long-axis planes of every kind."""

import csv
import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ptacl.cmr import centre, read_cine
from ptacl.cmr.centre import heart_centre, long_axis_planes
from ptacl.cmr.record import Cine, Slice
from ptacl.cmr.tensor import cardiac_frames, make_tensor
from ptacl.errors import UnreadableCine
from ptacl.synthetic.heart_files import HeartTruth, write_heart_files
from ptacl.synthetic.latents import draw_subject

EID = "9000001"
SUNNYBROOK = ["SCD0000101", "SCD0000301"]
TENSORS = [
    {"slices": 3, "frames": 20, "crop_mm": 166, "size": 32},
    {"slices": 3, "frames": 20, "crop_mm": 200, "size": 128},
]


@functools.cache
def synthetic(size: str, index: int) -> tuple[Cine, HeartTruth]:
    """A decoded synthetic stack and its truth."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write_heart_files(
            draw_subject(17, index), eid=EID, instance=2, rng=np.random.default_rng([17, index]), size=size,
            folder=folder, faults=frozenset(), long_axis=False,
        )  # fmt: skip
        cine = read_cine(folder / f"{EID}_20209_2_0.zip", "ukb")
        return cine.decoded(), truth


SYNTHETIC = [("small", i) for i in range(24)] + [("full", i) for i in range(3)]


def away_mm(cine: Cine, a: np.ndarray, b: np.ndarray) -> float:
    """Distance within the slice plane."""
    middle = cine.slices[len(cine.slices) // 2]
    return float(np.hypot(*((np.array(middle.to_pixel(a)) - middle.to_pixel(b)) * middle.spacing_mm)))


def expert(folder: Path, subject: str) -> tuple[Cine, dict[tuple[int, int], np.ndarray], dict[str, str]]:
    """The stack, the endocardial contours ((row, column) in pixels) by slice and frame, and the row of reference.csv."""
    with open(folder / "reference.csv") as f:
        reference = next(r for r in csv.DictReader(f) if r["subject"] == subject)
    cine = read_cine(folder / f"{subject}_sax.zip")
    place = {n: (z, t) for z, order in enumerate(cine.frame_order) for t, n in enumerate(order)}
    files = (folder / f"{subject}_contours").glob("IM-0001-*-icontour-manual.txt")
    return cine, {place[int(f.name.split("-")[2])]: np.loadtxt(f)[:, ::-1] for f in files}, reference


def polygon_centre(points: np.ndarray) -> np.ndarray:
    following = np.roll(points, -1, axis=0)
    cross = points[:, 1] * following[:, 0] - following[:, 1] * points[:, 0]
    return ((points + following) * cross[:, None]).sum(0) / (3 * cross.sum())


def altered(cine: Cine, change) -> Cine:
    """The same stack with other pixels."""

    def slice_(s: Slice) -> Slice:
        pixels = change(s.pixels)
        return Slice(
            pixels.shape, s.origin_mm, s.row_axis, s.column_axis, s.spacing_mm, s.trigger_ms, s.instances,
            load=lambda: pixels,
        )  # fmt: skip

    return replace(cine, slices=[slice_(s) for s in cine.slices])


@pytest.mark.parametrize("subject", SUNNYBROOK)
def test_the_centre_is_where_experts_draw_the_left_ventricle_and_no_crop_cuts_it(shared_data, subject: str) -> None:
    cine, contours, _ = expert(shared_data("sunnybrook-scd"), subject)
    found, middle = heart_centre(cine), len(cine.slices) // 2
    assert found.method == "ventricle" and found.confidence > 0.4
    for frame in {t for _, t in contours}:
        centres = [polygon_centre(c) for (z, t), c in contours.items() if t == frame and abs(z - middle) <= 1]
        assert away_mm(cine, found.point_mm, cine.slices[middle].to_mm(*np.mean(centres, axis=0))) < 10
    for (z, _), points in contours.items():
        s = cine.slices[z]
        assert np.abs((points - s.to_pixel(found.point_mm)) * s.spacing_mm).max() < 50


@pytest.mark.parametrize("subject", SUNNYBROOK)
@pytest.mark.parametrize("settings", TENSORS, ids=["small", "large"])
def test_end_systole_is_within_a_frame_and_end_diastole_within_two_of_the_experts(
    shared_data, subject: str, settings: dict
) -> None:
    cine, _, reference = expert(shared_data("sunnybrook-scd"), subject)
    tensor, _ = make_tensor(cine, heart_centre(cine).point_mm, settings)
    ed, es = cardiac_frames(tensor, settings["crop_mm"], "table")
    assert (ed - int(reference["ed_frame0"]) + 10) % 20 - 10 in range(-2, 3)
    assert (es - int(reference["es_frame0"]) + 10) % 20 - 10 in range(-1, 2)


def test_planes_that_miss_the_left_ventricle_are_outvoted_whatever_their_names(shared_data) -> None:
    """One of the views called 2CH runs through the right ventricle, and RVOT is another."""
    folder = shared_data("biv-me-siemens")
    cine = read_cine(folder / "patient1_sax.zip")
    by_image, by_planes = heart_centre(cine), heart_centre(cine, folder / "patient1_lax.zip")
    assert (by_image.method, by_planes.method) == ("ventricle", "planes")
    assert away_mm(cine, by_image.point_mm, by_planes.point_mm) < 6
    # By eye: the middle of the cavity on the middle slice.
    assert away_mm(cine, by_image.point_mm, cine.slices[3].to_mm(104.5, 131.5)) < 6


def test_the_centre_of_synthetic_hearts_is_within_8_mm_and_a_crop_of_100_mm_holds_the_ventricle() -> None:
    distance = {case: away_mm(c, heart_centre(c).point_mm, np.array(t.centre_mm)) for case in SYNTHETIC
                for c, t in [synthetic(*case)]}  # fmt: skip
    for size in ("small", "full"):
        assert np.mean([d < 8 for (s, _), d in distance.items() if s == size]) >= 0.95
    # The largest ventricle is 70 mm across.
    assert max(distance.values()) < 15


def test_end_systole_of_synthetic_hearts_is_within_two_frames() -> None:
    near = []
    for case in SYNTHETIC:
        cine, truth = synthetic(*case)
        tensor, _ = make_tensor(cine, heart_centre(cine).point_mm, TENSORS[0])
        off = cardiac_frames(tensor, TENSORS[0]["crop_mm"], "ukb")[1] - truth.es_frame * 20 / cine.n_frames
        near.append(abs((off + 10) % 20 - 10) <= 2)
    assert np.mean(near) >= 0.95


def test_the_centre_does_not_depend_on_where_the_cycle_starts_nor_on_the_image_s_direction() -> None:
    cine, _ = synthetic("small", 0)
    plain = heart_centre(cine)
    assert away_mm(cine, heart_centre(altered(cine, lambda p: np.roll(p, 7, 0))).point_mm, plain.point_mm) < 0.1
    middle = cine.slices[len(cine.slices) // 2]
    row, column = middle.to_pixel(plain.point_mm)
    turned = altered(cine, lambda p: p[:, ::-1, ::-1])
    expected = middle.to_mm(middle.shape[1] - 1 - row, middle.shape[2] - 1 - column)
    assert away_mm(cine, heart_centre(turned).point_mm, expected) < 2 * centre.GRID_MM


def test_confidence_falls_with_the_evidence_and_the_image_centre_is_last() -> None:
    cine, _ = synthetic("small", 1)
    rng = np.random.default_rng(0)
    plain = heart_centre(cine)
    noisy = heart_centre(altered(cine, lambda p: p + rng.normal(0, 1000, p.shape)))
    still = heart_centre(altered(cine, lambda p: np.repeat(p[:1], len(p), axis=0)))
    assert plain.confidence > 0.5 > noisy.confidence
    assert (still.method, still.confidence) == ("image", 0.0)


def test_a_slice_that_cannot_be_decoded_is_done_without() -> None:
    cine, truth = synthetic("small", 2)

    def refuse() -> np.ndarray:
        raise ValueError("damaged")

    slices = [
        replace(s, load=refuse) if i == 1 else replace(s, load=functools.partial(getattr, s, "pixels"))
        for i, s in enumerate(cine.slices)
    ]
    assert away_mm(cine, heart_centre(replace(cine, slices=slices)).point_mm, np.array(truth.centre_mm)) < 8
    nothing = heart_centre(replace(cine, slices=[replace(s, load=refuse) for s in cine.slices]))
    assert nothing.method == "image"


class View:
    """A long-axis image through `point`, turned by `angle_deg` about the stack's normal."""

    def __init__(self, cine: Cine, point: np.ndarray, angle_deg: float, description: str) -> None:
        middle, angle = cine.slices[0], np.deg2rad(angle_deg)
        self.row_axis = np.cos(angle) * middle.row_axis + np.sin(angle) * middle.column_axis
        self.column_axis = middle.normal
        self.origin_mm = point - 100 * self.row_axis - 70 * self.column_axis
        self.description, self.series = description, "1.2.3"


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ([(90, 0, "CINE_segmented_LAX_2Ch"), (10, 0, "CINE_segmented_LAX_4Ch")], "planes"),
        ([(60, 0, "CINE_segmented_LAX"), (10, 0, "CINE_segmented_LAX"), (100, 0, "CINE_segmented_LAX")], "planes"),
        ([(90, 0, "2CH"), (10, 0, "4CH"), (50, 60, "RVOT")], "planes"),
        ([(90, 0, ""), (10, 0, ""), (50, 0, ""), (50, 60, "")], "planes"),
        ([(90, 0, "CINE_segmented_LAX_2Ch")], "ventricle"),
        ([(90, 0, "CINE_segmented_LAX_2Ch"), (91, 0, "CINE_segmented_LAX_4Ch")], "ventricle"),
        ([(90, 0, "2CH"), (10, 0, "Inline_VF_Results"), (10, 0, "LAX_InlineVF")], "ventricle"),
        ([(90, 60, "2CH"), (10, 0, "4CH")], "ventricle"),
        ([], "ventricle"),
    ],
    ids=["uk_biobank", "unsplit", "names", "no_names", "one_view", "nearly_parallel", "results", "two_that_miss", "none"],
)  # fmt: skip
def test_long_axis_planes_of_every_kind(monkeypatch, views: list[tuple[float, float, str]], expected: str) -> None:
    """`views`: angle (degrees), distance from the ventricle (mm), description."""
    cine, truth = synthetic("small", 3)
    middle = cine.slices[0]
    frames = [
        View(cine, np.array(truth.centre_mm) + away * (middle.row_axis - middle.column_axis) / np.sqrt(2), angle, text)
        for angle, away, text in views
        for _ in range(5)
    ]
    monkeypatch.setattr(centre, "read_frames", lambda path: (frames, set()))
    found = heart_centre(cine, Path("lax.zip"))
    assert found.method == expected
    assert away_mm(cine, found.point_mm, np.array(truth.centre_mm)) < (0.1 if expected == "planes" else 8)


def test_a_long_axis_file_that_cannot_be_read_has_no_planes(monkeypatch) -> None:
    def refuse(path: Path):
        raise UnreadableCine("truncated")

    monkeypatch.setattr(centre, "read_frames", refuse)
    assert long_axis_planes(Path("lax.zip")) == []
