"""Finding a few DICOM elements in the first bytes of a file, without building a data set.

A study has 550 files per person, of which pydicom would walk a hundred elements each; all that a cine needs lies before
the vendor's private blocks. Anything unusual is left to pydicom, which is also the judge in the tests.
"""

import warnings

import numba
import numpy as np
import pydicom

from ptacl.cmr.dataset import open_dataset
from ptacl.compiled import compiled

HEAD_BYTES = 6 * 1024

# In the order of their tags, as they come in a file.
TAGS = {
    0x0002_0010: "TransferSyntaxUID", 0x0008_0008: "ImageType", 0x0008_0032: "AcquisitionTime",
    0x0008_103E: "SeriesDescription", 0x0018_1060: "TriggerTime", 0x0018_1062: "NominalInterval",
    0x0018_1090: "CardiacNumberOfImages", 0x0020_000E: "SeriesInstanceUID", 0x0020_0011: "SeriesNumber",
    0x0020_0013: "InstanceNumber", 0x0020_0032: "ImagePositionPatient", 0x0020_0037: "ImageOrientationPatient",
    0x0028_0002: "SamplesPerPixel", 0x0028_0004: "PhotometricInterpretation", 0x0028_0008: "NumberOfFrames",
    0x0028_0010: "Rows", 0x0028_0011: "Columns", 0x0028_0030: "PixelSpacing", 0x0028_0100: "BitsAllocated",
    0x0028_0101: "BitsStored", 0x0028_0102: "HighBit", 0x0028_0103: "PixelRepresentation",
    0x0028_1052: "RescaleIntercept", 0x0028_1053: "RescaleSlope",
}  # fmt: skip
_WANTED = np.array(list(TAGS), np.int64)
_NAMES = list(TAGS.values())
_BINARY = frozenset(
    {"SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"}
)
_COMPLETE, _MORE, _ODD = 0, 1, 2

Tags = dict[str, bytes]


def find_tags(head: bytes) -> tuple[Tags | None, bool]:
    """(values by keyword, False); (None, True) when the head breaks off before they are complete; (None, False) when odd.

    Values are raw bytes; binary integers are turned into their decimal text.
    """
    if head[128:132] != b"DICM":
        return None, False
    places = np.full((len(_WANTED), 2), -1, np.int64)
    status = _walk(np.frombuffer(head, np.uint8), _WANTED, places)
    if status != _COMPLETE:
        return None, status == _MORE
    found: Tags = {}
    for name, (at, length) in zip(_NAMES, places.tolist(), strict=True):
        if at >= 0:
            value = head[at : at + length]
            if name in _BINARY:
                if length > 4:  # no binary integer
                    return None, False
                value = str(int.from_bytes(value, "little")).encode()
            found[name] = value.rstrip(b"\0 ")
    return found, False


def tags_by_pydicom(data: bytes) -> Tags | None:
    """The same for a whole file of any transfer syntax, with or without a preamble; None where it is no DICOM file."""
    if data[128:132] != b"DICM" and data[:2] not in (b"\x02\0", b"\x08\0"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = open_dataset(data, headers_only=True)
            found = {}
            for name in _NAMES[1:]:
                value = dataset.get(name)
                if value is not None:
                    parts = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
                    found[name] = "\\".join(map(str, parts)).encode("latin-1", "replace")
            return found if "Rows" in found else None
    except Exception:  # hostile bytes make pydicom raise many types
        return None


_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)


@compiled(numba.int64(_BYTES, numba.int64))
def _uint32(data, at):  # noqa: ANN001, ANN202
    low = np.int64(data[at]) | np.int64(data[at + 1]) << 8
    return low | np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24


@compiled(numba.int64(_BYTES, numba.int64[::1], numba.int64[:, ::1]))
def _walk(data, wanted, places):  # noqa: ANN001, ANN202 (numba infers the types)
    """Notes offset and length of each wanted element, until group 0028 is past. Little endian, either kind of VR."""
    n, at, next_wanted, depth = len(data), 132, 0, 0
    explicit, in_meta = True, True
    while True:
        if at + 8 > n:
            return _MORE
        group = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        element = np.int64(data[at + 2]) | np.int64(data[at + 3]) << 8
        if in_meta and group != 2:
            in_meta = False
            syntax, length = places[0]
            if syntax < 0:
                return _ODD
            while length > 0 and (data[syntax + length - 1] == 0 or data[syntax + length - 1] == 32):
                length -= 1
            explicit = length != 17  # 1.2.840.10008.1.2 has 17 characters, every other syntax more
            last = data[syntax + length - 1]
            if (length == 19 and last == 50) or (length == 22 and last == 57 and data[syntax + length - 4] == 49):
                return _ODD  # big endian (...2.2), deflated (...2.1.99)
        if depth == 0 and group > 0x28 and group != 0xFFFE:
            return _COMPLETE
        if group == 0xFFFE:  # an item's start or end, or a sequence's end; items are walked like their surroundings
            if depth == 0:
                return _ODD
            if element == 0xE0DD:
                depth -= 1
            at += 8
            continue
        is_sequence = not explicit and not in_meta
        if explicit or in_meta:
            a, b = data[at + 4], data[at + 5]
            if a < 65 or a > 90 or b < 65 or b > 90:
                return _ODD
            is_sequence = a == 83 and b == 81
            # OB OD OF OL OV OW SQ SV UC UN UR UT UV have four bytes of length, after two of nothing.
            if (
                (a == 79)
                or is_sequence
                or (a == 83 and b == 86)
                or (a == 85 and (b == 67 or b == 78 or b == 82 or b == 84 or b == 86))
            ):
                if at + 12 > n:
                    return _MORE
                at += 12
                length = _uint32(data, at - 4)
            else:
                at += 8
                length = np.int64(data[at - 2]) | np.int64(data[at - 1]) << 8
        else:
            at += 8
            length = _uint32(data, at - 4)
        if length == 0xFFFFFFFF:
            if not is_sequence:
                return _ODD
            depth += 1
            continue
        if at + length > n:
            return _MORE
        if depth == 0:
            tag = group << 16 | element
            while next_wanted < len(wanted) and wanted[next_wanted] < tag:
                next_wanted += 1
            if next_wanted < len(wanted) and wanted[next_wanted] == tag:
                places[next_wanted, 0], places[next_wanted, 1] = at, length
        at += length
