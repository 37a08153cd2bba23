"""Withdrawal lists: the union of all files given, or a loud stop."""

import glob
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ptacl.cohort.identity import VALID_ID
from ptacl.cohort.text import normal_id
from ptacl.errors import ConfigError, PtaclError
from ptacl.logs import mask_ids

# What a column of ids may be called, in any case.
ID_NAMES = frozenset({"eid", "f.eid", "n_eid", "participant.eid", "subject_id", "participant id", "id"})
# People of genetic files who have withdrawn already: no such id can be an eid.
_NEVER_AN_EID = re.compile(r"-[0-9]{1,9}|W[0-9]{1,9}", re.IGNORECASE)
_NEVER_AN_ID = re.compile(r"-[0-9]{1,9}")


def withdrawal_patterns(given: list[str] | str | None, source: str) -> list[str]:
    """The patterns of `cohort.withdrawals`; none for `none`.

    With the source `ukb`, saying nothing is an error (ConfigError): who forgets the lists must not use withdrawn people.
    """
    if source == "ukb" and given in (None, [], ""):
        raise ConfigError(
            "cohort.withdrawals: missing; give the lists (such as [lists/w*.csv]), or write `none` if nobody has withdrawn"
        )
    if given in (None, [], "", "none"):
        return []
    return [given] if isinstance(given, str) else list(given or [])


def withdrawal_files(patterns: list[str]) -> list[Path]:
    """The files that match, each once. ConfigError for a pattern without a match, or with a folder that can't be listed."""
    found: set[str] = set()
    for pattern in patterns:
        _check_folders(pattern)
        files = glob.glob(pattern, recursive=True)
        if not files:
            raise ConfigError(
                f"cohort.withdrawals: {mask_ids(pattern)!r} matches no file; write `none` if nobody has withdrawn"
            )
        found.update(files)
    return [Path(f) for f in sorted(found)]


def _check_folders(pattern: str) -> None:
    """`glob` passes over folders that can't be listed, and with them over their lists."""
    folder = os.path.dirname(pattern)
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)
    nested = glob.has_magic(os.path.dirname(pattern))
    shown = mask_ids(folder or ".")

    def refuse(error: OSError) -> None:
        raise ConfigError(
            f"cohort.withdrawals: {shown}, or a folder below it, can't be listed ({type(error).__name__})"
        ) from None

    for _, folders, _ in os.walk(folder or ".", onerror=refuse):
        if not nested:
            folders.clear()


def read_withdrawals(given: list[str] | str | None, source: str) -> set[str]:
    """The ids of all files that match the patterns, each as `normal_id`.

    A pattern that matches no file, and a line that is not an id, stop the study (ConfigError), since a filter that
    silently removes nobody is worse than none.
    """
    found: set[str] = set()
    for file in withdrawal_files(withdrawal_patterns(given, source)):
        try:
            found |= parse_withdrawals(file.read_bytes(), source)
        except OSError as e:
            raise ConfigError(f"cohort.withdrawals: a list can't be read ({type(e).__name__})") from None
    return found


def parse_withdrawals(data: bytes, source: str) -> set[str]:
    """The ids of one list: one per line, with or without header, quotes, CRLF or byte-order mark; may be empty.

    In `ukb` an id is digits; negative and W ids, which can't be an eid, are passed over. Raises ConfigError.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("cohort.withdrawals: a list is not text in UTF-8") from None
    form, never = (r"^[0-9]{1,9}$", _NEVER_AN_EID) if source == "ukb" else (VALID_ID, _NEVER_AN_ID)
    ids: set[str] = set()
    may_be_header = True
    for number, line in enumerate(text.splitlines(), 1):
        cell = normal_id(line.strip().rstrip(","))
        if not cell:
            continue
        is_header, may_be_header = may_be_header and cell.lower() in ID_NAMES, False
        if is_header or never.fullmatch(cell):
            continue
        if not re.match(form, cell):
            raise ConfigError(f"cohort.withdrawals: line {number} of a list is not an id; one id per line")
        ids.add(cell)
    return ids


def on_lists(ids: pa.Array | pa.ChunkedArray, withdrawn: set[str]) -> pa.Array | pa.ChunkedArray:
    """Whether each id (as `normal_ids`) is on the lists, bool [n]. Zeros in front, which spreadsheets drop, don't count."""
    listed = pa.array(sorted(withdrawn), pa.string())
    return pc.is_in(_without_zeros(ids), value_set=_without_zeros(listed))


def _without_zeros(ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.replace_substring_regex(ids, pattern=r"^0+([0-9]+)$", replacement=r"\1")


def refuse_withdrawn(table: Path, cohort: Mapping[str, Any]) -> None:
    """Stops before anything is written about somebody who has withdrawn since `table` (with subject_id) was made.

    `cohort` is the config's section. The cohort stage leaves out who has withdrawn; this is the second look, for a stage
    that is run by itself, or that a new list overtakes. Raises PtaclError, ConfigError.
    """
    withdrawn = read_withdrawals(cohort["withdrawals"], cohort["source"])
    ids = pq.read_table(table, columns=["subject_id"], partitioning=None)["subject_id"]
    gone = pc.sum(on_lists(ids.unique(), withdrawn)).as_py()
    if gone:
        raise PtaclError(
            f"{gone} of the participants in {table.name} have withdrawn since it was made; start the workflow again, so that"
            " it begins with the cohort"
        )
