"""What can be odd about the images of a cine, and damaged about its zip."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.faults.cine_files import (
    FRAMES,
    SLICES,
    Files,
    and_more,
    both,
    darker,
    edited,
    images,
    place,
    sets,
    sound_files,
    zipped,
)


def damaged(folder: Path, names: list[str]) -> Path:
    """The sound zip with bytes overturned in the packed data of some members: their checksums fail."""
    path = zipped(folder / "x.zip", sound_files())
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as z:
        for name in names:
            info = z.getinfo(name)
            middle = info.header_offset + 30 + len(name) + info.compress_size - 200
            for i in range(middle, middle + 40):
                data[i] ^= 0x55
    path.write_bytes(data)
    return path


def in_folder(folder: Path) -> Path:
    (folder / "scan" / "series").mkdir(parents=True)
    for i, data in enumerate(sound_files().values()):
        (folder / "scan" / ("series" if i % 2 else ".") / f"IM{i:04d}").write_bytes(data)
    return folder / "scan"


def encrypted(folder: Path) -> Path:
    path = zipped(folder / "x.zip", sound_files())
    data = bytearray(path.read_bytes())
    at = 0
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    path.write_bytes(data)
    return path


def lying_size(folder: Path) -> Path:
    """Members that say 1,000 bytes and unpack to 40 MiB."""
    path = zipped(folder / "x.zip", {f"{i}.dcm": b"\0" * 128 + b"DICM" + b"\0" * (40 * 2**20) for i in range(3)})
    data = path.read_bytes().replace(struct.pack("<I", 132 + 40 * 2**20), struct.pack("<I", 1000))
    path.write_bytes(data)
    return path


def announces(size: int, count: int) -> Callable[[Path], Path]:
    """A zip whose directory announces `count` members of `size` bytes each, all of one stored byte."""

    def make(folder: Path) -> Path:
        path = zipped(folder / "x.zip", {f"{i}.dcm": b"x" for i in range(count)})
        with zipfile.ZipFile(path) as z:
            start = z.start_dir
        data = bytearray(path.read_bytes())
        at = data.find(b"PK\1\2", start)
        while at >= 0:
            struct.pack_into("<I", data, at + 24, size)
            at = data.find(b"PK\1\2", at + 4)
        path.write_bytes(data)
        return path

    return make


def packed(method: int) -> Callable[[Path], Path]:
    """The sound zip, packed by another method than deflate."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.zip", "w", method) as z:
            for name, data in sound_files().items():
                z.writestr(name, data)
        return folder / "x.zip"

    return make


def deflated_bomb(folder: Path) -> Path:
    """A DICOM file of 200 kB whose deflated data set holds 200 MB."""
    syntax = struct.pack("<HH2sH", 2, 0x10, b"UI", 22) + DeflatedExplicitVRLittleEndian.encode()
    group = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(syntax)) + syntax
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = packer.compress(struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 200 * 2**20))
    body += b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    return zipped(folder / "x.zip", {"a.dcm": bytes(128) + b"DICM" + group + body})


def undefined_length(dataset: Dataset) -> None:
    item = Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    inner = Dataset()
    inner.ReferencedSOPClassUID = "1.2"
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    item["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    item.is_undefined_length_sequence_item = True
    dataset.ReferencedImageSequence = Sequence([item, item])
    dataset["ReferencedImageSequence"].is_undefined_length = True


def early_private_block(dataset: Dataset) -> None:
    block = dataset.private_block(0x0009, "LONG HEADER", create=True)
    block.add_new(0x01, "OB", bytes(20_000))


def enhanced(data: list[bytes]) -> bytes:
    """One multi-frame object of some single-frame files."""
    frames = [pydicom.dcmread(io.BytesIO(d)) for d in data]
    first = frames[0]
    out = Dataset()
    out.file_meta = FileMetaDataset()
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta.MediaStorageSOPClassUID, out.file_meta.MediaStorageSOPInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.4.1",
        "1.2.3",
    )
    out.SOPClassUID, out.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.3"
    out.SeriesInstanceUID, out.SeriesDescription = "1.2.3.4", "CINE_segmented_SAX"
    out.NumberOfFrames, out.Rows, out.Columns = len(frames), first.Rows, first.Columns
    out.SamplesPerPixel, out.PhotometricInterpretation = 1, "MONOCHROME2"
    out.BitsAllocated, out.BitsStored, out.HighBit, out.PixelRepresentation = 16, 12, 11, 0
    out.PerFrameFunctionalGroupsSequence = Sequence([_groups(f) for f in frames])
    measures = Dataset()
    measures.PixelSpacing = first.PixelSpacing
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    out.SharedFunctionalGroupsSequence = Sequence([shared])
    out.PixelData = b"".join(f.PixelData for f in frames)
    file = io.BytesIO()
    out.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _groups(frame: Dataset) -> Dataset:
    position, orientation, timing, groups = Dataset(), Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient, orientation.ImageOrientationPatient = (
        frame.ImagePositionPatient,
        frame.ImageOrientationPatient,
    )
    timing.NominalCardiacTriggerDelayTime, timing.RRIntervalTimeNominal = (
        float(frame.TriggerTime),
        float(frame.NominalInterval),
    )
    groups.PlanePositionSequence, groups.PlaneOrientationSequence = Sequence([position]), Sequence([orientation])
    groups.CardiacSynchronizationSequence = Sequence([timing])
    return groups


