"""ECG files to `EcgRecord`: one file per format, chosen by suffix and content."""

from collections.abc import Callable
from pathlib import Path

from lxml import etree

from ptacl.ecg.readers.cardiosoft import read_cardiosoft
from ptacl.ecg.readers.dicom import is_dicom, read_dicom_ecg
from ptacl.ecg.readers.muse import read_muse
from ptacl.ecg.readers.wfdb import SIGNAL_SUFFIXES, read_wfdb
from ptacl.ecg.readers.xml import parse_xml
from ptacl.ecg.record import EcgRecord
from ptacl.errors import UnreadableEcg

_BY_ROOT: dict[str, Callable[[etree._Element], EcgRecord]] = {
    "CardiologyXML": read_cardiosoft,
    "RestingECG": read_muse,
}


def read_ecg(path: str | Path) -> EcgRecord:
    """Reads one recording: CardioSoft or MUSE XML, a DICOM waveform, or WFDB by its header, signal file or bare name.

    Raises UnreadableEcg with a reason code; no other exception leaves this function for any content of the file.
    """
    path = Path(path)
    try:
        return _read(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as e:
        raise UnreadableEcg("missing_file", type(e).__name__) from None
    except OSError as e:
        raise UnreadableEcg("unreadable", type(e).__name__) from None


def _read(path: Path) -> EcgRecord:
    if path.suffix.lower() == ".hea":
        return read_wfdb(path)
    if path.suffix.lower() in SIGNAL_SUFFIXES:
        return read_wfdb(path.with_suffix(".hea"))
    header = path.parent / f"{path.name}.hea"  # a record's name may hold full stops
    if header.is_file():
        return read_wfdb(header)
    if not path.is_file():
        raise UnreadableEcg("missing_file", "no such file")
    with path.open("rb") as f:
        head = f.read(512)
    if not head:
        raise UnreadableEcg("empty_file")
    if is_dicom(head):
        return read_dicom_ecg(path)
    if path.suffix.lower() == ".xml" or _looks_like_xml(head):
        root = parse_xml(path)
        if not isinstance(root.tag, str) or root.tag not in _BY_ROOT:
            raise UnreadableEcg("not_an_ecg", "the root element is neither CardiologyXML nor RestingECG")
        return _BY_ROOT[root.tag](root)
    raise UnreadableEcg("not_an_ecg", "neither XML, DICOM nor a WFDB record")


def _looks_like_xml(head: bytes) -> bool:
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") or head[:4] in (b"\xff\xfe<\0", b"\xfe\xff\0<")
