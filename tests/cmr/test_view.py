"""The picture of a whole image, and the box of its crop."""

import numpy as np
import pytest

from ptacl.cmr.record import Slice
from ptacl.cmr.view import PIXELS, view
from ptacl.plan import VIEW_BYTES


def plane(pixels: np.ndarray, spacing: tuple[float, float] = (1.5, 1.5)) -> Slice:
    """A slice oblique to the patient's axes, so that rows and columns can't be mixed up."""
    turn = np.deg2rad(30)
    row_axis, column_axis = np.array([np.cos(turn), np.sin(turn), 0]), np.array([-np.sin(turn), np.cos(turn), 0])
    return Slice(pixels.shape, np.array([7.0, -20.0, 3.0]), row_axis, column_axis, spacing, np.arange(len(pixels)) * 40.0,
                 list(range(len(pixels))), lambda: pixels)  # fmt: skip


def disc(rows: int, columns: int, row: float, column: float, radius: float, spacing: tuple[float, float]) -> np.ndarray:
    r, c = np.ogrid[:rows, :columns]
    return (np.hypot((r - row) * spacing[0], (c - column) * spacing[1]) < radius).astype(np.uint16) * 900


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"), [(120, 90, (1.5, 1.5)), (80, 120, (2.0, 1.0)), (64, 64, (3.0, 3.0))]
)
def test_the_box_lies_round_what_the_crop_was_cut_round(rows: int, columns: int, spacing: tuple[float, float]) -> None:
    row, column, radius = rows * 0.4, columns * 0.6, 12.0
    s = plane(np.stack([disc(rows, columns, row, column, radius, spacing)] * 4), spacing)
    seen = view(s, 0, 4, s.to_mm(row, column), 60.0)
    left, top, side = seen.box
    bright = np.argwhere(seen.image > 128) + 0.5
    middle = (np.array([top, left]) + side / 2) * PIXELS
    assert bright.mean(0) == pytest.approx(middle, abs=1.0)
    # The same scale across and down: the disc stays one, of its own diameter in millimetres.
    size = np.ptp(bright, axis=0) / (side * PIXELS) * 60.0
    assert size == pytest.approx([2 * radius] * 2, abs=4.0)


def test_what_lies_outside_the_image_is_black_and_the_box_may_reach_there() -> None:
    s = plane(np.full((2, 40, 100), 500, np.uint16) + np.arange(100, dtype=np.uint16))
    seen = view(s, 0, 2, s.to_mm(5, 5), 90.0)
    assert (seen.image[: PIXELS // 4] == 0).all() and (seen.image[-PIXELS // 4 :] == 0).all()
    assert seen.image[PIXELS // 2].min() > 0
    assert seen.box[0] < 0


def test_the_frame_is_that_of_the_tensors_grid() -> None:
    """Of 50 native frames the 7th of 20 is halfway between two."""
    frames = np.zeros((50, 64, 64), np.uint16)
    frames[:, ::2] = 1000
    for i in range(50):
        frames[i, :, i] = 3000
    s = plane(frames, (3.0, 3.0))
    seen = view(s, 7, 20, s.to_mm(32, 32), 60.0).image
    bright = np.unique(np.argwhere(seen.astype(int) > 200)[:, 1] // 2)
    assert set(bright) <= {17, 18} and len(bright) == 2


def test_the_plan_counts_its_bytes() -> None:
    assert VIEW_BYTES == PIXELS**2