def one_enhanced_file(folder: Path) -> Path:
    names = sorted(images(), key=lambda n: (place(n)[1], -place(n)[0]))  # frame by frame through all slices
    return zipped(folder / "x.zip", {"all.dcm": enhanced([sound_files()[n] for n in names])})


def enhanced_colours(folder: Path) -> Path:
    def coloured(dataset: Dataset) -> None:
        grey = (dataset.pixel_array // 16).astype(np.uint8)
        dataset.PixelData = np.stack([grey] * 3, axis=-1).tobytes()
        sets(SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)(dataset)
        sets(BitsAllocated=8, BitsStored=8, HighBit=7)(dataset)

    return zipped(folder / "x.zip", {"all.dcm": edited(enhanced([sound_files()[n] for n in images()]), coloured)})


def enhanced_per_slice(folder: Path) -> Path:
    return zipped(
        folder / "x.zip", {f"{k}.dcm": enhanced([sound_files()[n] for n in images(k)]) for k in range(1, SLICES + 1)}
    )


def cut_rows(dataset: Dataset) -> None:
    """A smaller field of view: eight rows less at the bottom."""
    dataset.PixelData = dataset.pixel_array[:-8].tobytes()
    dataset.Rows = dataset.Rows - 8


def turned(dataset: Dataset) -> None:
    axes = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    angle = np.deg2rad(20)
    normal = np.cross(axes[0], axes[1])
    axes[1] = np.cos(angle) * axes[1] + np.sin(angle) * normal
    dataset.ImageOrientationPatient = [f"{x:.6f}" for x in axes.ravel()]


def shifted_trigger(dataset: Dataset) -> None:
    dataset.TriggerTime = f"{float(dataset.TriggerTime) + 12:.3f}"


def repeat_in_series(dataset: Dataset) -> None:
    """A second acquisition that counts on: later, at a slightly other heart rate."""
    dataset.InstanceNumber = dataset.InstanceNumber + FRAMES
    dataset.TriggerTime = f"{float(dataset.TriggerTime) * 0.97:.3f}"
    dataset.AcquisitionTime = "112000"


def counted_on(by: int, rate: float = 1.0, time: str = "112000") -> Callable[[Dataset], object]:
    """Another acquisition in the same series: instances counted on, its own heart rate and acquisition time."""

    def change(dataset: Dataset) -> None:
        darker(dataset)
        dataset.InstanceNumber = dataset.InstanceNumber + by
        dataset.TriggerTime = f"{float(dataset.TriggerTime) * rate:.3f}"
        dataset.AcquisitionTime = time

    return change


def of_23_frames(files: Files) -> Files:
    """A later acquisition of slice 2 with 23 frames."""
    names = sorted(images(2), key=place)
    change = [
        both(
            darker,
            sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000", InstanceNumber=i + 1, TriggerTime=f"{i * 45}"),
        )
        for i in range(23)
    ]
    return {f"more{i}": edited(files[names[i * FRAMES // 23]], change[i]) for i in range(23)}


def sixty_untimed(files: Files) -> Files:
    """A later series of 60 frames without trigger times at each of three slices, such as perfusion."""
    more = {}
    for k in (2, 3, 4):
        for repeat in range(3):
            tags = sets(SeriesInstanceUID=f"1.2.9.{k}", AcquisitionTime="120000", TriggerTime="")
            for n in images(k):
                number = sets(InstanceNumber=place(n)[1] + repeat * FRAMES)
                more[f"{repeat}{n}"] = edited(files[n], both(darker, tags, number))
    return more


def moved(distance_mm: float) -> Callable[[Dataset], object]:
    def change(dataset: Dataset) -> None:
        axes = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        position = np.array(dataset.ImagePositionPatient, float) + distance_mm * np.cross(*axes)
        dataset.ImagePositionPatient = [f"{x:.4f}" for x in position]

    return change


def turned_in_plane(degrees: float) -> Callable[[Dataset], object]:
    def change(dataset: Dataset) -> None:
        row, column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        dataset.ImageOrientationPatient = [f"{x:.6f}" for x in (*(c * row + s * column), *(c * column - s * row))]

    return change


def mirrored(dataset: Dataset) -> None:
    """The same image stored with its columns from the other side."""
    row = np.array(dataset.ImageOrientationPatient, float)[:3]
    last = np.array(dataset.ImagePositionPatient, float) + row * float(dataset.PixelSpacing[1]) * (dataset.Columns - 1)
    dataset.PixelData = dataset.pixel_array[:, ::-1].tobytes()
    dataset.ImagePositionPatient = [f"{x:.4f}" for x in last]
    dataset.ImageOrientationPatient = [*(f"{-x:.6f}" for x in row), *dataset.ImageOrientationPatient[3:]]


def high_bits(dataset: Dataset) -> None:
    dataset.PixelData = (dataset.pixel_array | np.uint16(0xA000)).astype("<u2").tobytes()


def negative(dataset: Dataset) -> None:
    dataset.PixelData = (4095 - dataset.pixel_array).astype("<u2").tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME1"


def overlaid_in(group: int) -> Callable[[Dataset], object]:
    def change(dataset: Dataset) -> None:
        dataset.add_new((group, 0x0010), "US", dataset.Rows)
        dataset.add_new((group, 0x0011), "US", dataset.Columns)
        dataset.add_new((group, 0x3000), "OW", bytes(dataset.Rows * dataset.Columns // 8))

    return change


def drawn_repeat(group: int, syntax: str | None) -> Callable[[Path], Path]:
    """A later repeat of slice 3 with contours drawn into it."""
    later = both(darker, overlaid_in(group), sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000"))
    return and_more(lambda files: {f"copy{n}": edited(files[n], later, syntax) for n in images(3)})


def with_contrast_lost(dataset: Dataset) -> None:
    dataset.PixelData = bytes(np.full(len(dataset.PixelData) // 2, 7, "<u2"))


def signed(dataset: Dataset) -> None:
    dataset.PixelRepresentation = 1


def every(step: int) -> range:
    return range(1, FRAMES + 1, step)


def padded_tail(data: bytes) -> bytes:
    """A trailing padding element after the pixels."""
    return data + struct.pack("<HH2sHI", 0xFFFC, 0xFFFC, b"OB", 0, 16) + bytes(16)


def no_preamble(data: bytes) -> bytes:
    """The data set alone, as old exporters write it: implicit VR, neither preamble nor file meta."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    out = io.BytesIO()
    bare = Dataset()
    bare.update(dataset)
    pydicom.dcmwrite(out, bare, implicit_vr=True, little_endian=True, force_encoding=True)
    return out.getvalue()


# --- NIfTI --------------------------------------------------------------------------------------------------------------


def _cut(folder: Path, share: float) -> Path:
    path = zipped(folder / "x.zip", sound_files())
    data = path.read_bytes()
    path.write_bytes(data[: min(int(share * len(data)), len(data) - 1)])
    return path


def _replace_position(data: bytes, word: bytes) -> bytes:
    """The x of ImagePositionPatient replaced in place, padded with blanks."""
    at = data.index(b"\x20\0\x32\0DS") + 8
    end = data.index(b"\\", at)
    return data[:at] + word.ljust(end - at) + data[end:]
