"""Cines as DICOM zips in the UK Biobank layout.

Headers are packed by hand, since only four fields differ from frame to frame; the tests read them with pydicom.
"""

import io
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ROOT = "1.2.826.0.1.3680043.10.99999"
_MR_STORAGE, _EXPLICIT_LITTLE = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.1.2.1"
_ZIP_TIME = (2019, 3, 7, 10, 12, 30)
_MANIFEST_HEADER = "filename,patientid,studyid,study discription,seriesid,series discription,aet,host,date"
_DATE = "Mar 7, 2019 10:12:31 AM"
_PRIVATE_BYTES = {0x1010: 11_560, 0x1020: 80_248}


@dataclass(frozen=True)
class Series:
    """One slice over the cycle. pixels: uint16 [frames, rows, columns]; axes and origin in LPS mm."""

    number: int
    description: str
    pixels: np.ndarray
    origin_mm: np.ndarray
    row_axis: np.ndarray
    column_axis: np.ndarray
    pixel_mm: float
    thickness_mm: float
    location_mm: float
    rr_ms: float
    step_mm: float | None = None  # between slices, where there are several
    first_instance: int = 1
    acquisition_time: str = "101231"
    frames: Sequence[int] | None = None  # which frames of the cycle these are, all by default
    cycle_frames: int | None = None  # frames in the whole cycle, as many as there are by default
    private_blocks: bool = False


def _element(group: int, element: int, vr: str, value: object) -> bytes:
    """One explicit-VR little-endian element with a short length field."""
    if vr == "US":
        data = struct.pack("<H", value)
    else:
        parts = value if isinstance(value, (list, tuple)) else [value]
        data = "\\".join(map(str, parts)).encode("latin-1")
        data += (b"\0" if vr == "UI" else b" ") * (len(data) % 2)
    return struct.pack("<HH", group, element) + vr.encode() + struct.pack("<H", len(data)) + data


def _long_element(group: int, element: int, vr: str, data: bytes) -> bytes:
    return struct.pack("<HH", group, element) + vr.encode() + struct.pack("<HI", 0, len(data)) + data


def _decimals(values: np.ndarray, digits: int) -> list[str]:
    return [f"{v:.{digits}f}" for v in values]


