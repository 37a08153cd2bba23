"""A DICOM file by pydicom, whatever its transfer syntax, without the ways in which hostile bytes make that expensive."""

import io
import logging
import warnings

import pydicom
from isal import isal_zlib
from pydicom.uid import UID

from ptacl.cmr.container import MAX_FILE_BYTES
from ptacl.errors import UnreadableCine

# pydicom quotes values of headers in its log, and they may be personal.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

IMPLICIT_LITTLE, EXPLICIT_LITTLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_META_BYTES = 4096
_LONG_VR = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR")


def open_dataset(data: bytes, headers_only: bool = False) -> pydicom.Dataset:
    """The data set of a file with or without a preamble; `headers_only` leaves the pixels out.

    Raises UnreadableCine and ValueError as `inflated` does, and whatever pydicom raises.
    """
    data = inflated(data)
    bare = data[128:132] != b"DICM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=headers_only, force=bare)
    if bare:  # without file meta the standard's default syntax holds
        dataset.file_meta.TransferSyntaxUID = UID(IMPLICIT_LITTLE)
    return dataset


def inflated(data: bytes) -> bytes:
    """A file with a deflated data set as the explicit little-endian file it stands for; any other file as it is.

    A few kilobytes can unpack to gigabytes, which pydicom would do. Raises UnreadableCine(`too_large`) above
    MAX_FILE_BYTES, ValueError for a damaged file.
    """
    at = data.find(_DEFLATED, 132, 132 + _META_BYTES)
    end = _end_of_meta(data) if at >= 0 else -1
    if end < at + len(_DEFLATED):
        return data
    try:
        inflater = isal_zlib.decompressobj(-15)
        body = inflater.decompress(data[end:], MAX_FILE_BYTES + 1)
    except isal_zlib.error:  # type: ignore[misc]
        raise ValueError("a damaged deflated file") from None
    if len(body) > MAX_FILE_BYTES:
        raise UnreadableCine("too_large", "a deflated file that unpacks to more than any image has")
    if not inflater.eof:
        raise ValueError("a deflated file that breaks off")
    meta = data[:end].replace(_DEFLATED, EXPLICIT_LITTLE.encode().ljust(len(_DEFLATED), b"\0"))
    return meta + body


def _end_of_meta(data: bytes) -> int:
    """Where group 0002, always explicit little endian, ends."""
    at = 132
    while data[at : at + 2] == b"\2\0":
        if data[at + 4 : at + 6] in _LONG_VR:
            at += 12 + int.from_bytes(data[at + 8 : at + 12], "little")
        else:
            at += 8 + int.from_bytes(data[at + 6 : at + 8], "little")
    return at
