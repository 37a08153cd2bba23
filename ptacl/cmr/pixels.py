"""Pixels of a DICOM file: plain ones straight from its last bytes, all others by pydicom."""

import re
import warnings

import numpy as np
import pydicom

from ptacl.cmr.dataset import open_dataset

# Overlay data of the repeating groups 6000, 6002, ... 601E, explicit VR, without the first byte: that of a fixed beginning is
# found fast.
_OVERLAY = re.compile(rb"\x60\x00\x30(?:OB|OW)")
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


def tail(data: bytes, shape: tuple[int, int], dtype: str, bits: int) -> np.ndarray | None:
    """16-bit pixels from the last bytes of a file, if the element before them says that they are just that; else None.

    Only the lowest `bits` of a pixel count: above them older files keep other things.
    """
    size = shape[0] * shape[1] * 2
    start = len(data) - size
    short, long = data[start - 8 : start], data[start - 12 : start]
    length = size.to_bytes(4, "little")
    tag = b"\xe0\x7f\x10\0"
    if start < 144 or not (long in (tag + b"OW\0\0" + length, tag + b"OB\0\0" + length) or short == tag + length):
        return None
    image = np.frombuffer(data, dtype, shape[0] * shape[1], start).reshape(shape)
    # Up and down again, which extends the sign of a signed pixel.
    return image if bits == 16 else (image << (16 - bits)) >> (16 - bits)


def stored_bits(bits_stored: int, high_bit: int, bits_allocated: int) -> int:
    """How many of a pixel's lowest bits count: some old files store fewer bits than allocated, in the upper ones."""
    bits = max(bits_stored, high_bit + 1)
    return bits if 0 < bits < bits_allocated else bits_allocated


def decode(data: bytes) -> np.ndarray:
    """Pixels of a file of any transfer syntax by pydicom. Raises ValueError where they can't be decoded."""
    try:
        dataset = open_dataset(data)
        high_bit = dataset.get("HighBit")
        if high_bit is not None:
            dataset.BitsStored = stored_bits(dataset.BitsStored, high_bit, dataset.BitsAllocated)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dataset.pixel_array
    except Exception as e:  # decoders raise many types
        raise ValueError(f"pixel data can't be decoded ({type(e).__name__})") from None


def rescaled(image: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Stored values to the modality's, float32 where they differ; NaN stands for a header that does not say."""
    slope, intercept = (1.0 if np.isnan(slope) else slope), (0.0 if np.isnan(intercept) else intercept)
    if (slope, intercept) == (1.0, 0.0):
        return image
    return (image * np.float32(slope) + np.float32(intercept)).astype(np.float32)


def inverted(pixels: np.ndarray) -> np.ndarray:
    """Greys of MONOCHROME1, where the largest value is black, turned so that blood is bright."""
    unsigned = pixels.dtype.kind == "u"
    return pixels.max() - (pixels if unsigned else pixels.astype(np.float32))


def has_overlay(data: bytes, explicit_little: bool) -> bool:
    """Whether a file carries an overlay, in which results keep their contours; it lies after the private blocks."""
    if explicit_little:
        return any(data[m.start() - 1] + 0x6000 in _OVERLAY_GROUPS for m in _OVERLAY.finditer(data))
    try:
        tags: list[pydicom.tag.BaseTag] = list(open_dataset(data, headers_only=True).keys())
    except Exception:  # what can't be read is found when its pixels are decoded
        return False
    return any(t.group in _OVERLAY_GROUPS and t.element == 0x3000 for t in tags)
