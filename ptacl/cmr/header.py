"""The few DICOM tags a cine needs, from explicit-VR little-endian bytes without opening a dataset per frame.

pydicom pays for every element it walks; a study has 550 frames per person. Anything unusual (another transfer syntax, a
sequence of undefined length, no preamble) is left to pydicom, which is also the judge in the tests.
"""

import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_LONG_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UT", b"UN", b"UC", b"UR", b"SV", b"UV"})
_PIXEL_DATA = (0x7FE0, 0x0010)

_TAGS = {
    (0x0008, 0x0008): "ImageType", (0x0008, 0x0032): "AcquisitionTime", (0x0008, 0x103E): "SeriesDescription",
    (0x0018, 0x1060): "TriggerTime", (0x0018, 0x1062): "NominalInterval",
    (0x0020, 0x000E): "SeriesInstanceUID", (0x0020, 0x0011): "SeriesNumber", (0x0020, 0x0013): "InstanceNumber",
    (0x0020, 0x0032): "ImagePositionPatient", (0x0020, 0x0037): "ImageOrientationPatient",
    (0x0028, 0x0002): "SamplesPerPixel", (0x0028, 0x0008): "NumberOfFrames", (0x0028, 0x0010): "Rows",
    (0x0028, 0x0011): "Columns", (0x0028, 0x0030): "PixelSpacing", (0x0028, 0x0100): "BitsAllocated",
    (0x0028, 0x0103): "PixelRepresentation", (0x0028, 0x1052): "RescaleIntercept", (0x0028, 0x1053): "RescaleSlope",
}  # fmt: skip
_MAX_SIDE = 4096


@dataclass(frozen=True)
class Frame:
    """One image with the tags a cine needs; `data` is the whole file, decoded when its slice is chosen."""

    series: str
    description: str
    derived: bool
    acquisition_time: str
    series_number: float
    instance: int
    trigger_ms: float
    nominal_rr_ms: float
    origin_mm: np.ndarray
    row_axis: np.ndarray
    column_axis: np.ndarray
    spacing_mm: tuple[float, float]
    rows: int
    columns: int
    raw: tuple[int, str] | None  # offset and dtype of plain pixels, None when pydicom has to decode
    data: bytes

    def pixels(self) -> np.ndarray:
        """[rows, columns]. Raises ValueError where the pixels can't be decoded."""
        if self.raw is not None:
            offset, dtype = self.raw
            count = self.rows * self.columns
            return np.frombuffer(self.data, dtype, count, offset).reshape(self.rows, self.columns)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = pydicom.dcmread(io.BytesIO(self.data), force=False).pixel_array
        except Exception as e:  # decoders raise many types
            raise ValueError(f"pixel data can't be decoded ({type(e).__name__})") from None
        if image.shape != (self.rows, self.columns):
            raise ValueError("pixel data of another shape than the header says")
        return image


def parse_frame(data: bytes) -> Frame | None:
    """The frame of one DICOM file; None where it is no single image with a position in the patient."""
    tags = _walk(data)
    if tags is None:
        tags = _with_pydicom(data)
    if tags is None:
        return None
    try:
        return _frame(tags, data)
    except (KeyError, ValueError, IndexError):
        return None


def _walk(data: bytes) -> dict[str, object] | None:
    """Tags by keyword as bytes or int, and `_pixels` (offset, length); None where pydicom should look instead."""
    if data[128:132] != b"DICM":
        return None
    tags: dict[str, object] = {}
    at, end, syntax = 132, len(data), None
    unpack = struct.Struct("<HH2sH").unpack_from
    while at + 8 <= end:
        group, element, vr, length = unpack(data, at)
        at += 8
        if vr in _LONG_VRS:
            if at + 4 > end:
                return None
            length = int.from_bytes(data[at : at + 4], "little")
            at += 4
        elif not (vr.isalpha() and vr.isupper()):
            return None
        if (group, element) == _PIXEL_DATA:
            tags["_pixels"] = (at, length)
            break
        if length == 0xFFFFFFFF or at + length > end:
            return None
        if (group, element) == (2, 0x10):
            syntax = data[at : at + length].rstrip(b"\0 ").decode("latin-1")
        elif (name := _TAGS.get((group, element))) is not None:
            value = data[at : at + length]
            tags[name] = int.from_bytes(value, "little") if vr == b"US" and length == 2 else value
        at += length
    return tags if syntax == EXPLICIT_LITTLE else None


