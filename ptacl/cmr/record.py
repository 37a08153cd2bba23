"""One short-axis cine: slices from base to apex, frames in the order of the cardiac cycle."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from ptacl.errors import UnreadableCine

# Steps larger than this times the usual one are gaps.
GAP = 1.5


class DrawnImage(ValueError):
    """Pixels with contours drawn into them: a result under a cine's name."""


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

    def mirrored(self) -> "Slice":
        """The same slice with its columns counted from the other side."""
        return replace(
            self,
            origin_mm=self.to_mm(0, self.shape[2] - 1),
            row_axis=-self.row_axis,
            load=lambda: self.load()[..., ::-1],
            alternatives=[a.mirrored() for a in self.alternatives],
        )

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
        the result may be shorter. Raises UnreadableCine: `no_cine_series` where contours are drawn into all that are
        wanted, `truncated` where no slice is left.
        """
        wanted = set(range(len(self.slices)) if wanted is None else wanted)
        found = [_first_decodable(s) if i in wanted else s for i, s in enumerate(self.slices)]
        if wanted and all(isinstance(found[i], DrawnImage) for i in wanted):
            raise UnreadableCine("no_cine_series", "every image has contours drawn into it")
        slices = [s for s in found if isinstance(s, Slice)]
        there = [i for i, s in enumerate(found) if isinstance(s, Slice)]
        if not there:
            raise UnreadableCine("truncated", "no slice can be decoded")
        positions = self.positions_mm[there] - self.positions_mm[there[0]]
        flags = self.flags.union({"slice_dropped"} if len(there) < len(found) else (), *(s.flags for s in slices))
        if has_gap(positions, self.slice_step_mm):
            flags.add("slice_gap")
        return replace(self, slices=slices, positions_mm=positions, flags=flags)


def has_gap(positions_mm: np.ndarray, step_mm: float) -> bool:
    """Whether two neighbours are further apart than slices usually are."""
    return bool((np.diff(positions_mm) > GAP * step_mm).any())


def _first_decodable(slice_: Slice) -> Slice | ValueError:
    """The slice itself or its first alternative with pixels, else why there is none."""
    reasons = []
    for candidate in (slice_, *slice_.alternatives):
        try:
            candidate.pixels  # noqa: B018 (decodes)
        except ValueError as e:
            reasons.append(e)
        else:
            return candidate
    return next((r for r in reasons if not isinstance(r, DrawnImage)), reasons[0])
