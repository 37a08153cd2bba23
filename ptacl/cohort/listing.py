"""A digest of the raw inputs, so that the workflow notices a new, replaced or removed file."""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptacl.cohort.sources import walk


def listing_digest(settings: Mapping[str, Any]) -> str:
    """16 hex digits over names, sizes and (by `fingerprint`) times of everything the cohort stage looks at.

    Scanned once per process and settings; a missing folder or table counts as empty, the stage itself will say so.
    """
    return _digest(json.dumps(settings, sort_keys=True))


@functools.lru_cache(maxsize=4)
def _digest(settings_json: str) -> str:
    settings = json.loads(settings_json)
    root, times = Path(settings["root"]), settings["fingerprint"] == "size_mtime"
    withdrawals = settings["withdrawals"] or []
    patterns = [withdrawals] if isinstance(withdrawals, str) else withdrawals
    tables = [Path(t) for t in [settings["table"], *settings["extra_tables"]] if t]
    tables += [p for pattern in patterns if pattern != "none" for p in sorted(Path().glob(pattern.lstrip("/")))]
    h = hashlib.sha256()
    for entry in walk(root) if root.is_dir() else ():
        stat = entry.stat()
        h.update(f"{entry.path}:{stat.st_size}:{stat.st_mtime_ns if times else 0}\n".encode())
    for table in tables:
        h.update(table.name.encode() + (table.read_bytes() if table.is_file() else b""))
    return h.hexdigest()[:16]
