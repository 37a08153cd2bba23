"""How large the synthetic cines are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """Matrix, pixel (mm), slices, frames, slice step and thickness (mm), place of the first slice (mm from the base
    plane, towards the apex), half-width of its random offset (mm), window of moving pixels (rows, columns), whether
    headers carry private blocks of realistic length.
    """

    rows: int
    columns: int
    pixel_mm: float
    n_slices: int
    n_frames: int
    step_mm: float
    thickness_mm: float
    first_mm: float
    offset_mm: float
    window: tuple[int, int]
    private_blocks: bool


PRESETS = {
    # Six slices spread over the ventricle; the field of view is 270 mm.
    "small": Preset(104, 104, 2.6, 6, 20, 16.0, 8.0, 4.0, 2.0, (52, 58), False),
    "full": Preset(208, 210, 1.826923, 11, 50, 10.0, 8.0, -10.0, 4.0, (74, 84), True),
}
