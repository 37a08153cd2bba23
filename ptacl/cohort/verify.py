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
from ptacl.logs import mask_ids

RAW = "synthetic"  # raw input that happens to lie among the results
ID_COLUMNS = ("subject_id", "eid")
TENSORS = ".safetensors"
_PIECE = re.compile(rb"[A-Za-z0-9]+")


def verify_withdrawals(results: Path, withdrawn: set[str]) -> list[tuple[str, int]]:
    """(path relative to `results`, number of withdrawn ids in it) for every file that names one; empty when clean.

    Looked at: every Parquet table, row group by row group, ids in the id columns and in any other text; every other file
    as it is, of tensors the header; every file name. Names of files are shown with ids masked. Links are followed. The raw
    input below `results/synthetic` is left out. Raises ArtifactError for what can't be read: nobody can say who is in it.
    """
    if not withdrawn:
        return []
    finder = TokenFinder(withdrawn)
    values = pa.array(sorted(withdrawn), pa.string())
    found = []
    for path in _files(results):
        name = path.relative_to(results).as_posix()
        ids = finder.ids(os.fsencode(name))
        shown = mask_ids(finder.masked(name) if ids else name)
        try:
            ids |= _in_table(path, finder, values) if path.suffix.lower() == ".parquet" else _in_bytes(path, finder)
        except (pa.ArrowException, OSError) as e:
            raise ArtifactError(f"{shown}: can't be searched for withdrawn people ({type(e).__name__})") from None
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
    seen = {os.path.realpath(results)}
    for folder, folders, names in os.walk(results, followlinks=True, onerror=_refuse):
        if Path(folder) == results and RAW in folders:
            folders.remove(RAW)
        # A link may lead back up.
        folders[:] = sorted(d for d in folders if os.path.realpath(os.path.join(folder, d)) not in seen)
        seen |= {os.path.realpath(os.path.join(folder, d)) for d in folders}
        yield from (p for n in sorted(names) if (p := Path(folder) / n).is_file())


def _refuse(error: OSError) -> None:
    raise ArtifactError(f"a folder can't be searched for withdrawn people ({type(error).__name__})")


def _in_bytes(path: Path, finder: TokenFinder) -> set[bytes]:
    with path.open("rb") as f:
        if path.suffix == TENSORS:
            return finder.ids(f.read(min(int.from_bytes(f.read(8), "little"), 2**27)))
        if not path.stat().st_size:
            return set()
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return finder.ids(data)


def _in_table(path: Path, finder: TokenFinder, withdrawn: pa.Array) -> set[bytes]:
    found: set[bytes] = set()
    with pq.ParquetFile(path) as table:
        for key, value in (table.schema_arrow.metadata or {}).items():
            found |= finder.ids(key + b" " + value)
        columns = [f.name for f in table.schema_arrow if f.name in ID_COLUMNS or _is_text(f.type)]
        for group in range(table.num_row_groups if columns else 0):
            part = table.read_row_group(group, columns=columns)
            for name, column in zip(part.column_names, part.columns, strict=True):
                if name in ID_COLUMNS:
                    ids = normal_ids(column).unique()
                    found |= {i.encode() for i in pc.filter(ids, pc.is_in(ids, value_set=withdrawn)).to_pylist()}
                else:
                    texts = pc.list_flatten(column) if pa.types.is_list(column.type) else column
                    texts = texts.cast(pa.large_string()).drop_null().unique()
                    found |= finder.ids("\n".join(texts.to_pylist()).encode())
    return found


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_list(kind) or pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
