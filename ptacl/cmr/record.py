"""One short-axis cine: slices from base to apex, frames in the order of the cardiac cycle."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Slice:
    """One slice over the cycle.

    pixels: [frames, rows, columns], uint16, int16 or float32. origin_mm: centre of pixel (0, 0), patient LPS.
    row_axis, column_axis: unit vectors in LPS along increasing column index and increasing row index (DICOM's order).
    trigger_ms: float64 [frames], NaN without timing. instances: InstanceNumbers (NIfTI: frame indices) in cycle order.
    """

    pixels: np.ndarray
    origin_mm: np.ndarray
    row_axis: np.ndarray
    column_axis: np.ndarray
    spacing_mm: tuple[float, float]
    trigger_ms: np.ndarray
    instances: list[int]

    @property
    def normal(self) -> np.ndarray:
        normal = np.cross(self.row_axis, self.column_axis)
        return normal / np.linalg.norm(normal)

    def to_pixel(self, point_mm: np.ndarray) -> tuple[float, float]:
        """(row, column) of the point nearest to `point_mm` in the slice's plane."""
        offset = np.asarray(point_mm) - self.origin_mm
        return float(offset @ self.column_axis / self.spacing_mm[0]), float(offset @ self.row_axis / self.spacing_mm[1])

    def to_mm(self, row: float, column: float) -> np.ndarray:
        """The point of a (fractional) pixel in LPS mm."""
        step_row, step_column = self.spacing_mm
        return self.origin_mm + row * step_row * self.column_axis + column * step_column * self.row_axis


@dataclass
class Cine:
    """A stack of slices, index 0 at the base.

    positions_mm: float64 [slices], along the stack's normal from the most basal slice, increasing towards the apex.
    rr_ms: median RR interval, None without timing. phase_0: phase of frame 0 after the R wave (0 without timing).
    """

    format: str
    slices: list[Slice]
    positions_mm: np.ndarray
    slice_step_mm: float
    rr_ms: float | None
    phase_0: float
    n_repeats: int = 0
    flags: set[str] = field(default_factory=set)

    @property
    def n_frames(self) -> int:
        return self.slices[0].pixels.shape[0]

    @property
    def frame_order(self) -> list[list[int]]:
        return [s.instances for s in self.slices]
