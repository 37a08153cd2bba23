"""Frames from the heads of DICOM files."""

from dataclasses import dataclass

import numpy as np

from ptacl.cmr.container import MAX_FILE_BYTES, MAX_TOTAL_BYTES, Member
from ptacl.cmr.dataset import EXPLICIT_LITTLE, IMPLICIT_LITTLE, inflated
from ptacl.cmr.enhanced import enhanced_frames
from ptacl.cmr.frame import Frame, Plane, make_plane
from ptacl.cmr.pixels import decode, has_overlay, rescaled, stored_bits, tail
from ptacl.cmr.tags import HEAD_BYTES, Tags, find_tags, tags_by_pydicom
from ptacl.errors import UnreadableCine

_PER_FRAME = frozenset({"AcquisitionTime", "InstanceNumber", "TriggerTime"})


class FrameReader:
    """Frames from members; what all frames of a slice share is parsed once.

    absurd: images with a geometry that can't be. others: images in colour or without a place in the patient.
    """

    def __init__(self) -> None:
        self.absurd = self.others = 0
        self._shared: dict[tuple[tuple[str, bytes], ...], _Shared] = {}
        self._whole_bytes = 0

    def read(self, member: Member) -> list[Frame]:
        """The frames of one member: none where it is no image with a position in the patient.

        Raises ValueError where the member is damaged, UnreadableCine(`too_large`) where what had to be read whole adds up
        to more than any cine has.
        """
        tags, broken_off = find_tags(member.head(HEAD_BYTES))
        if tags is None:
            # A long header, another byte order, no DICOM at all: only the whole file can tell.
            if not broken_off and not _may_be_dicom(member):
                return []
            data = inflated(member.content())
            self._whole_bytes += len(data)
            if self._whole_bytes > MAX_TOTAL_BYTES:
                raise UnreadableCine("too_large", "the files unpack to more than any cine has")
            tags, broken_off = find_tags(data)
            if broken_off:
                raise ValueError("a header that breaks off")
            tags = tags if tags is not None else tags_by_pydicom(data)
        if tags is None:
            return []
        try:
            if "NumberOfFrames" in tags and "ImagePositionPatient" not in tags:
                found = enhanced_frames(member)
            elif _integer(tags, "SamplesPerPixel") > 1 or member.size > MAX_FILE_BYTES:
                found = []
            else:
                found = [self._frame(tags, member)]
        except (KeyError, IndexError):
            found = []
        except ValueError:
            self.absurd += 1
            return []
        self.others += not found and "Rows" in tags
        return found

    def _frame(self, tags: Tags, member: Member) -> Frame:
        key = tuple(item for item in tags.items() if item[0] not in _PER_FRAME)
        if key not in self._shared:
            self._shared[key] = _shared(tags)
        shared = self._shared[key]
        pixels = _Pixels(member, shared)
        return Frame(
            series=shared.series,
            description=shared.description,
            derived=shared.derived,
            acquisition_time=_text(tags, "AcquisitionTime"),
            series_number=shared.series_number,
            instance=_integer(tags, "InstanceNumber"),
            trigger_ms=_number(tags, "TriggerTime"),
            nominal_rr_ms=shared.nominal_rr_ms,
            cycle_frames=shared.cycle_frames,
            plane=shared.plane,
            inverted=shared.inverted,
            load=pixels.load,
            has_overlay=pixels.has_overlay,
        )


@dataclass(frozen=True, eq=False)
class _Shared:
    """What a header says of a whole slice.

    dtype: of plain 16-bit pixels, None where pydicom has to decode them. bits: how many of the 16 count.
    """

    series: str
    description: str
    derived: bool
    series_number: float
    nominal_rr_ms: float
    cycle_frames: int
    plane: Plane
    inverted: bool
    explicit_little: bool
    dtype: str | None
    bits: int
    slope: float
    intercept: float


def _shared(tags: Tags) -> _Shared:
    syntax = _text(tags, "TransferSyntaxUID")
    plain = syntax in (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
    high_bit = _integer(tags, "HighBit") if "HighBit" in tags else -1
    signed = _integer(tags, "PixelRepresentation")
    return _Shared(
        series=_text(tags, "SeriesInstanceUID"),
        description=_text(tags, "SeriesDescription"),
        derived="DERIVED" in _text(tags, "ImageType").upper().split("\\"),
        series_number=_number(tags, "SeriesNumber"),
        nominal_rr_ms=_number(tags, "NominalInterval"),
        cycle_frames=_integer(tags, "CardiacNumberOfImages"),
        plane=make_plane(
            numbers(tags["ImagePositionPatient"], 3),
            numbers(tags["ImageOrientationPatient"], 6),
            numbers(tags["PixelSpacing"], 2),
            int(tags["Rows"]),
            int(tags["Columns"]),
        ),
        inverted=_text(tags, "PhotometricInterpretation") == "MONOCHROME1",
        explicit_little=syntax not in ("", IMPLICIT_LITTLE),
        dtype=("<i2" if signed else "<u2") if plain and _integer(tags, "BitsAllocated") == 16 else None,
        bits=stored_bits(_integer(tags, "BitsStored"), high_bit, 16),
        slope=_number(tags, "RescaleSlope"),
        intercept=_number(tags, "RescaleIntercept"),
    )


@dataclass(eq=False)
class _Pixels:
    """The pixels of one member, decoded when asked for."""

    member: Member
    shared: _Shared

    def has_overlay(self) -> bool:
        return has_overlay(inflated(self.member.content()), self.shared.explicit_little)

    def load(self) -> np.ndarray:
        """[rows, columns]. Raises ValueError where the file is damaged."""
        data, shared = inflated(self.member.content()), self.shared
        shape = shared.plane.rows, shared.plane.columns
        image = tail(data, shape, shared.dtype, shared.bits) if shared.dtype else None
        if image is None:
            image = decode(data)
        if image.shape != shape:
            raise ValueError("pixel data of another shape than the header says")
        return rescaled(image, shared.slope, shared.intercept)


def numbers(value: bytes, count: int) -> np.ndarray:
    """`count` finite decimals between backslashes, float64. Raises ValueError."""
    found = np.array([float(part) for part in value.decode("latin-1").split("\\")])
    if len(found) != count or not np.isfinite(found).all() or np.abs(found).max() > 1e5:
        raise ValueError("implausible numbers")
    return found


def _may_be_dicom(member: Member) -> bool:
    head = member.head(132)
    return head[128:132] == b"DICM" or head[:2] in (b"\x02\0", b"\x08\0")


def _text(tags: Tags, name: str) -> str:
    return tags.get(name, b"").decode("latin-1").strip("\0 ")


def _number(tags: Tags, name: str) -> float:
    try:
        value = float(tags.get(name, b""))
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def _integer(tags: Tags, name: str) -> int:
    value = _number(tags, name)
    return int(value) if np.isfinite(value) else 0
