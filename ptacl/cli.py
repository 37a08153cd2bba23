"""The `ptacl` command."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptacl import __version__
from ptacl.errors import RecordError, UnreadableCine, UnreadableEcg

USABLE, UNREADABLE, UNUSABLE = 0, 2, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ptacl", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ptacl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser(
        "inspect",
        help="what the readers understand of one file",
        description="Prints what the readers understand of one ECG or cine. Exit code 0: usable; 3: read, but not"
        " usable in a study; 2: unreadable.",
    )
    inspect.add_argument("file", type=Path, help="ECG: .xml, .hea; cine: .zip, folder, .nii, .nii.gz")
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    return _inspect(arguments.file, arguments.json)


def _inspect(path: Path, as_json: bool) -> int:
    try:
        found = _describe(path)
    except RecordError as e:
        print(f"ptacl inspect: {e}", file=sys.stderr)
        return UNREADABLE
    print(json.dumps(found) if as_json else _as_text(found))
    return USABLE if found["usable"] else UNUSABLE


def _describe(path: Path) -> dict[str, Any]:
    """What the ECG or the cine readers say: the cine's for folders and image files, else the ECG's."""
    from ptacl.cmr.inspect import describe as describe_cine
    from ptacl.ecg.inspect import describe as describe_ecg

    name = path.name.lower()
    if path.is_dir() or name.endswith((".zip", ".nii", ".nii.gz", ".dcm")):
        return describe_cine(path)
    try:
        return describe_ecg(path)
    except UnreadableEcg as not_an_ecg:
        # A file of an unknown kind may still be a cine; the first reason says more where it is none.
        try:
            return describe_cine(path)
        except UnreadableCine:
            raise not_an_ecg from None


def _as_text(found: dict[str, Any]) -> str:
    width = max(map(len, found))
    return "\n".join(f"{key:<{width}}  {_plain(value)}" for key, value in found.items())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return "".join(f"\n    {i:>3}: {_plain(row)}" for i, row in enumerate(value))
        return " ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
