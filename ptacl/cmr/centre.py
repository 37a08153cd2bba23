"""Where the left ventricle is: where the long-axis planes cross, else where walls close in from all sides, else where it moves.

The left ventricle is the one cavity of bright blood with a wall all round it that closes in on every beat, at about the
same place through the stack. The right ventricle moves as much, but is a crescent; vessels are narrower and the chest stands
still. So every moving edge votes for the points ahead of it, on its bright side, and the ventricle is the place that gets
votes from all directions (radial symmetry, Loy and Zelinsky 2003, with directions kept apart).
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ptacl.cmr.frame import RESULT
from ptacl.cmr.readers.dicom import read_frames
from ptacl.cmr.record import Cine, Slice
from ptacl.cmr.tensor import choose_slices
from ptacl.errors import UnreadableCine

SLICES = 3
EDGE_SMOOTHING_MM, EDGE_AREA_MM2 = 2.0, 8000.0  # about what the walls of both ventricles sweep over in one slice
RADII_MM = np.arange(10.0, 41.0, 2.0)  # of the cavity: systole near the apex to dilated hearts
DIRECTIONS, WEAKEST = 8, 3
GRID_MM, SPREAD_MM = 2.5, 5.0
RIVAL_MM, TRUSTED = 25.0, 0.15
STILL = 1e-3  # of the brightest pixel: less is rounding, not motion
MOTION_SMOOTHING_MM, BLOB_SHARE = 6.0, 0.35
STEEP, CROSSING_SINE, SAME_PLANE_MM, AGREE_MM, FAR_MM = 0.5, 0.5, 5.0, 10.0, 25.0

_LONG_AXIS = re.compile(r"(?<![a-z])LAX|[234][ _-]?CH", re.IGNORECASE)


@dataclass(frozen=True)
class HeartCentre:
    """point_mm: LPS, on the middle slice. method: planes | ventricle | motion | image. confidence: 0 to 1."""

    point_mm: np.ndarray
    method: str
    confidence: float


@dataclass(frozen=True)
class Beat:
    """How one slice beats: mean over the cycle and amplitude of its first harmonic, float32 [rows, columns].

    The heart beats once per cine; breathing is held, and noise spreads over all harmonics.
    """

    slice: Slice
    mean: np.ndarray
    amplitude: np.ndarray


def heart_centre(cine: Cine, long_axis: Path | None = None) -> HeartCentre:
    """The heart's centre by the best method the data allow."""
    middle, beats = cine.slices[len(cine.slices) // 2], _beats(cine)
    centre = _ventricle(middle, beats) or _moving_region(middle, beats) or _image_centre(middle)
    near = centre.point_mm if centre.method == "ventricle" else None
    crossing = _crossing(middle, long_axis_planes(long_axis), near) if long_axis else None
    return crossing or centre


def _beats(cine: Cine) -> list[Beat]:
    """Of the slices at equal parts of the stack, those of the usual tensor; one that can't be decoded is left out."""
    beats = []
    for slice_ in (cine.slices[i] for i in choose_slices(cine.positions_mm, SLICES)):
        try:
            beats.append(_beat(slice_))
        except ValueError:
            continue
    return beats


def _beat(slice_: Slice) -> Beat:
    n, *shape = slice_.pixels.shape
    phase = 2 * np.pi * np.arange(n) / n
    waves = np.stack([np.ones(n), 2 * np.cos(phase), 2 * np.sin(phase)]).astype(np.float32) / n
    mean, cosine, sine = (waves @ slice_.pixels.reshape(n, -1).astype(np.float32)).reshape(3, *shape)
    amplitude = np.hypot(cosine, sine)
    return Beat(slice_, mean, np.where(amplitude > STILL * mean.max(), amplitude, 0))


def _ventricle(middle: Slice, beats: list[Beat]) -> HeartCentre | None:
    """The point of the greatest support, if it stands out from every other place."""
    support = np.sum([_closing_in(middle, b) for b in beats], axis=0)
    if not support.max() > 0:
        return None
    row, column = np.unravel_index(int(np.argmax(support)), support.shape)
    rows, columns = np.ogrid[: support.shape[0], : support.shape[1]]
    rival = support[np.hypot(rows - row, columns - column) * GRID_MM > RIVAL_MM].max(initial=0)
    confidence = float(1 - rival / support[row, column])
    if confidence < TRUSTED:
        return None
    point = middle.to_mm(row * GRID_MM / middle.spacing_mm[0], column * GRID_MM / middle.spacing_mm[1])
    return HeartCentre(point, "ventricle", confidence)


def _closing_in(middle: Slice, beat: Beat) -> np.ndarray:
    """Votes of the moving edges from the directions with the fewest, on a grid of GRID_MM over the middle slice.

    Where a wall moves to and fro the mean image slopes up towards the blood. All edge pixels count the same: fat near the
    coil is brighter than blood and would outvote it.
    """
    place, uphill = _moving_edges(beat)
    place = place + np.array(middle.to_pixel(beat.slice.origin_mm)) * middle.spacing_mm
    height, width = (int(np.ceil(n * s / GRID_MM)) for n, s in zip(middle.shape[1:], middle.spacing_mm, strict=True))
    sector = np.floor(np.arctan2(uphill[:, 0], uphill[:, 1]) / (2 * np.pi) * DIRECTIONS).astype(int) % DIRECTIONS
    at = np.rint((place + RADII_MM[:, None, None] * uphill) / GRID_MM).astype(int)
    inside = ((at >= 0) & (at < (height, width))).all(-1)
    index = ((sector * height + at[..., 0]) * width + at[..., 1])[inside]
    votes = np.bincount(index, minlength=DIRECTIONS * height * width).astype(np.float32) / max(len(place), 1)
    sigma = SPREAD_MM / GRID_MM
    votes = ndimage.gaussian_filter(votes.reshape(DIRECTIONS, height, width), (0, sigma, sigma), truncate=3)
    return np.partition(votes, WEAKEST - 1, axis=0)[:WEAKEST].sum(0)


def _moving_edges(b: Beat) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) in mm of the pixels where slope times motion is greatest, and the unit vector uphill: [n, 2] each."""
    sigma = [EDGE_SMOOTHING_MM / s for s in b.slice.spacing_mm]
    slopes = [ndimage.gaussian_filter(b.mean, sigma, order=o) for o in ((1, 0), (0, 1))]
    slope = np.stack(slopes, -1) / b.slice.spacing_mm
    steepness = np.linalg.norm(slope, axis=-1)
    strength = (steepness * ndimage.gaussian_filter(b.amplitude, sigma)).ravel()
    n = min(int(EDGE_AREA_MM2 / np.prod(b.slice.spacing_mm)), strength.size)
    strongest = np.argpartition(strength, -n)[-n:]
    strongest = strongest[strength[strongest] > 0]
    place = np.stack(np.divmod(strongest, b.mean.shape[1]), -1) * b.slice.spacing_mm
    return place, slope.reshape(-1, 2)[strongest] / steepness.ravel()[strongest, None]


def _moving_region(middle: Slice, beats: list[Beat]) -> HeartCentre | None:
    """Centroid of the largest connected region of strong motion; the right ventricle pulls it over by centimetres."""
    beats = [b for b in beats if b.mean.shape == middle.shape[1:]]
    energy = sum((np.square(b.amplitude) for b in beats), np.zeros(middle.shape[1:]))
    motion = np.sqrt(ndimage.gaussian_filter(energy, [MOTION_SMOOTHING_MM / x for x in middle.spacing_mm]))
    motion = np.clip(motion - np.median(motion), 0, None)
    if not motion.max() > 0:
        return None
    labels, _ = ndimage.label(motion > BLOB_SHARE * motion.max())
    blob = labels == labels.flat[int(np.argmax(motion))]
    row, column = ndimage.center_of_mass(motion * blob)
    return HeartCentre(middle.to_mm(row, column), "motion", TRUSTED * float((motion * blob).sum() / motion.sum()))


def _image_centre(middle: Slice) -> HeartCentre:
    rows, columns = middle.shape[1:]
    return HeartCentre(middle.to_mm((rows - 1) / 2, (columns - 1) / 2), "image", 0.0)


def long_axis_planes(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(point, unit normal) of each view in a file, also where one series mixes several; empty where it can't be read.

    Where any series is named as a long-axis view only those count.
    """
    try:
        frames, _ = read_frames(path)
    except (UnreadableCine, OSError):
        return []
    frames = [f for f in frames if not RESULT.search(f.description)]
    frames = [f for f in frames if _LONG_AXIS.search(f.description)] or frames
    planes: list[tuple[np.ndarray, np.ndarray]] = []
    for f in frames:
        normal = np.cross(f.row_axis, f.column_axis)
        if not any(abs(normal @ n) > 0.98 and abs((f.origin_mm - p) @ n) < SAME_PLANE_MM for p, n in planes):
            planes.append((f.origin_mm, normal))
    return planes


