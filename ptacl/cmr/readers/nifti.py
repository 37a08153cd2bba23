"""Short-axis cine as a 4D NIfTI, of any axis order and orientation."""

import functools
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np

from ptacl.cmr.record import Cine, Slice
from ptacl.cmr.stack import order_stack
from ptacl.errors import UnreadableCine

MAX_VALUES = 512 * 2**20
_MS_PER_UNIT = {"sec": 1000.0, "msec": 1.0, "usec": 0.001}
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def read_nifti(path: Path) -> Cine:
    """Reads one 4D NIfTI; frames are the fourth axis, slices the axis with the largest spacing. Raises UnreadableCine."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = nib.load(path)
            shape, affine = image.shape, np.asarray(image.affine, np.float64)
            if len(shape) != 4 or shape[3] < 2:
                raise UnreadableCine("not_a_cine", f"{len(shape)} axes; a cine has four, the last one time")
            if int(np.prod(shape, dtype=np.float64)) > MAX_VALUES:
                raise UnreadableCine("too_large", "more values than any cine has")
            data = np.asanyarray(image.dataobj)
            zooms, unit = image.header.get_zooms(), image.header.get_xyzt_units()[1]
    except UnreadableCine:
        raise
    except (EOFError, OSError, zlib.error):
        raise UnreadableCine("truncated", "the file breaks off") from None
    except Exception as e:  # nibabel raises many types for hostile headers
        raise UnreadableCine("bad_header", type(e).__name__) from None
    if data.dtype.kind == "f":
        data = data.astype(np.float32)
        if not np.isfinite(data).all():
            raise UnreadableCine("bad_values", "values that are no numbers")
    return _cine(data, affine, float(zooms[3]) * _MS_PER_UNIT.get(unit, 0.0))


def _cine(data: np.ndarray, affine: np.ndarray, frame_ms: float) -> Cine:
    steps = affine[:3, :3].T * _RAS_TO_LPS  # one row per axis: the step of one index, in LPS mm
    lengths = np.linalg.norm(steps, axis=1)
    if not (np.isfinite(affine).all() and (lengths > 0.1).all() and (lengths < 100).all()):
        raise UnreadableCine("bad_geometry", "the affine has implausible voxel sizes")
    unit = steps / lengths[:, None]
    z = int(np.argmax(lengths))
    # As in DICOM converted by the usual tools: the first in-plane axis runs along columns, the second along rows.
    column, row = (axis for axis in range(3) if axis != z)
    if abs(unit[column] @ unit[row]) > 0.05:
        raise UnreadableCine("bad_geometry", "in-plane axes are not at right angles")
    origin = affine[:3, 3] * _RAS_TO_LPS
    n = data.shape[3]
    rr_ms = frame_ms * n if 300 <= frame_ms * n <= 3000 else None
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