def _files(eid: str, visit: int, sex: str, age: int, series: Series) -> Iterator[tuple[str, bytes]]:
    """(SOP instance UID, file bytes) of every frame of a series."""
    uid_root = f"{ROOT}.{eid}.{visit}"
    frames, (rows, columns) = len(series.pixels), series.pixels.shape[1:]
    cycle = range(frames) if series.frames is None else series.frames
    full = series.cycle_frames or frames
    step = [] if series.step_mm is None else [_element(0x18, 0x88, "DS", f"{series.step_mm:g}")]
    before_trigger = b"".join(
        [
            _element(8, 0x1030, "LO", "HEART"), _element(8, 0x103E, "LO", series.description),
            _element(8, 0x1090, "LO", "synthetic-cohort"), _element(0x10, 0x10, "PN", eid),
            _element(0x10, 0x20, "LO", eid), _element(0x10, 0x40, "CS", sex),
            _element(0x10, 0x1010, "AS", f"{age:03d}Y"), _element(0x18, 0x15, "CS", "HEART"),
            _element(0x18, 0x20, "CS", "GR"), _element(0x18, 0x21, "CS", ["SK", "SS"]),
            _element(0x18, 0x22, "CS", "RG"), _element(0x18, 0x23, "CS", "2D"),
            _element(0x18, 0x50, "DS", f"{series.thickness_mm:g}"),
            _element(0x18, 0x80, "DS", f"{series.rr_ms / full:.2f}"), _element(0x18, 0x81, "DS", "1.16"),
            _element(0x18, 0x87, "DS", "1.5"), *step, _element(0x18, 0x1030, "LO", series.description),
        ]
    )  # fmt: skip
    before_instance = b"".join(
        [
            _element(0x18, 0x1062, "IS", round(series.rr_ms)), _element(0x18, 0x1090, "IS", full),
            _element(0x18, 0x1314, "DS", "80"), _element(0x18, 0x5100, "CS", "HFS"),
            _element(0x20, 0x0D, "UI", f"{uid_root}.10"), _element(0x20, 0x0E, "UI", f"{uid_root}.20{series.number}"),
            _element(0x20, 0x11, "IS", series.number), _element(0x20, 0x12, "IS", 1),
        ]
    )  # fmt: skip
    private = b""
    if series.private_blocks:
        private = _element(0x29, 0x10, "LO", "SYNTHETIC CSA HEADER") + b"".join(
            _long_element(0x29, e, "OB", bytes((i * 7) % 251 for i in range(256)) * (n // 256) + b"\0" * (n % 256))
            for e, n in _PRIVATE_BYTES.items()
        )
    before_pixels = b"".join(
        [
            _element(0x20, 0x32, "DS", _decimals(series.origin_mm, 4)),
            _element(0x20, 0x37, "DS", _decimals(np.concatenate([series.row_axis, series.column_axis]), 6)),
            _element(0x20, 0x52, "UI", f"{uid_root}.30"), _element(0x20, 0x1041, "DS", f"{series.location_mm:.4f}"),
            _element(0x28, 2, "US", 1), _element(0x28, 4, "CS", "MONOCHROME2"),
            _element(0x28, 0x10, "US", rows), _element(0x28, 0x11, "US", columns),
            _element(0x28, 0x30, "DS", [f"{series.pixel_mm:.6f}"] * 2), _element(0x28, 0x100, "US", 16),
            _element(0x28, 0x101, "US", 12), _element(0x28, 0x102, "US", 11), _element(0x28, 0x103, "US", 0),
            _element(0x28, 0x1050, "DS", "220"), _element(0x28, 0x1051, "DS", "480"), private,
        ]
    )  # fmt: skip
    for k, frame in enumerate(cycle):
        uid = f"{uid_root}.1{series.number:02d}{k + 1:03d}"
        identity = b"".join(
            [
                _element(8, 5, "CS", "ISO_IR 100"), _element(8, 8, "CS", ["ORIGINAL", "PRIMARY", "M", "RETRO", "NORM"]),
                _element(8, 0x16, "UI", _MR_STORAGE), _element(8, 0x18, "UI", uid), _element(8, 0x20, "DA", "20190307"),
                _element(8, 0x30, "TM", "100000"), _element(8, 0x32, "TM", series.acquisition_time),
                _element(8, 0x60, "CS", "MR"), _element(8, 0x70, "LO", "SYNTHETIC"),
            ]
        )  # fmt: skip
        trigger = _element(0x18, 0x1060, "DS", f"{frame * series.rr_ms / full:.3f}")
        instance = _element(0x20, 0x13, "IS", series.first_instance + k)
        pixels = _long_element(0x7FE0, 0x10, "OW", np.ascontiguousarray(series.pixels[k], "<u2").tobytes())
        body = [_meta(uid), identity, before_trigger, trigger, before_instance, instance, before_pixels, pixels]
        yield uid, b"".join(body)


def _meta(uid: str) -> bytes:
    """Preamble and file meta group."""
    group = b"".join(
        [
            _long_element(2, 1, "OB", b"\0\1"), _element(2, 2, "UI", _MR_STORAGE), _element(2, 3, "UI", uid),
            _element(2, 0x10, "UI", _EXPLICIT_LITTLE), _element(2, 0x12, "UI", f"{ROOT}.1"),
        ]
    )  # fmt: skip
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(group))
    return b"\0" * 128 + b"DICM" + length + group


def zip_of_series(
    series: list[Series], rng: np.random.Generator, *, eid: str, visit: int, sex: str, age: int, manifest: str
) -> bytes:
    """A zip of all frames in shuffled order, with the manifest whose unquoted date holds commas."""
    files = [(uid, s, data) for s in series for uid, data in _files(eid, visit, sex, age, s)]
    lines = [_MANIFEST_HEADER]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for i in rng.permutation(len(files)):
            uid, s, data = files[i]
            archive.writestr(zipfile.ZipInfo(f"{uid}.dcm", _ZIP_TIME), data, zipfile.ZIP_DEFLATED, 1)
            lines.append(f"{uid}.dcm,{eid},{ROOT}.{eid}.{visit}.10,HEART,{s.number},{s.description},AET,HOST,{_DATE}")
        archive.writestr(zipfile.ZipInfo(manifest, _ZIP_TIME), "\n".join(lines))
    return buffer.getvalue()
