"""The sound cine as NIfTI, and what can be odd about that."""

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.faults.cine_files import sound_cine

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def nifti(
    change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]] = lambda data, affine: (data, affine),
    frame_time: float = 0.04, unit: str = "sec", name: str = "x.nii.gz", cut: float = 1.0,
) -> Callable[[Path], Path]:  # fmt: skip
    """The sound stack as columns x rows x slices x frames, with array and affine changed."""

    def make(folder: Path) -> Path:
        cine = sound_cine()
        data = np.stack([s.pixels for s in cine.slices]).astype(np.int16).transpose(3, 2, 0, 1)
        first, step = cine.slices[0], cine.slices[1].origin_mm - cine.slices[0].origin_mm
        affine = np.eye(4)
        affine[:3, 0] = first.row_axis * first.spacing_mm[1]
        affine[:3, 1] = first.column_axis * first.spacing_mm[0]
        affine[:3, 2], affine[:3, 3] = step, first.origin_mm
        data, affine = change(data, _RAS_FROM_LPS @ affine)
        image = nib.Nifti1Image(data, affine)
        image.header["pixdim"][4] = frame_time
        image.header.set_xyzt_units("mm", unit)
        nib.save(image, folder / name)
        path = folder / name
        path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
        return path

    return make


def reoriented(codes: str) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The same volume with its axes in another order and direction."""

    def change(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = nib.Nifti1Image(data, affine)
        wanted = nib.orientations.axcodes2ornt(codes)
        turn = nib.orientations.ornt_transform(nib.io_orientation(affine), wanted)
        new = image.as_reoriented(turn)
        return np.asarray(new.dataobj), new.affine

    return change


def with_nan(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = data.astype(np.float32)
    data[3, 3, 0, 0] = np.nan
    return data, affine


def sheared(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine = affine.copy()
    affine[:3, 1] += 0.4 * affine[:3, 0]
    return data, affine


def no_voxel_size(folder: Path) -> Path:
    path = nifti(name="x.nii")(folder)
    data = bytearray(path.read_bytes())
    data[280:328] = bytes(48)  # srow_x, srow_y, srow_z
    path.write_bytes(data)
    return path


def no_position(folder: Path) -> Path:
    path = nifti(name="x.nii")(folder)
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(data)
    return path


def huge(folder: Path) -> Path:
    """A header that announces 10^13 values."""
    path = nifti(name="x.nii")(folder)
    data = bytearray(path.read_bytes())
    struct.pack_into("<5h", data, 40, 4, 30000, 30000, 1000, 20)
    path.write_bytes(data)
    return path