def _crossing(
    middle: Slice, planes: list[tuple[np.ndarray, np.ndarray]], near: np.ndarray | None
) -> HeartCentre | None:
    """The point of the middle slice where most long-axis planes meet, on equal terms the one nearest to `near`.

    Names are no guide to the ventricle: a `2CH` may be that of the right one. Where only two planes meet and the image
    puts the ventricle (`near`) elsewhere, the image is right.
    """
    origin, axes = middle.origin_mm, np.stack([middle.row_axis, middle.column_axis])
    # Each plane is a line in the slice's plane: normal . x = offset, x in mm along row and column axis.
    lines = [(axes @ n, (p - origin) @ n) for p, n in planes if abs(n @ middle.normal) < STEEP]
    normals = np.array([n / np.linalg.norm(n) for n, _ in lines])
    offsets = np.array([d / np.linalg.norm(n) for n, d in lines])
    found = []
    for pair in itertools.combinations(range(len(lines)), 2):
        if abs(np.linalg.det(normals[list(pair)])) < CROSSING_SINE:
            continue
        x = np.linalg.solve(normals[list(pair)], offsets[list(pair)])
        meet = np.abs(normals @ x - offsets) < AGREE_MM
        point = origin + np.linalg.lstsq(normals[meet], offsets[meet])[0] @ axes
        away = float(np.linalg.norm(point - near)) if near is not None else 0.0
        inside = all(0 < x < n for x, n in zip(middle.to_pixel(point), middle.shape[1:], strict=True))
        if inside and (meet.sum() > 2 or away < FAR_MM):
            found.append((-int(meet.sum()), away, point))
    if not found:
        return None
    _, away, point = min(found, key=lambda f: f[:2])
    return HeartCentre(point, "planes", 1.0 if away < FAR_MM else 0.5)
