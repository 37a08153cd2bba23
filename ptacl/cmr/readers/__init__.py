"""Cine files to `Cine`: one file per format, chosen by suffix and content."""

from pathlib import Path

from ptacl.cmr.readers.dicom import read_dicom
from ptacl.cmr.readers.nifti import read_nifti
from ptacl.cmr.record import Cine
from ptacl.errors import UnreadableCine


def read_cine(path: str | Path, source: str = "table", frame_ms: float | None = None) -> Cine:
    """Reads one short-axis cine: a zip or a folder of DICOM files, one multi-frame DICOM file, or a 4D NIfTI.

    With `source` "ukb" only series named CINE_segmented_SAX count; elsewhere descriptions are free. `frame_ms` is the time
    between frames of a NIfTI that does not say it. Pixels are decoded when asked for (`Cine.decoded`). Raises UnreadableCine
    with a reason code; no other exception leaves this function for any content of the file.
    """
    try:
        return _read(Path(path), source, frame_ms)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UnreadableCine("missing_file", type(e).__name__) from None
    except OSError as e:
        raise UnreadableCine("unreadable", type(e).__name__) from None


def _read(path: Path, source: str, frame_ms: float | None) -> Cine:
    if path.is_dir():
        return read_dicom(path, source)
    if not path.is_file():
        raise UnreadableCine("missing_file", "no such file or folder")
    with path.open("rb") as f:
        head = f.read(132)
    if not head:
        raise UnreadableCine("empty_file")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return read_nifti(path, frame_ms)
    if head[:2] == b"PK" or head[128:132] == b"DICM":
        return read_dicom(path, source)
    raise UnreadableCine("not_a_cine", "neither a zip or folder of DICOM files nor a NIfTI")
