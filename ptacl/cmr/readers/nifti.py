"""Short-axis cine as a 4D NIfTI, of any axis order and orientation."""

import functools
import warnings
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from ptacl.cmr.frame import MAX_VIEW_MM
from ptacl.cmr.record import Cine, Slice
from ptacl.cmr.stack import RR_MS, TOWARDS_APEX, order_stack
from ptacl.errors import UnreadableCine

MAX_VALUES = 128 * 2**20
_MS_PER_UNIT = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def read_nifti(path: Path, frame_ms: float | None = None) -> Cine:
    """Reads one 4D NIfTI; frames are the last axis, slices the axis with the largest spacing. Raises UnreadableCine.

    `frame_ms` is the time from frame to frame where the header does not say it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Any = nib.load(path)  # its kinds share no type that has these attributes
            shape, affine = image.shape, np.asarray(image.affine, np.float64)
            time_axes = [axis for axis in range(3, len(shape)) if shape[axis] > 1]
            if len(time_axes) != 1:
                raise UnreadableCine("not_a_cine", f"{len(shape)} axes; a cine has four, the last one time")
            if int(np.prod(shape, dtype=np.float64)) > MAX_VALUES:
                raise UnreadableCine("too_large", "more values than any cine has")
            if not (image.header["sform_code"] or image.header["qform_code"]):
                raise UnreadableCine("bad_geometry", "the header says nothing of the position in the patient")
            data = np.asanyarray(image.dataobj).reshape(*shape[:3], -1)
            zoom, unit = float(image.header.get_zooms()[time_axes[0]]), image.header.get_xyzt_units()[1]
    except UnreadableCine:
        raise
    except (EOFError, OSError, zlib.error):
        raise UnreadableCine("truncated", "the file breaks off") from None
    except Exception as e:  # nibabel raises many types for hostile headers
        raise UnreadableCine("bad_header", type(e).__name__) from None
    if data.dtype.kind not in "iuf":
        raise UnreadableCine("bad_values", "values that are no grey levels")
    if data.dtype.kind == "f":
        data = data.astype(np.float32)
        if not np.isfinite(data).all():
            raise UnreadableCine("bad_values", "values that are no numbers")
    return _cine(data, affine, _frame_ms(zoom, unit, data.shape[3]) or frame_ms or 0.0)


def _frame_ms(zoom: float, unit: str, n: int) -> float | None:
    """The header's time from frame to frame in ms; without a unit, seconds or milliseconds, whichever gives a heart beat."""
    scales = [_MS_PER_UNIT[unit]] if unit in _MS_PER_UNIT else [1000.0, 1.0]
    return next((zoom * s for s in scales if RR_MS[0] <= zoom * s * n <= RR_MS[1]), None)


def _cine(data: np.ndarray, affine: np.ndarray, frame_ms: float) -> Cine:
    steps = affine[:3, :3].T * _RAS_TO_LPS  # one row per axis: the step of one index, in LPS mm
    lengths = np.linalg.norm(steps, axis=1)
    if not (np.isfinite(affine).all() and (lengths > 0.1).all() and (lengths < 100).all()):
        raise UnreadableCine("bad_geometry", "the affine has implausible voxel sizes")
    unit = steps / lengths[:, None]
    # Of equal spacings the third axis: converters leave slices there.
    z = 2 if lengths[2] > 0.99 * lengths.max() else int(np.argmax(lengths))
    column, row = sorted((axis for axis in range(3) if axis != z), key=lambda a: _leftwards(unit[a]), reverse=True)
    if abs(unit[column] @ unit[row]) > 0.05:
        raise UnreadableCine("bad_geometry", "in-plane axes are not at right angles")
    if max(data.shape[axis] * lengths[axis] for axis in (column, row)) > MAX_VIEW_MM:
        raise UnreadableCine("bad_geometry", "a field of view larger than any scanner")
    # Voxels may be stored in any order and direction: columns shall run to the patient's left, rows so that the slice is
    # seen from the apex, as in DICOM.
    origin = affine[:3, 3] * _RAS_TO_LPS
    turn = np.ones(3)
    turn[column] = 1 if np.array_equal(np.round(unit[column], 3), _leftwards(unit[column])) else -1
    turn[row] = -1 if np.cross(turn[column] * unit[column], unit[row]) @ TOWARDS_APEX > 0 else 1
    for axis in np.flatnonzero(turn < 0).tolist():
        origin = origin + (data.shape[axis] - 1) * steps[axis]
        data = np.flip(data, axis)
    unit = unit * turn[:, None]
    n = data.shape[3]
    rr_ms = frame_ms * n if RR_MS[0] <= frame_ms * n <= RR_MS[1] else None
    trigger = np.arange(n) * frame_ms if rr_ms else np.full(n, np.nan)
    stack = np.moveaxis(data, (z, 3, row, column), (0, 1, 2, 3))
    slices = [
        Slice(
            shape=stack[k].shape,
            origin_mm=origin + k * steps[z],
            row_axis=unit[column],
            column_axis=unit[row],
            spacing_mm=(float(lengths[row]), float(lengths[column])),
            trigger_ms=trigger,
            instances=list(range(n)),
            load=functools.partial(stack.__getitem__, k),
        )
        for k in range(data.shape[z])
    ]
    return order_stack("nifti", slices, rr_ms, 0, set())


def _leftwards(axis: np.ndarray) -> tuple[float, ...]:
    """A unit vector or its opposite, rounded: the one that points to the patient's left, in a sagittal plane to the back."""
    rounded = np.round(axis, 3)
    return max(tuple(rounded.tolist()), tuple((-rounded).tolist()))
