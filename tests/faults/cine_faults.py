"""Short-axis cines, as zips, folders and NIfTI, in every way they go wrong. One small synthetic heart throughout."""

import functools
import io
import struct
import tempfile
import zipfile
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


def overlaid(dataset: Dataset) -> None:
    dataset.add_new((0x6000, 0x0010), "US", dataset.Rows)
    dataset.add_new((0x6000, 0x0011), "US", dataset.Columns)
    dataset.add_new((0x6000, 0x3000), "OW", bytes(dataset.Rows * dataset.Columns // 8))


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


def huge(folder: Path) -> Path:
    """A header that announces 10^13 values."""
    path = nifti(name="x.nii")(folder)
    data = bytearray(path.read_bytes())
    struct.pack_into("<5h", data, 40, 4, 30000, 30000, 1000, 20)
    path.write_bytes(data)
    return path


NO_TIMING = frozenset({"no_timing"})
INTERPOLATED = frozenset({"frames_interpolated"})
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
        and_more(copies(3, both(overlaid, darker, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000")))), flags=frozenset({"repeated_slice"}),
    ),
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
    "repeat, broken off": Fault("a first attempt at slice 4 with 15 frames", synthetic("duplicate_series"), flags=frozenset({"repeated_slice"})),
    "repeat, complete": Fault(
        "an earlier, darker acquisition of slice 2", and_more(copies(2, both(darker, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="090000")))),
        flags=frozenset({"repeated_slice"}),
    ),
    "repeat, damaged": Fault(
        "a later acquisition of slice 2 whose pixels are cut: the earlier counts",
        and_more(lambda f: {n: d[:-3000] for n, d in copies(2, sets(SeriesInstanceUID="1.2.9", AcquisitionTime="120000"))(f).items()}),
        flags=frozenset({"repeated_slice"}),
    ),
    "repeat within a series": Fault(
        "instances 21 to 40 are an earlier acquisition's",
        and_more(copies(2, both(darker, repeat_in_series, sets(AcquisitionTime="090000")))), flags=frozenset({"repeated_slice"}),
    ),
    "instances from 21": Fault("a repeat's numbers, the first acquisition deleted", synthetic("instance_from_51")),
    "the same file twice": Fault("a frame under two names", and_more(lambda f: {"again.dcm": f[images(2)[3]]})),
    "a frame absent": Fault("19 of 20 frames", synthetic("frame_count"), flags=INTERPOLATED, tolerance=None),
    "the first frame absent": Fault("frame 1 of slice 3", without(lambda: images(3, range(1, 2))), flags=INTERPOLATED, tolerance=None),
    "a frame damaged": Fault("the checksum of one frame fails", lambda p: damaged(p, images(3, range(9, 10))), flags=INTERPOLATED, tolerance=None),
    "five frames absent": Fault("15 of 20 frames of one slice: five slices are left", without(lambda: images(3, every(4))), "too_few_slices"),
    "five frames damaged": Fault("their checksums fail", lambda p: damaged(p, images(3, every(4))), "too_few_slices"),
    "a slice absent": Fault("five slices", synthetic("missing_slice"), "too_few_slices"),
    "seven frames": Fault("frames too few for a cine", without(lambda: images(None, range(8, 21))), "no_cine_series"),
    "no trigger times": Fault("frames in the order of their numbers", with_tags(images, sets(TriggerTime=""))),
    "no timing at all": Fault("no trigger time, no RR", with_tags(images, sets(TriggerTime="", NominalInterval="")), flags=NO_TIMING),
    "late first frame": Fault("12 ms after the R wave: kept as phase, never turned away", with_tags(images, shifted_trigger)),
    "another matrix": Fault("slice 2 has eight rows less", with_tags(lambda: images(2), cut_rows), tolerance=None),
    "a tilted slice": Fault("slice 2 is not parallel", with_tags(lambda: images(2), turned), "too_few_slices"),
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
    "rescaled pixels": Fault("slope 1, intercept 0 stated", with_tags(images, sets(RescaleSlope="1", RescaleIntercept="0"))),
    "multi-frame, one file": Fault("an enhanced object of all slices", one_enhanced_file),
    "multi-frame, a file per slice": Fault("six enhanced objects", enhanced_per_slice),
    "position not a number": Fault(
        "`nan` in ImagePositionPatient", with_bytes(lambda: images(2), lambda d: _replace_position(d, b"nan")), "too_few_slices"
    ),
    "position absurd": Fault("10^9 mm", with_tags(lambda: images(2), sets(ImagePositionPatient=["1e9", "0", "0"])), "too_few_slices"),
    "pixel spacing zero": Fault("0 mm", with_tags(images, sets(PixelSpacing=["0", "0"])), "empty_zip"),
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
    "zip, encrypted": Fault("members behind a password", encrypted, "truncated"),
    "zip bomb, lying": Fault("members that unpack to more than they say", lying_size, "truncated"),
    "zip bomb, honest": Fault("20 GiB announced", announces(2**30, 20), "too_large"),
    "zip, too many members": Fault("20,001 files", announces(1, 20_001), "too_large"),
    "NIfTI": Fault("a 4D image, axes as the usual converters leave them", nifti(), tolerance=0),
    **{f"NIfTI, {codes}": Fault(f"axes in the order {codes}", nifti(reoriented(codes))) for codes in ("LPS", "RAS", "SRA", "IAL", "PSR")},
    "NIfTI, milliseconds": Fault("frame time 40 ms", nifti(frame_time=40, unit="msec")),
    "NIfTI, no unit": Fault("frame time 0.04, unit not stated", nifti(unit="unknown")),
    "NIfTI, no frame time": Fault("frame time 0", nifti(frame_time=0), flags=NO_TIMING),
    "NIfTI, five axes": Fault("time as the fifth axis, its step not stated", nifti(lambda d, a: (d[:, :, :, None], a)), flags=NO_TIMING),
    "NIfTI, one volume": Fault("three axes", nifti(lambda d, a: (d[..., 0], a)), "not_a_cine"),
    "NIfTI, NaN": Fault("a value that is no number", nifti(with_nan), "bad_values"),
    "NIfTI, sheared": Fault("an affine with oblique axes", nifti(sheared), "bad_geometry"),
    "NIfTI, no size": Fault("an affine of zeros", no_voxel_size, "bad_geometry"),
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
