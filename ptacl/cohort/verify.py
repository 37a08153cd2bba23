"""Whether anybody who has withdrawn is still named below a results folder."""

import gzip
import mmap
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ptacl.cohort.text import normal_ids
from ptacl.cohort.withdrawals import ID_NAMES, on_lists
from ptacl.errors import ArtifactError
from ptacl.logs import mask_ids

TENSORS = ".safetensors"
# pandas keeps an index under such names.
_INDEX = re.compile(r"__index_level_\d+__")
_PIECE = re.compile(rb"[A-Za-z0-9]+")


def verify_withdrawals(results: Path, withdrawn: set[str], skip: str | None = None) -> list[tuple[str, int]]:
    """(path relative to `results`, number of withdrawn ids in it) for every file that names one; empty when clean.

    Looked at: every Parquet table, row group by row group, for ids in columns of ids and in any text, nested or not; every
    other file as it is, also packed by gzip or zip, of tensors the header; every name of a file or folder, shown with ids
    masked. Links are followed. The folder `skip` in `results` is left out: raw input that lies there. Other binary formats
    show only what they hold as text. Raises ArtifactError for what can't be read: nobody can say who is in it.
    """
    if not withdrawn:
        return []
    finder = TokenFinder(withdrawn)
    found = []
    for path in _paths(results, skip):
        name = path.relative_to(results).as_posix()
        ids = finder.ids(os.fsencode(name))
        shown = mask_ids(finder.masked(name) if ids else name)
        try:
            if path.suffix.lower() == ".parquet":
                ids |= _in_table(path, finder, withdrawn)
            elif path.is_file():
                ids |= _in_bytes(path, finder)
        except (pa.ArrowException, OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as e:
            raise ArtifactError(f"{shown}: can't be searched for withdrawn people ({type(e).__name__})") from None
        if ids:
            found.append((shown, len(ids)))
    return sorted(found)


class TokenFinder:
    """Finds ids that stand alone in text: no letter or digit beside them, and no part of a decimal number."""

    def __init__(self, ids: set[str]) -> None:
        # Zeros in front, which spreadsheets drop, don't count.
        self._ids = {(i.lstrip("0") or "0" if i.isdigit() else i).encode() for i in ids}
        # Most ids are numbers: one pass of a regular expression. Others may have several pieces (`P1-b`).
        lengths = sorted({len(i) for i in self._ids if i.isdigit()})
        counts = "|".join(rf"\d{{{n}}}" for n in lengths)
        # 9000001.0 is an id that was once a float; 9000001.5 and 0.9000001 are not ids.
        pattern = rf"(?<![A-Za-z0-9])(?<!\d\.)0*({counts})(?![A-Za-z0-9])(?!\.(?!0+(?!\d))\d)"
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


def _paths(results: Path, skip: str | None) -> Iterator[Path]:
    """Every file below `results`, and every folder without any."""
    seen = {os.path.realpath(results)}
    for folder, folders, names in os.walk(results, followlinks=True, onerror=_refuse):
        if Path(folder) == results and skip in folders:
            folders.remove(skip)
        # A link may lead back up.
        folders[:] = sorted(d for d in folders if os.path.realpath(os.path.join(folder, d)) not in seen)
        seen |= {os.path.realpath(os.path.join(folder, d)) for d in folders}
        if not folders and not names and Path(folder) != results:
            yield Path(folder)
        yield from (p for n in sorted(names) if (p := Path(folder) / n).is_file())


def _refuse(error: OSError) -> None:
    raise ArtifactError(f"a folder can't be searched for withdrawn people ({type(error).__name__})")


def _in_bytes(path: Path, finder: TokenFinder) -> set[bytes]:
    with path.open("rb") as f:
        head = f.read(4)
        f.seek(0)
        if path.suffix == TENSORS:
            return finder.ids(f.read(min(int.from_bytes(f.read(8), "little"), 2**27)))
        if head[:2] == b"\x1f\x8b":
            return finder.ids(gzip.decompress(f.read()))
        if head == b"PK\3\4":
            with zipfile.ZipFile(f) as archive:
                return set().union(*(finder.ids(os.fsencode(n) + b" " + archive.read(n)) for n in archive.namelist()))
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return finder.ids(f.read().decode("utf-16", "replace").encode())
        if not head:
            return set()
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return finder.ids(data)


def _in_table(path: Path, finder: TokenFinder, withdrawn: set[str]) -> set[bytes]:
    found: set[bytes] = set()
    with pq.ParquetFile(path) as table:
        for key, value in (table.schema_arrow.metadata or {}).items():
            found |= finder.ids(key + b" " + value)
        # Embeddings and the like can name nobody, and are most of the bytes.
        columns = [f.name for f in table.schema_arrow if _is_ids(f.name) or _holds_text(f.type)]
        for group in range(table.num_row_groups if columns else 0):
            part = table.read_row_group(group, columns=columns)
            for name, column in zip(part.column_names, part.columns, strict=True):
                for leaf in _leaves(column):
                    if _is_ids(name):
                        ids = normal_ids(leaf).unique()
                        found |= {i.encode() for i in pc.filter(ids, on_lists(ids, withdrawn)).to_pylist()}
                    elif pa.types.is_large_binary(leaf.type):
                        texts = leaf.drop_null().unique().to_pylist()
                        found |= finder.ids(b"\n".join(texts))
    return found


def _is_ids(name: str) -> bool:
    return name.lower() in ID_NAMES or _INDEX.fullmatch(name) is not None


def _holds_text(kind: pa.DataType) -> bool:
    """Whether any part of a type is text or bytes."""
    if pa.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_holds_text(kind.field(i).type) for i in range(kind.num_fields))
    return any(is_kind(kind) for is_kind in _TEXT)


def _leaves(column: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """The values of a column without their nesting; texts and bytes as large binary. Dates and the like as they are."""
    for chunk in column.chunks:
        kind = chunk.type
        if pa.types.is_dictionary(kind):
            yield from _leaves(pa.chunked_array([chunk.dictionary]))
        elif pa.types.is_struct(kind):
            for field in chunk.flatten():
                yield from _leaves(pa.chunked_array([field]))
        elif pa.types.is_map(kind):
            for part in (chunk.keys, chunk.items):
                yield from _leaves(pa.chunked_array([part]))
        elif hasattr(chunk, "flatten") and pa.types.is_nested(kind):
            yield from _leaves(pa.chunked_array([chunk.flatten()]))
        elif _holds_text(kind):
            yield pa.chunked_array([chunk.cast(pa.large_binary())])
        else:
            yield pa.chunked_array([chunk])


_TEXT = (
    pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary,
    pa.types.is_binary_view, pa.types.is_fixed_size_binary,
)  # fmt: skip
