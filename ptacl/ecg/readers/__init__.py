"""ECG files to `EcgRecord`: one file per format, chosen by suffix and content."""

from pathlib import Path

from ptacl.ecg.readers.cardiosoft import read_cardiosoft
from ptacl.ecg.readers.wfdb import SIGNAL_SUFFIXES, read_wfdb
from ptacl.ecg.record import EcgRecord
from ptacl.errors import UnreadableEcg


def read_ecg(path: str | Path) -> EcgRecord:
    """Reads one recording: CardioSoft XML (`.xml`), or WFDB by its header, its signal file or neither's suffix.

    Raises UnreadableEcg with a reason code; no other exception leaves this function for any content of the file.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".xml":
            return read_cardiosoft(path)
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
    except OSError as e:
        raise UnreadableEcg("missing_file", type(e).__name__) from None
    if not head:
        raise UnreadableEcg("empty_file")
    if head.lstrip().startswith(b"<"):
        return read_cardiosoft(path)
    raise UnreadableEcg("not_an_ecg", "neither XML nor a WFDB record")
