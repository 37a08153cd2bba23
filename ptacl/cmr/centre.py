"""Where the heart is: the crossing of the long-axis planes where there are any, else where it moves."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ptacl.cmr.readers.dicom import read_frames
from ptacl.cmr.record import Cine
from ptacl.errors import UnreadableCine

SMOOTHING_MM, BLOB_SHARE = 6.0, 0.35
_LONG_AXIS = re.compile(r"CINE_segmented_LAX_([24])Ch", re.IGNORECASE)


@dataclass(frozen=True)
class HeartCentre:
    """point_mm: LPS, on the middle slice. method: planes | motion | image. confidence: 0 to 1."""

    point_mm: np.ndarray
    method: str
    confidence: float


def heart_centre(cine: Cine, long_axis: Path | None = None) -> HeartCentre:
    """The heart's centre by the best method the data allow."""
    planes = _long_axis_planes(long_axis) if long_axis else []
    if len(planes) == 2:
        crossing = _crossing(cine, planes)
        if crossing is not None:
            return HeartCentre(crossing, "planes", 1.0)
    motion = _motion_centre(cine)
    return motion if motion is not None else _image_centre(cine)


def _long_axis_planes(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(point, normal) of the two- and four-chamber planes; empty where the file has not both."""
    try:
        frames, _ = read_frames(path)
    except (UnreadableCine, OSError):
        return []
    planes = {}
    for f in frames:
        if m := _LONG_AXIS.fullmatch(f.description):
            planes[m[1]] = (f.origin_mm, np.cross(f.row_axis, f.column_axis))
    return [planes[k] for k in sorted(planes)]


def _crossing(cine: Cine, planes: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray | None:
    """The point on the middle slice and both long-axis planes; None when they hardly cross, or outside the image."""
    middle = cine.slices[len(cine.slices) // 2]
    points, normals = zip((middle.origin_mm, middle.normal), *planes, strict=True)
    matrix = np.array(normals)
    if abs(np.linalg.det(matrix)) < 0.1:
        return None
    point = np.linalg.solve(matrix, [n @ p for n, p in zip(normals, points, strict=True)])
    row, column = middle.to_pixel(point)
    rows, columns = middle.pixels.shape[1:]
    return point if 0 < row < rows and 0 < column < columns else None


def motion_map(cine: Cine) -> np.ndarray:
    """Amplitude of the first temporal harmonic, smoothed, over the apical half of the stack: [rows, columns].

    The heart beats once per cine; breathing is held, and noise spreads over all harmonics. Towards the base the right
    ventricle and the atria move more than the left ventricle and would pull the centre away from it.
    """
    middle = cine.slices[len(cine.slices) // 2]
    shape, n = middle.pixels.shape[1:], cine.n_frames
    wave = np.exp(-2j * np.pi * np.arange(n) / n).astype(np.complex64)
    energy = np.zeros(shape)
    for s in cine.slices[len(cine.slices) // 2 :]:
        if s.pixels.shape[1:] == shape:
            flat = s.pixels.reshape(n, -1).astype(np.float32)
            energy += np.square(np.abs(wave @ flat)).reshape(shape)
    return np.sqrt(ndimage.gaussian_filter(energy, [SMOOTHING_MM / x for x in middle.spacing_mm]))


def _motion_centre(cine: Cine) -> HeartCentre | None:
    """Centroid of the largest connected region of strong motion."""
    motion = motion_map(cine)
    motion = np.clip(motion - np.median(motion), 0, None)
    if not motion.max() > 0:
        return None
    labels, _ = ndimage.label(motion > BLOB_SHARE * motion.max())
    blob = labels == labels.flat[int(np.argmax(motion))]
    row, column = ndimage.center_of_mass(motion * blob)
    middle = cine.slices[len(cine.slices) // 2]
    return HeartCentre(middle.to_mm(row, column), "motion", float((motion * blob).sum() / motion.sum()))


def _image_centre(cine: Cine) -> HeartCentre:
    middle = cine.slices[len(cine.slices) // 2]
    rows, columns = middle.pixels.shape[1:]
    return HeartCentre(middle.to_mm((rows - 1) / 2, (columns - 1) / 2), "image", 0.0)
