"""A sound cine as files, and ways to change them."""

import functools
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from ptacl.cmr import Cine, read_cine
from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject

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


def _bytes(folder: Path, data: bytes, name: str = "x.zip") -> Path:
    (folder / name).write_bytes(data)
    return folder / name
