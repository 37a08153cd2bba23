"""Withdrawal lists: the union of all files given, or a loud stop."""

import glob
import re
from pathlib import Path

from ptacl.errors import ConfigError

_HEADERS = {"eid", "subject_id", "participant id", "id"}


def read_withdrawals(patterns: list[str] | str | None) -> set[str]:
    """The ids of all files that match the patterns, as text.

    `none`, null or an empty list: nobody has withdrawn. A pattern that matches no file, and a line that is not an id,
    stop the study (ConfigError), since a filter that silently removes nobody is worse than none.
    """
    if patterns in (None, "none", []):
        return set()
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        files = sorted(glob.glob(pattern))
        if not files:
            raise ConfigError(f"cohort.withdrawals: {pattern!r} matches no file; say none if nobody has withdrawn")
        for file in files:
            found |= parse_withdrawals(Path(file).read_bytes())
    return found


def parse_withdrawals(data: bytes) -> set[str]:
    """The ids of one list: one per line, with or without header, quotes, CRLF or byte-order mark."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("cohort.withdrawals: a list is not text in UTF-8") from None
    ids: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        cell = line.strip().rstrip(",").strip().strip('"').strip()
        if not cell or (number == 1 and cell.lower() in _HEADERS):
            continue
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", cell):
            raise ConfigError(f"cohort.withdrawals: line {number} of a list is not an id")
        ids.add(cell)
    return ids
