"""A digest of the raw inputs, so that the workflow notices a new, replaced or removed file."""

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ptacl.cohort.files import facts
from ptacl.cohort.identity import relative_paths
from ptacl.cohort.sources import recordings, table_rows
from ptacl.cohort.withdrawals import withdrawal_files, withdrawal_patterns
from ptacl.errors import ConfigError

# Larger tables (the main UK Biobank table has tens of gigabytes) are known by size, time and both ends.
_WHOLE_BYTES, _END_BYTES = 64 * 2**20, 2**20


def listing_digest(settings: Mapping[str, Any]) -> str:
    """16 hex digits over names, sizes and (by `fingerprint`) times of everything the cohort stage looks at.

    Scanned once per process and settings; a missing folder or table counts as empty, the stage itself will say so.
    Raises ConfigError where withdrawal lists are missing, before anything runs.
    """
    return _digest(json.dumps(settings, sort_keys=True))


@functools.lru_cache(maxsize=4)
def _digest(settings_json: str) -> str:
    settings = json.loads(settings_json)
    root, times = Path(settings["root"]), settings["fingerprint"] == "size_mtime"
    tables = [t for t in [settings["table"], *settings["extra_tables"]] if t]
    tables += map(str, withdrawal_files(withdrawal_patterns(settings["withdrawals"], settings["source"])))
    h = hashlib.sha256()
    for path, size, mtime_ns in _recordings(settings, root):
        h.update(path + f":{size}:{mtime_ns if times else 0}\n".encode())
    for table in tables:
        h.update(os.fsencode(os.path.basename(table)) + _content(table, times))
    return h.hexdigest()[:16]


def _recordings(settings: Mapping[str, Any], root: Path) -> Iterator[tuple[bytes, int, int]]:
    """Path, size and time of each recording; nothing else below the root matters, which may hold the results too."""
    if settings["source"] == "ukb":
        if all(os.path.isdir(root / f) for f in ["", *settings["folders"]]):
            for entry in recordings(root, settings["folders"]):
                stat = entry.stat()
                yield os.fsencode(entry.path), stat.st_size, stat.st_mtime_ns
        return
    try:
        rows, _ = table_rows(Path(settings["table"]))
    except ConfigError:  # the stage itself says what is wrong
        return
    files = facts(relative_paths(rows, os.fspath(root)), root, {})
    for path, size, mtime_ns in zip(files.paths.to_pylist(), files.size.tolist(), files.mtime_ns.tolist(), strict=True):
        yield os.fsencode(path), size, mtime_ns


def _content(path: str, times: bool) -> bytes:
    try:
        with open(path, "rb") as f:
            stat = os.fstat(f.fileno())
            if stat.st_size <= _WHOLE_BYTES:
                return f.read()
            start = f.read(_END_BYTES)
            f.seek(-_END_BYTES, os.SEEK_END)
            return f"{stat.st_size}:{stat.st_mtime_ns if times else 0}".encode() + start + f.read()
    except OSError:  # absent or unreadable: the stage itself says so
        return b""
