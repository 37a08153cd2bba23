"""Short-axis cines, as zips, folders and NIfTI, in every way they go wrong. One small synthetic heart throughout."""

import functools
import io
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from ptacl.cmr import Cine, read_cine
from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject
from tests.faults.fault import Fault

SLICES, FRAMES = 6, 20
Files = dict[str, bytes]


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for name, data in files.items():
            z.writestr(zipfile.ZipInfo(name, (2019, 3, 7, 10, 12, 30)), data, zipfile.ZIP_DEFLATED, 1)
    return path


@functools.cache
def sound_files(*faults: str) -> Files:
    """Members of a synthetic zip, the manifest among them."""
    with tempfile.TemporaryDirectory() as folder:
        write_heart_files(
            draw_subject(3, 4), eid="9000001", instance=2, rng=np.random.default_rng(1), size="small", folder=Path(folder),
            faults=frozenset(faults), long_axis=False,
        )  # fmt: skip
        with zipfile.ZipFile(Path(folder) / "9000001_20209_2_0.zip") as z:
            return {n: z.read(n) for n in z.namelist()}


@functools.cache
def sound_cine() -> Cine:
    with tempfile.TemporaryDirectory() as folder:
        return read_cine(zipped(Path(folder) / "x.zip", sound_files()), "ukb").decoded()


@functools.cache
def place(name: str) -> tuple[int, int]:
    """(number of the series from 1, number of the frame from 1) of a member."""
    dataset = pydicom.dcmread(io.BytesIO(sound_files()[name]), stop_before_pixels=True)
    return int(dataset.SeriesDescription.rsplit("b", 1)[1]), int(dataset.InstanceNumber)


def images(series: int | None = None, frames: range = range(1, FRAMES + 1)) -> list[str]:
    names = [n for n in sound_files() if n.endswith(".dcm")]
    return [n for n in names if (series is None or place(n)[0] == series) and place(n)[1] in frames]


def edited(data: bytes, change: Callable[[Dataset], object], syntax: str | None = None) -> bytes:
    """A DICOM file with its data set changed, written in another transfer syntax where asked."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    change(dataset)
    out = io.BytesIO()
    if syntax is None:
        dataset.save_as(out)
        return out.getvalue()
    pixels = dataset.pixel_array
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = pixels.astype(">u2").tobytes()
    pydicom.dcmwrite(
        out, dataset, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True, enforce_file_format=False,
    )  # fmt: skip
    return out.getvalue()


def zip_of(change: Callable[[Files], Files]) -> Callable[[Path], Path]:
    """The sound zip with its members changed."""
    return lambda folder: zipped(folder / "x.zip", change(dict(sound_files())))


def with_tags(names: Callable[[], list[str]], change: Callable[[Dataset], object], syntax: str | None = None):
    """The sound zip with the data sets of some members changed."""
    return zip_of(lambda files: files | {n: edited(files[n], change, syntax) for n in names()})


def with_bytes(names: Callable[[], list[str]], change: Callable[[bytes], bytes]):
    return zip_of(lambda files: files | {n: change(files[n]) for n in names()})


def without(names: Callable[[], list[str]]) -> Callable[[Path], Path]:
    def change(files: Files) -> Files:
        gone = set(names())
        return {n: d for n, d in files.items() if n not in gone}

    return zip_of(change)


def and_more(more: Callable[[Files], Files]) -> Callable[[Path], Path]:
    return zip_of(lambda files: files | more(files))


def synthetic(*faults: str) -> Callable[[Path], Path]:
    return lambda folder: zipped(folder / "x.zip", sound_files(*faults))


def copies(
    series: int, change: Callable[[Dataset], object], frames: range = range(1, FRAMES + 1)
) -> Callable[[Files], Files]:
    """Changed copies of a series' files under new names."""
    return lambda files: {f"copy{n}": edited(files[n], change) for n in images(series, frames)}


def sets(**tags: object) -> Callable[[Dataset], object]:
    def change(dataset: Dataset) -> None:
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)

    return change


def both(*changes: Callable[[Dataset], object]) -> Callable[[Dataset], object]:
    return lambda dataset: [change(dataset) for change in changes]


