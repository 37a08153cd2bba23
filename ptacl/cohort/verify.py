"""Whether anybody who has withdrawn is still named below a results folder."""

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ptacl.cohort.text import normal_ids
from ptacl.errors import ArtifactError

RAW = "synthetic"  # raw input that happens to lie among the results
TEXT_SUFFIXES = (".csv", ".json", ".html", ".log", ".tsv", ".yaml")
ID_COLUMNS = ("subject_id", "eid")
_PIECE = re.compile(rb"[A-Za-z0-9]+")


def verify_withdrawals(results: Path, withdrawn: set[str]) -> list[tuple[str, int]]:
    """(path relative to `results`, number of withdrawn ids in it) for every file that names one; empty when clean.

    Looked at: the id columns of every Parquet table, row group by row group; every text file; every file name, in which
    ids are written `<id>` here. The raw input below `results/synthetic` is left out. Raises ArtifactError for a table
    that can't be read: nobody can say who is in it.
    """
    if not withdrawn:
        return []
    finder = TokenFinder(withdrawn)
    values = pa.array(sorted(withdrawn), pa.string())
    found = []
    for path in _files(results):
        name = path.relative_to(results).as_posix()
        ids = finder.ids(name.encode())
        shown = finder.masked(name) if ids else name
        if path.suffix == ".parquet":
            ids |= _in_table(path, shown, values)
        elif path.suffix in TEXT_SUFFIXES and path.stat().st_size:
            with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
                ids |= finder.ids(data)
        if ids:
            found.append((shown, len(ids)))
    return sorted(found)


class TokenFinder:
    """Finds ids that stand alone in text: no letter or digit beside them, and no part of a decimal number."""

    def __init__(self, ids: set[str]) -> None:
        self._ids = {i.encode() for i in ids}
        # Most ids are numbers: one pass of a regular expression. Others may have several pieces (`P1-b`).
        lengths = sorted({len(i) for i in self._ids if i.isdigit()})
        counts = "|".join(rf"\d{{{n}}}" for n in lengths)
        # 9000001.0 is an id that was once a float; 9000001.5 and 0.9000001 are not ids.
        pattern = rf"(?<![A-Za-z0-9])(?<!\d\.)(?:{counts})(?![A-Za-z0-9])(?!\.(?!0+(?!\d))\d)"
        self._number = re.compile(pattern.encode()) if lengths else None
        self._others = {i for i in self._ids if not i.isdigit()}
        self._pieces = max((len(_PIECE.findall(i)) for i in self._others), default=0)

    def ids(self, data: bytes | mmap.mmap) -> set[bytes]:
        """The ids in `data`."""
        found = set(self._number.findall(data)) & self._ids if self._number else set()
        starts: list[int] = []  # where the last pieces began
        for m in _PIECE.finditer(data) if self._others else ():
            starts = [*starts, m.start()][-self._pieces :]
            found |= {data[start : m.end()] for start in starts} & self._others
        return found

    def masked(self, name: str) -> str:
        """A file name with its ids replaced."""
        for i in sorted(self._ids, key=len, reverse=True):
            name = name.replace(i.decode(), "<id>")
        return name


def _files(results: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(results):
        if Path(folder) == results and RAW in folders:
            folders.remove(RAW)
        folders.sort()
        yield from (p for n in sorted(names) if (p := Path(folder) / n).is_file())


def _in_table(path: Path, shown: str, withdrawn: pa.Array) -> set[bytes]:
    try:
        with pq.ParquetFile(path) as table:
            columns = [c for c in table.schema_arrow.names if c in ID_COLUMNS]
            found: set[bytes] = set()
            for group in range(table.num_row_groups if columns else 0):
                part = table.read_row_group(group, columns=columns)
                for column in part.columns:
                    ids = normal_ids(column)
                    hits = pc.filter(ids, pc.is_in(ids, value_set=withdrawn)).unique()
                    found |= {i.encode() for i in hits.to_pylist()}
            return found
    except (pa.ArrowException, OSError) as e:
        raise ArtifactError(f"{shown}: can't be searched for withdrawn people ({type(e).__name__})") from None
