"""Tables of the stages as rows."""

from pathlib import Path
from typing import Any

from ptacl.artifacts import read_table
from ptacl.store.schema import VERSION

Row = dict[str, Any]


def read_rows(path: Path, kind: str, version: int | None = None) -> list[Row]:
    """Every row of a table; version: the one that the store knows of the kind. Raises ArtifactError."""
    rows: list[Row] = read_table(path, kind=kind, version=VERSION[kind] if version is None else version).to_pylist()
    return rows