def darker(dataset: Dataset) -> None:
    dataset.PixelData = (dataset.pixel_array // 2).astype("<u2").tobytes()


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


NO_TIMING = frozenset({"no_timing"})
INTERPOLATED = frozenset({"frames_interpolated"})
REPEATED = frozenset({"repeated_slice"})
FAULTS: dict[str, Fault] = {
    "cine": Fault("a sound zip, members shuffled, a manifest whose date holds commas", synthetic()),
    "manifest.csv": Fault("the other spelling of the manifest's name", synthetic("manifest_csv")),
    "no manifest": Fault("images only", without(lambda: [n for n in sound_files() if not n.endswith(".dcm")])),
    "manifest with another content": Fault("a binary file of that name", zip_of(lambda f: f | {"manifest.cvs": bytes(range(256))})),
    "no suffix": Fault("members without `.dcm`", zip_of(lambda f: {n.removesuffix(".dcm"): d for n, d in f.items()})),
    "folders inside": Fault("members in sub-folders", zip_of(lambda f: {f"a/b{i % 3}/{n}": d for i, (n, d) in enumerate(f.items())})),
    "paths that climb": Fault("`../../` in names: nothing is written anywhere", zip_of(lambda f: {f"../../{n}": d for n, d in f.items()})),
    "a folder": Fault("files in folders instead of a zip", in_folder),
    "InlineVF series": Fault("the scanner's result besides", synthetic("inlinevf_series"), flags=frozenset({"inlinevf_series"})),
    "result under a cine's name": Fault(
        "contours drawn (group 6000) in a later repeat of slice 3: the earlier counts",
        drawn_repeat(0x6000, None), flags=REPEATED,
    ),
    **{
        f"result under a cine's name, {name}": Fault(f"the same, {what}", drawn_repeat(group, syntax), flags=REPEATED)
        for name, what, group, syntax in (
            ("implicit VR", "in another transfer syntax", 0x6000, ImplicitVRLittleEndian),
            ("deflated", "in another transfer syntax", 0x6000, DeflatedExplicitVRLittleEndian),
            ("group 601E", "in the last of the overlay groups", 0x601E, None),
        )
    },
    "results only": Fault("contours drawn in every image", with_tags(images, overlaid_in(0x6000)), "no_cine_series"),
    "derived images": Fault(
        "DERIVED images without trigger time", and_more(copies(2, both(darker, sets(ImageType=["DERIVED", "SECONDARY"], SeriesInstanceUID="1.2.9", TriggerTime=""))))
    ),
    "another series besides": Fault(
        "a long-axis series in the zip", and_more(copies(2, both(turned, sets(SeriesInstanceUID="1.2.9", SeriesDescription="CINE_segmented_LAX_2Ch"))))
    ),
    "description in capitals": Fault("`CINE_SEGMENTED_SAX_B1`", with_tags(images, lambda d: setattr(d, "SeriesDescription", d.SeriesDescription.upper()))),
    "unsplit series": Fault("all slices in one series", with_tags(images, sets(SeriesDescription="CINE_segmented_SAX", SeriesInstanceUID="1.2.9"))),
    "numbers reversed": Fault(
        "series and instances counted backwards",
        with_tags(images, lambda d: sets(SeriesNumber=99 - d.SeriesNumber, InstanceNumber=21 - d.InstanceNumber)(d)),
    ),
    "repeat, broken off": Fault("a first attempt at slice 4 with 15 frames", synthetic("duplicate_series"), flags=REPEATED),
    "repeat, complete": Fault(
        "an earlier, darker acquisition of slice 2", and_more(copies(2, both(darker, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="090000")))),
        flags=REPEATED,
    ),
    "repeat, damaged": Fault(
        "a later acquisition of slice 2 whose pixels are cut: the earlier counts",
        and_more(lambda f: {n: d[:-3000] for n, d in copies(2, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000"))(f).items()}),
        flags=REPEATED,
    ),
    "repeat within a series": Fault(
        "instances 21 to 40 are an earlier acquisition's",
        and_more(copies(2, both(darker, repeat_in_series, sets(AcquisitionTime="090000")))), flags=REPEATED,
    ),
    "repeat within a series, broken off": Fault(
        "a later attempt at slice 2 of five frames", and_more(copies(2, counted_on(FRAMES, 0.97), range(1, 6))), flags=REPEATED
    ),
    "repeat within a series, broken off, same rate": Fault(
        "the same, at the same heart rate", and_more(copies(2, counted_on(FRAMES), range(1, 6))), flags=REPEATED
    ),
    "first attempt within a series": Fault(
        "five frames under instances before those of slice 2", and_more(copies(2, counted_on(-10, 0.97, "090000"), range(1, 6))), flags=REPEATED
    ),
    "repeat under the same numbers": Fault(
        "an earlier acquisition of slice 2 in its series", and_more(copies(2, counted_on(0, 0.97, "090000"))), flags=REPEATED
    ),
    "repeat under the same numbers and times": Fault(
        "the same, at the same heart rate", and_more(copies(2, counted_on(0, 1, "090000"))), flags=REPEATED
    ),
    "repeat, more frames": Fault("a later acquisition of slice 2 with 23 frames: the one with the stack's 20 counts", and_more(of_23_frames), flags=REPEATED),
    **{
        f"repeat, {distance} mm away": Fault(
            "an earlier acquisition of slice 3, displaced",
            and_more(copies(3, both(darker, moved(distance), sets(SeriesInstanceUID="1.2.9", AcquisitionTime="090000")))), flags=REPEATED,
        )
        for distance in (1.5, 3)
    },
    "repeat, other pixel spacing": Fault(
        "an earlier acquisition of slice 3 in its series with a field of view half the size",
        and_more(copies(3, both(sets(PixelSpacing=["1.3", "1.3"]), counted_on(FRAMES, 1, "090000")))), flags=REPEATED,
    ),
    "untimed series besides": Fault("60 later frames without trigger time at three slices", and_more(sixty_untimed), flags=REPEATED),
    "a second stack": Fault(
        "a whole stack planned at another angle before",
        and_more(lambda f: {f"c{n}": edited(f[n], both(darker, turned, sets(SeriesInstanceUID=f"1.0.{place(n)[0]}", AcquisitionTime="080000"))) for n in images()}),
        flags=frozenset({"other_orientation"}),
    ),
    "two orientations in a series": Fault("a tilted slice at the same corner as slice 3, in its series", and_more(copies(3, both(darker, turned)))),
    "numbers from mid-cycle": Fault(
        "instance 1 is taken in mid-cycle", with_tags(images, lambda d: setattr(d, "InstanceNumber", (d.InstanceNumber + 9) % FRAMES + 1))
    ),
    "instances from 21": Fault("a repeat's numbers, the first acquisition deleted", synthetic("instance_from_51")),
    "the same file twice": Fault("a frame under two names", and_more(lambda f: {"again.dcm": f[images(2)[3]]})),
    "a frame absent": Fault("19 of 20 frames", synthetic("frame_count"), flags=INTERPOLATED, tolerance=None),
    "the first frame absent": Fault("frame 1 of slice 3", without(lambda: images(3, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "a frame damaged": Fault("the checksum of one frame fails", lambda p: damaged(p, images(3, range(9, 10))), flags=INTERPOLATED, tolerance=None),
    "the first frame damaged": Fault("its checksum fails", lambda p: damaged(p, images(3, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "a frame absent everywhere": Fault("frame 7 of every slice", without(lambda: images(None, range(7, 8))), flags=INTERPOLATED, tolerance=None),
    "the first frame absent everywhere": Fault("frame 1 of every slice", without(lambda: images(None, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "the last frames absent everywhere": Fault(
        "frames 19 and 20 of every slice", without(lambda: images(None, range(19, 21))), flags=INTERPOLATED, tolerance=None
    ),
    "half the cycle absent": Fault("frames 11 to 20 of every slice", without(lambda: images(None, range(11, 21))), "incomplete_cycle"),
    "five frames absent": Fault("15 of 20 frames of one slice: five slices are left", without(lambda: images(3, every(4))), "too_few_slices"),
    "five frames damaged": Fault("their checksums fail", lambda p: damaged(p, images(3, every(4))), "too_few_slices"),
    "a slice absent": Fault("five slices", synthetic("missing_slice"), "too_few_slices"),
    "seven frames": Fault("frames too few for a cine", without(lambda: images(None, range(8, 21))), "no_cine_series"),
    "no trigger times": Fault("frames in the order of their numbers", with_tags(images, sets(TriggerTime=""))),
    "no timing at all": Fault("no trigger time, no RR", with_tags(images, sets(TriggerTime="", NominalInterval="")), flags=NO_TIMING),
    "trigger times all the same": Fault("600 ms: frames in the order of their numbers", with_tags(images, sets(TriggerTime="600"))),
    "trigger times rounded": Fault(
        "to 100 ms, so that pairs of frames share one", with_tags(images, lambda d: setattr(d, "TriggerTime", f"{100 * round(d.TriggerTime / 100)}"))
    ),
    "a trigger time absent": Fault("in frame 5 of every slice", with_tags(lambda: images(None, range(5, 6)), sets(TriggerTime=""))),
    "a trigger time absent, numbers reversed": Fault(
        "instances counted backwards besides",
        with_tags(images, lambda d: sets(InstanceNumber=21 - d.InstanceNumber, TriggerTime="" if d.InstanceNumber == 5 else d.TriggerTime)(d)),
    ),
    "a trigger time absurd": Fault("99,999 ms in frame 5 of slice 3", with_tags(lambda: images(3, range(5, 6)), sets(TriggerTime="99999"))),
    "a trigger time wrong": Fault("700 ms in frame 5 of slice 3", with_tags(lambda: images(3, range(5, 6)), sets(TriggerTime="700"))),
    "another RR interval": Fault("2,000 ms, of which the frames fill half", with_tags(images, sets(NominalInterval="2000")), flags=frozenset({"rr_disagrees"})),
    "late first frame": Fault("12 ms after the R wave: kept as phase, never turned away", with_tags(images, shifted_trigger)),
    "another matrix": Fault("slice 2 has eight rows less", with_tags(lambda: images(2), cut_rows), tolerance=None),
    "a tilted slice": Fault("slice 2 is not parallel", with_tags(lambda: images(2), turned), "too_few_slices"),
    "a slice turned in its plane": Fault("slice 3 by four degrees", with_tags(lambda: images(3), turned_in_plane(4)), "too_few_slices"),
    "mirrored": Fault("columns stored from the other side, as their axes say", with_tags(images, mirrored)),
    "jitter in position": Fault(
        "0.2 mm between frames of a slice",
        with_tags(lambda: images(2, every(3)), lambda d: setattr(d, "ImagePositionPatient", [f"{float(x) + 0.2:.4f}" for x in d.ImagePositionPatient])),
    ),
    "implicit VR": Fault("another transfer syntax", with_tags(images, lambda d: None, ImplicitVRLittleEndian)),
    "big endian": Fault("another transfer syntax", with_tags(lambda: images(2), lambda d: None, ExplicitVRBigEndian)),
    "deflated": Fault("another transfer syntax", with_tags(lambda: images(2), lambda d: None, DeflatedExplicitVRLittleEndian)),
    "compressed": Fault("RLE-compressed pixels", with_tags(lambda: images(2), lambda d: d.compress(RLELossless))),
    "no preamble": Fault("a bare data set", with_bytes(lambda: images(2), no_preamble)),
    "long header": Fault("20 kB of private data before the geometry", with_tags(lambda: images(2), early_private_block)),
    "sequences of undefined length": Fault("nested, before the geometry", with_tags(lambda: images(2), undefined_length)),
    "padding after the pixels": Fault("a trailing element", with_bytes(lambda: images(2), padded_tail)),
    "signed pixels": Fault("PixelRepresentation 1", with_tags(lambda: images(2), signed)),
    "bits above the grey values": Fault("12 bits stored, others in the upper four", with_tags(images, high_bits)),
    "MONOCHROME1": Fault("negatives, which are turned back", with_tags(images, negative), tolerance=1),
    "rescaled pixels": Fault("slope 1, intercept 0 stated", with_tags(images, sets(RescaleSlope="1", RescaleIntercept="0"))),
    "multi-frame, one file": Fault("an enhanced object of all slices", one_enhanced_file),
    "multi-frame, a file per slice": Fault("six enhanced objects", enhanced_per_slice),
    "multi-frame, colours": Fault("three samples per pixel", enhanced_colours, "empty_zip"),
    "position not a number": Fault(
        "`nan` in ImagePositionPatient", with_bytes(lambda: images(2), lambda d: _replace_position(d, b"nan")), "too_few_slices"
    ),
    "position absurd": Fault("10^9 mm", with_tags(lambda: images(2), sets(ImagePositionPatient=["1e9", "0", "0"])), "too_few_slices"),
    "pixel spacing zero": Fault("0 mm", with_tags(images, sets(PixelSpacing=["0", "0"])), "empty_zip"),
    "field of view": Fault("3 m", with_tags(images, sets(PixelSpacing=["30", "30"])), "empty_zip"),
    "oblique axes": Fault("row and column not at right angles", with_tags(images, sets(ImageOrientationPatient=["1", "0", "0", "0.7", "0.7", "0"])), "empty_zip"),
    "matrix absurd": Fault("65,535 rows", with_tags(images, sets(Rows=65535)), "empty_zip"),
    "pixels cut": Fault("the end of every file absent", with_bytes(images, lambda d: d[:-5000]), "truncated"),
    "header cut": Fault("every file ends within its header", with_bytes(images, lambda d: d[:700]), "truncated"),
    "one grey": Fault("every pixel the same", with_tags(images, with_contrast_lost), "no_contrast"),
    "long axis only": Fault("the wrong field's zip", with_tags(images, sets(SeriesDescription="CINE_segmented_LAX_2Ch")), "no_cine_series"),
    "zip, empty file": Fault("no byte", lambda p: _bytes(p, b""), "empty_file"),
    "zip, cut": Fault("a broken download", lambda p: _cut(p, 0.8), "truncated"),
    "zip, its last byte absent": Fault("a broken download", lambda p: _cut(p, 1), "truncated"),
    "zip, no members": Fault("an empty archive", zip_of(lambda f: {}), "empty_zip"),
    "zip, manifest only": Fault("an archive without images", zip_of(lambda f: {n: d for n, d in f.items() if not n.endswith(".dcm")}), "empty_zip"),
    "zip, text inside": Fault("notes named `.dcm`", zip_of(lambda f: {"a.dcm": b"a note", "b.dcm": b""}), "empty_zip"),
    "zip, not a zip": Fault("text under a zip's name", lambda p: _bytes(p, b"see mail of Monday"), "not_a_cine"),
    "zip, encrypted": Fault("members behind a password", encrypted, "unsupported_zip"),
    "zip, bzip2": Fault("members packed by another method", packed(zipfile.ZIP_BZIP2), "unsupported_zip"),
    "zip, LZMA": Fault("members packed by another method", packed(zipfile.ZIP_LZMA), "unsupported_zip"),
    "deflated bomb": Fault("a DICOM file that unpacks to a thousand times its size", deflated_bomb, "truncated"),
    "zip bomb, lying": Fault("members that unpack to more than they say", lying_size, "truncated"),
    "zip bomb, honest": Fault("20 GiB announced", announces(2**30, 20), "too_large"),
    "zip, too many members": Fault("20,001 files", announces(1, 20_001), "too_large"),
    "NIfTI": Fault("a 4D image, axes as the usual converters leave them", nifti(), tolerance=0),
    **{f"NIfTI, {codes}": Fault(f"axes in the order {codes}", nifti(reoriented(codes))) for codes in ("LPS", "LAS", "RAS", "RPS", "SPL", "SRA", "IAL", "PSR")},
    "NIfTI, milliseconds": Fault("frame time 40 ms", nifti(frame_time=40, unit="msec")),
    "NIfTI, no unit": Fault("frame time 0.04, unit not stated", nifti(unit="unknown")),
    "NIfTI, no frame time": Fault("frame time 0", nifti(frame_time=0), flags=NO_TIMING),
    "NIfTI, five axes": Fault("time as the fifth axis, its step not stated", nifti(lambda d, a: (d[:, :, :, None], a)), flags=NO_TIMING),
    "NIfTI, one volume": Fault("three axes", nifti(lambda d, a: (d[..., 0], a)), "not_a_cine"),
    "NIfTI, NaN": Fault("a value that is no number", nifti(with_nan), "bad_values"),
    "NIfTI, sheared": Fault("an affine with oblique axes", nifti(sheared), "bad_geometry"),
    "NIfTI, no size": Fault("an affine of zeros", no_voxel_size, "bad_geometry"),
    "NIfTI, no position": Fault("neither sform nor qform", no_position, "bad_geometry"),
    "NIfTI, field of view": Fault("1.4 m", nifti(lambda d, a: (d, a @ np.diag([5, 5, 1, 1]))), "bad_geometry"),
    "NIfTI, cut": Fault("half a file", nifti(cut=0.5), "truncated"),
    "NIfTI, no image": Fault("text under its name", lambda p: _bytes(p, b"see mail of Monday, all of it", "x.nii"), "bad_header"),
    "NIfTI, absurd size": Fault("10^13 values announced", huge, "too_large"),
}  # fmt: skip


def _bytes(folder: Path, data: bytes, name: str = "x.zip") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


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
