"""Cine files to `Cine`: one file per format, chosen by suffix and content."""

from pathlib import Path

from ptacl.cmr.readers.dicom import read_dicom
from ptacl.cmr.readers.nifti import read_nifti
from ptacl.cmr.record import Cine
from ptacl.errors import UnreadableCine


def read_cine(path: str | Path, source: str = "table") -> Cine:
    """Reads one short-axis cine: a zip or a folder of DICOM files, or a 4D NIfTI.

    With `source` "ukb" only series named CINE_segmented_SAX count; elsewhere descriptions are free. Raises UnreadableCine
    with a reason code; no other exception leaves this function for any content of the file.
    """
    path = Path(path)
    if path.is_dir():
        return read_dicom(path, source)
    if not path.is_file():
        raise UnreadableCine("missing_file", "no such file or folder")
    with path.open("rb") as f:
        head = f.read(4)
    if not head:
        raise UnreadableCine("empty_file")
    if path.name.lower().endswith((".nii", ".nii.gz")):
        return read_nifti(path)
    if head[:2] == b"PK":
        return read_dicom(path, source)
    raise UnreadableCine("not_a_cine", "neither a zip or folder of DICOM files nor a NIfTI")
