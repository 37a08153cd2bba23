"""One image of a cine: where it lies, when in the cycle it was taken, and how to get its pixels."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MAX_SIDE, MAX_VIEW_MM = 4096, 1000.0
# In the description of a series: the scanner's own contours, no cine.
RESULT = re.compile(r"inline_?vf", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Plane:
    """Geometry of an image. origin_mm: centre of pixel (0, 0) in LPS; unit axes along increasing column and row index."""

    origin_mm: np.ndarray
    row_axis: np.ndarray
    column_axis: np.ndarray
    spacing_mm: tuple[float, float]
    rows: int
    columns: int

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.row_axis, self.column_axis)


@dataclass(eq=False)
class Frame:
    """One image with the tags a cine needs.

    `load` returns its pixels [rows, columns] or raises ValueError. `has_overlay` says whether the file carries drawn
    contours, which only a look at the whole file can tell. inverted: its largest value is black (MONOCHROME1).
    """

    series: str
    description: str
    derived: bool
    acquisition_time: str
    series_number: float
    instance: int
    trigger_ms: float
    nominal_rr_ms: float
    cycle_frames: int  # CardiacNumberOfImages, 0 where the header does not say
    plane: Plane
    inverted: bool
    load: Callable[[], np.ndarray]
    has_overlay: Callable[[], bool]

    @property
    def origin_mm(self) -> np.ndarray:
        return self.plane.origin_mm

    @property
    def row_axis(self) -> np.ndarray:
        return self.plane.row_axis

    @property
    def column_axis(self) -> np.ndarray:
        return self.plane.column_axis


def make_plane(position: np.ndarray, orientation: np.ndarray, spacing: np.ndarray, rows: int, columns: int) -> Plane:
    """A plane from DICOM's values. Raises ValueError where they are absurd."""
    row_axis, column_axis = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row_axis), np.linalg.norm(column_axis)
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
        raise ValueError("implausible matrix")
    if not all(0.9 < x < 1.1 for x in lengths) or abs(row_axis @ column_axis) > 0.05:
        raise ValueError("implausible orientation")
    if not (np.all(spacing > 0.1) and np.all(spacing < 50)):
        raise ValueError("implausible pixel spacing")
    if rows * spacing[0] > MAX_VIEW_MM or columns * spacing[1] > MAX_VIEW_MM:
        raise ValueError("a field of view larger than any scanner")
    return Plane(
        position, row_axis / lengths[0], column_axis / lengths[1], (float(spacing[0]), float(spacing[1])), rows, columns
    )
