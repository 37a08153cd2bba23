"""A small picture of the whole image with the crop drawn in: what the quality page shows of a cine."""

from dataclasses import dataclass

import numpy as np

from ptacl.cmr.record import Slice
from ptacl.cmr.tensor import HIGH_PERCENT, LOW_PERCENT, crop

PIXELS = 128


@dataclass(frozen=True)
class View:
    """image: uint8 [PIXELS, PIXELS], a square round the image's middle, black outside it.

    box: float32 [3], left and top end and side of the crop, as parts of the square's side; it may lie partly outside.
    """

    image: np.ndarray
    box: np.ndarray


def view(slice_: Slice, frame: int, frames: int, centre_mm: np.ndarray, crop_mm: float) -> View:
    """The slice at `frame` of `frames` on the tensor's grid, and where the square of `crop_mm` round the centre lies."""
    _, rows, columns = slice_.shape
    across, down = columns * slice_.spacing_mm[1], rows * slice_.spacing_mm[0]
    side = max(across, down)
    middle = slice_.to_mm((rows - 1) / 2, (columns - 1) / 2)
    at = frame * len(slice_.pixels) / frames
    before, after = (slice_.pixels[(int(at) + i) % len(slice_.pixels)].astype(np.float32) for i in (0, 1))
    shown = (1 - at % 1) * before + at % 1 * after
    image = crop(slice_, shown[None], middle, side, PIXELS)[0]
    low, high = np.percentile(image, (LOW_PERCENT, HIGH_PERCENT))
    grey = np.round(np.clip((image - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    row, column = slice_.to_pixel(centre_mm)
    left = 0.5 + ((column - (columns - 1) / 2) * slice_.spacing_mm[1] - crop_mm / 2) / side
    top = 0.5 + ((row - (rows - 1) / 2) * slice_.spacing_mm[0] - crop_mm / 2) / side
    return View(grey, np.array([left, top, crop_mm / side], np.float32))
