"""One short-axis cine: slices from base to apex, frames in the order of the cardiac cycle."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ptacl.errors import UnreadableCine


@dataclass(eq=False)
class Slice:
    """One slice over the cycle; its pixels are decoded when first asked for.

    shape: (frames, rows, columns). origin_mm: centre of pixel (0, 0), patient LPS. row_axis, column_axis: unit vectors in
    LPS along increasing column index and increasing row index (DICOM's order). trigger_ms: float64 [frames], NaN without
    timing. instances: InstanceNumbers (NIfTI: frame indices) in cycle order. load: returns the pixels, or raises
    ValueError. alternatives: other acquisitions of the same slice, the best first.
    """

    shape: tuple[int, int, int]
    origin_mm: np.ndarray
    row_axis: np.ndarray
    column_axis: np.ndarray
    spacing_mm: tuple[float, float]
    trigger_ms: np.ndarray
    instances: list[int]
    load: Callable[[], np.ndarray]
    flags: set[str] = field(default_factory=set)
    alternatives: list["Slice"] = field(default_factory=list)

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """[frames, rows, columns], uint16, int16 or float32. Raises ValueError where they can't be decoded."""
        return self.load()

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


@dataclass(eq=False)
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
        return self.slices[0].shape[0]

    @property
    def frame_order(self) -> list[list[int]]:
        return [s.instances for s in self.slices]

    def decoded(self, wanted: Iterable[int] | None = None) -> "Cine":
        """The same stack with the pixels of the slices `wanted` (all by default) in memory.

        A slice that can't be decoded gives way to another acquisition of it, else it is dropped (flag `slice_dropped`):
        the result may be shorter. Raises UnreadableCine(`truncated`) where none is left.
        """
        wanted = range(len(self.slices)) if wanted is None else sorted(set(wanted))
        kept = {i: _first_decodable(self.slices[i]) if i in wanted else self.slices[i] for i in range(len(self.slices))}
        there = [i for i, s in kept.items() if s is not None]
        if not there:
            raise UnreadableCine("truncated", "no slice can be decoded")
        slices = [s for s in kept.values() if s is not None]
        flags = self.flags.union({"slice_dropped"} if len(there) < len(self.slices) else (), *(s.flags for s in slices))
        positions = self.positions_mm[there]
        return replace(self, slices=slices, positions_mm=positions - positions[0], flags=flags)


def _first_decodable(slice_: Slice) -> Slice | None:
    for candidate in (slice_, *slice_.alternatives):
        try:
            candidate.pixels  # noqa: B018 (decodes)
        except ValueError:
            continue
        return candidate
    return None