def _with_pydicom(data: bytes) -> dict[str, object] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(
                io.BytesIO(data), stop_before_pixels=True, specific_tags=[*_TAGS.values()], force=False
            )
            tags: dict[str, object] = {}
            for name in _TAGS.values():
                value = dataset.get(name)
                if isinstance(value, int):
                    tags[name] = value
                elif value is not None:
                    parts = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
                    tags[name] = "\\".join(map(str, parts)).encode("latin-1", "replace")
            return tags
    except (InvalidDicomError, EOFError):
        return None
    except Exception:  # hostile bytes make pydicom raise many types
        return None


def _frame(tags: dict[str, object], data: bytes) -> Frame:
    rows, columns = _integer(tags["Rows"]), _integer(tags["Columns"])
    if not (0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE):
        raise ValueError("implausible matrix")
    if _integer(tags.get("SamplesPerPixel", 1)) != 1 or _integer(tags.get("NumberOfFrames", 1)) != 1:
        raise ValueError("not one grey image")
    orientation = _numbers(tags["ImageOrientationPatient"], 6)
    row_axis, column_axis = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(row_axis), np.linalg.norm(column_axis)
    spacing = _numbers(tags["PixelSpacing"], 2)
    if not all(0.9 < x < 1.1 for x in lengths) or abs(row_axis @ column_axis) > 0.05 or not np.all(spacing > 0.1):
        raise ValueError("implausible geometry")
    image_type = _text(tags, "ImageType").upper().split("\\")
    return Frame(
        series=_text(tags, "SeriesInstanceUID"),
        description=_text(tags, "SeriesDescription"),
        derived="DERIVED" in image_type,
        acquisition_time=_text(tags, "AcquisitionTime"),
        series_number=_number(tags, "SeriesNumber"),
        instance=int(x) if np.isfinite(x := _number(tags, "InstanceNumber")) else 0,
        trigger_ms=_number(tags, "TriggerTime"),
        nominal_rr_ms=_number(tags, "NominalInterval"),
        origin_mm=_numbers(tags["ImagePositionPatient"], 3),
        row_axis=row_axis / lengths[0],
        column_axis=column_axis / lengths[1],
        spacing_mm=(float(spacing[0]), float(spacing[1])),
        rows=rows,
        columns=columns,
        raw=_raw_pixels(tags, rows, columns, len(data)),
        data=data,
    )


def _raw_pixels(tags: dict[str, object], rows: int, columns: int, size: int) -> tuple[int, str] | None:
    """Offset and dtype of plain 16-bit pixels whose declared length fits the matrix and the file."""
    found = tags.get("_pixels")
    rescaled = _number(tags, "RescaleSlope") not in (1.0,) and "RescaleSlope" in tags
    if not isinstance(found, tuple) or _integer(tags.get("BitsAllocated", 0)) != 16 or rescaled:
        return None
    offset, length = found
    if length not in (rows * columns * 2, rows * columns * 2 + 1) or offset + rows * columns * 2 > size:
        return None
    return offset, "<i2" if _integer(tags.get("PixelRepresentation", 0)) else "<u2"


def _text(tags: dict[str, object], name: str) -> str:
    value = tags.get(name, b"")
    return value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else str(value)


def _number(tags: dict[str, object], name: str) -> float:
    try:
        value = float(_text(tags, name))
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def _integer(value: object) -> int:
    return value if isinstance(value, int) else int(float(value.decode("latin-1").strip("\0 ")))  # type: ignore[attr-defined]


def _numbers(value: object, count: int) -> np.ndarray:
    parts = value.decode("latin-1").strip("\0 ").split("\\") if isinstance(value, bytes) else []
    numbers = np.array([float(p) for p in parts])
    if len(numbers) != count or not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e5:
        raise ValueError("implausible numbers")
    return numbers
