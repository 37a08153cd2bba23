"""Tables as text: reading chosen columns, and the one way to turn text into ids, visits and numbers."""

import contextlib
import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ptacl.errors import ConfigError
from ptacl.logs import mask_ids

ID_COLUMNS, VISIT_COLUMNS = ("subject_id", "eid"), ("visit", "instance")
_NULLS = ["", "NA", "N/A", "NaN", "nan", "NULL"]
_LONG_NUMBER = re.compile(r"\d{6}")
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
# White space, no-break space, byte-order mark and quotes.
_AROUND_ID = " \t\r\n\v\f\u00a0\ufeff\"'"
# A row of the main UK Biobank table can have hundreds of kilobytes; a block must hold one.
_BLOCK_BYTES = 16 * 2**20


def read_text_table(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """Reads a csv, tsv, txt or Parquet table with every column as text; empty cells are null.

    Only `columns` are read where given (the main UK Biobank table is tens of gigabytes). Raises ConfigError.
    """
    names = column_names(path)
    asked = None if columns is None else set(columns)
    wanted = names if asked is None else [n for n in names if n in asked]
    if len(set(wanted)) < len(wanted):
        raise ConfigError(f"{path.name}: two columns have the same name; rename one")
    with _readable(path):
        if _is_parquet(path):
            table = pyarrow.parquet.read_table(path, columns=wanted, partitioning=None)
            return pa.table({n: _as_text(table[n]) for n in wanted})
        if path.stat().st_size == _header_bytes(path):
            return pa.table({n: pa.array([], pa.string()) for n in wanted})
        return pyarrow.csv.read_csv(path, **_csv_options(path, names, wanted))


def first_values(path: Path, column: str, count: int) -> pa.Array:
    """The first values of one column as text, at least `count` where the table begins with as many in 256 MiB.

    Raises ConfigError.
    """
    parts: list[pa.ChunkedArray] = []
    with _readable(path):
        if _is_parquet(path):
            with pyarrow.parquet.ParquetFile(path) as file:
                batches = file.iter_batches(count, columns=[column])
                parts += [_as_text(pa.chunked_array([b.column(0)])) for b in itertools.islice(batches, 1)]
        elif path.stat().st_size > _header_bytes(path):
            options = _csv_options(path, column_names(path), [column])
            with pyarrow.csv.open_csv(path, **options) as batches:
                for batch in itertools.islice(batches, 256 * 2**20 // _BLOCK_BYTES):
                    parts.append(pa.chunked_array([batch.column(0)]))
                    if sum(map(len, parts)) >= count:
                        break
    return pa.concat_arrays([c for part in parts for c in part.chunks] or [pa.array([], pa.string())])


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as e:
        # Arrow quotes the offending row, which may hold an id.
        raise ConfigError(f"{path.name}: not a readable table ({type(e).__name__})") from None


def _csv_options(path: Path, names: list[str], wanted: list[str]) -> dict[str, Any]:
    # Names from `column_names`, so that quotes, blanks and byte-order marks around them do not matter.
    kept = set(wanted)
    unique = [n if n in kept else f"{i}:{n}" for i, n in enumerate(names)]
    return {
        "read_options": pyarrow.csv.ReadOptions(column_names=unique, skip_rows=1, block_size=_BLOCK_BYTES),
        "parse_options": pyarrow.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        "convert_options": pyarrow.csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=True,
            null_values=_NULLS,
        ),
    }  # fmt: skip


def column_names(path: Path) -> list[str]:
    """The header of a table. Raises ConfigError when there is no such table or it is no text."""
    try:
        if _is_parquet(path):
            return pyarrow.parquet.read_schema(path).names
        return [n.strip() for n in next(csv.reader([_first_line(path)], delimiter=_delimiter(path)))]
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{mask_ids(str(path))}: no such table (paths begin where you start the workflow)") from None
    except (UnicodeDecodeError, pa.ArrowException, OSError, csv.Error) as e:
        raise ConfigError(f"{path.name}: not a readable table ({type(e).__name__})") from None


def first_names(names: Sequence[str], count: int = 4) -> str:
    """The first columns for an error message; long numbers hidden, since a table without a header begins with a person's row."""
    return ", ".join("<number>" if _LONG_NUMBER.search(n) else n[:60] for n in names[:count])


def one_column(table: pa.Table, names: Sequence[str], file: str) -> str | None:
    """The table's column of one of these names, in any case; None without. Raises ConfigError where there are several."""
    found = [n for n in table.column_names if n.lower() in names]
    if len(found) > 1:
        raise ConfigError(f"{file}: columns {' and '.join(found)} mean the same; keep one")
    return found[0] if found else None


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _header_bytes(path: Path) -> int:
    with path.open("rb") as f:
        return len(f.readline())


def _first_line(path: Path) -> str:
    # As bytes: only the header must be UTF-8, free text further down need not be.
    with path.open("rb") as f:
        return f.readline().decode("utf-8-sig").rstrip("\r\n")


def _delimiter(path: Path) -> str:
    """A tab where the header has one, since `.txt` files come with either; a semicolon where that is all it has."""
    header = _first_line(path)
    return "\t" if "\t" in header else ";" if ";" in header and "," not in header else ","


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as text; a list (field 41270 from Spark) as its items with bars between."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        joined = pc.binary_join(column.cast(pa.list_(pa.string())), "|")
        if joined.null_count > column.null_count:  # an item that is null makes the whole null
            lists = column.to_pylist()
            joined = pa.chunked_array([["|".join(str(i or "") for i in v) if v is not None else None for v in lists]])
        return joined
    text = column.cast(pa.string())
    return pc.if_else(pc.is_in(text, value_set=pa.array(_NULLS)), pa.scalar(None, pa.string()), text)


def normal_ids(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One type for ids everywhere: text without surrounding space or quotes, digits without `.0`; "" where missing."""
    text = pc.utf8_trim(pc.fill_null(column.cast(pa.string()), ""), characters=_AROUND_ID)
    text = pc.replace_substring_regex(text, pattern=r"^(\d+)\.0+$", replacement=r"\1")
    return text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text


def normal_id(text: str) -> str:
    """`normal_ids` of one id."""
    return normal_ids(pa.array([text], pa.string()))[0].as_py()


def visits_of(table: pa.Table, column: str | None, name: str) -> np.ndarray:
    """The visit of each row, int8 [n], 0 where the table has no such column or cell. Raises ConfigError."""
    if column is None:
        return np.zeros(table.num_rows, np.int8)
    found = numbers(pc.fill_null(table[column], "0"))
    # NaN fails every comparison.
    if not ((found >= 0) & (found < 128) & (found == np.floor(found))).all():
        raise ConfigError(f"{name}: column {column} holds something else than visit numbers from 0 to 127")
    return found.astype(np.int8)


def numbers(column: pa.ChunkedArray | pa.Array, words: Mapping[str, int] | None = None) -> np.ndarray:
    """Text to float64 [n]; what is not a finite number becomes NaN. `words` (lower case), true and false stand for numbers."""
    text = pc.utf8_trim_whitespace(column)
    try:
        found = text.cast(pa.float64())
    except pa.ArrowInvalid:
        known = {"true": 1, "false": 0, **(words or {})}
        place = pc.index_in(pc.utf8_lower(text), value_set=pa.array(list(known)))
        text = pc.coalesce(pa.array([str(v) for v in known.values()]).take(_flat(place)), _flat(text))
        is_number = pc.match_substring_regex(text, pattern=_NUMBER)
        found = pc.if_else(is_number, text, pa.scalar(None, pa.string())).cast(pa.float64())
    out = np.array(
        found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy(), np.float64
    )
    out[~np.isfinite(out)] = np.nan
    return out


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
