"""Phenotype tables: the wide `ukbconv csv` dialect, and plain tables with one column per quantity."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ptacl.cohort.fields import QUANTITIES
from ptacl.errors import ConfigError

# (subject_id, visit) -> {quantity: value}
Values = dict[tuple[str, int], dict[str, float]]

_UKBCONV = re.compile(r"(?P<field>\d+)-(?P<visit>\d+)\.(?P<array>\d+)")
_ID_COLUMNS, _VISIT_COLUMNS = ("subject_id", "eid"), ("visit", "instance")


def read_text_table(path: Path, columns: Iterable[str] | None = None) -> pa.Table:
    """Reads a csv, tsv or Parquet table with every column as text; empty cells are null.

    Only `columns` are read where given (the main UK Biobank table is tens of gigabytes). Raises ConfigError.
    """
    try:
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path, columns=list(columns) if columns is not None else None)
            return pa.table({n: table[n].cast(pa.string()) for n in table.column_names})
        names = column_names(path)
        wanted = [n for n in names if columns is None or n in set(columns)]
        return pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ","),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()),
                strings_can_be_null=True, null_values=["", "NA", "NaN", "nan"],
            ),
        )  # fmt: skip
    except FileNotFoundError:
        raise ConfigError(f"{path.name}: no such table") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as e:
        # Arrow quotes the offending row, which may hold an id.
        raise ConfigError(f"{path.name}: not a readable table ({type(e).__name__})") from None


def column_names(path: Path) -> list[str]:
    """The header of a table."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_schema(path).names
    try:
        with path.open(encoding="utf-8-sig") as f:
            first = f.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name}: not text in UTF-8") from None
    return [name.strip().strip('"') for name in first.split("\t" if path.suffix == ".tsv" else ",")]


def read_ukb_table(path: Path) -> Values:
    """Reads the `ukbconv csv` dialect (`eid`, `24103-2.0`, ...), only the columns of known quantities.

    Values of a field's arrays are averaged; fields are tried in order of preference. Raises ConfigError for another
    dialect, naming the columns found.
    """
    names = _names(path)
    parsed = {n: m for n in names if (m := _UKBCONV.fullmatch(n))}
    if "eid" not in names or not parsed:
        raise ConfigError(
            f"cohort.table: {path.name} is not in the ukbconv csv dialect (eid, 31-0.0, ...); its columns begin with"
            f" {', '.join(names[:4])}"
        )
    fields = {field for quantity in QUANTITIES.values() for field in quantity.fields}
    wanted = {n: m for n, m in parsed.items() if int(m["field"]) in fields}
    table = read_text_table(path, ["eid", *wanted])
    ids = [normal_id(x) for x in table["eid"].to_pylist()]
    # field -> visit -> one column of means over its arrays
    means: dict[int, dict[int, np.ndarray]] = {}
    stacks: dict[tuple[int, int], list[np.ndarray]] = {}
    for name, m in wanted.items():
        stacks.setdefault((int(m["field"]), int(m["visit"])), []).append(_numbers(table[name]))
    for (field, visit), columns in stacks.items():
        stack = np.stack(columns)
        count = np.isfinite(stack).sum(0)
        mean = np.where(count > 0, np.nansum(stack, 0) / np.maximum(count, 1), np.nan)
        means.setdefault(field, {})[visit] = mean
    visits = sorted({visit for columns in means.values() for visit in columns})
    values: Values = {}
    for quantity_name, quantity in QUANTITIES.items():
        for visit in visits:
            column = _of_visit(means, quantity.fields, visit, visits if quantity.any_visit else [])
            if column is None:
                continue
            low, high = quantity.plausible
            for i in np.flatnonzero((column >= low) & (column <= high)):
                values.setdefault((ids[i], visit), {})[quantity_name] = float(column[i])
    return values


def _of_visit(
    means: dict[int, dict[int, np.ndarray]], fields: tuple[int, ...], visit: int, others: list[int]
) -> np.ndarray | None:
    """A quantity at one visit: the first of its fields that has a value, then the other visits where allowed."""
    result: np.ndarray | None = None
    for v in [visit, *(o for o in others if o != visit)]:
        for field in fields:
            if v in means.get(field, {}):
                column = means[field][v]
                result = column if result is None else np.where(np.isnan(result), column, result)
    return result


def read_plain_table(path: Path) -> Values:
    """Reads a table with `subject_id` (or `eid`), optional `visit` (or `instance`) and one column per quantity.

    Every other column that is a number is taken as a phenotype under its own name.
    """
    table = read_text_table(path)
    return plain_values(table, path.name)


def plain_values(table: pa.Table, name: str, *, skip: Iterable[str] = ()) -> Values:
    """The numeric columns of a text table, by (subject_id, visit)."""
    id_column = _one_of(table, _ID_COLUMNS)
    if id_column is None:
        raise ConfigError(f"{name}: no column subject_id or eid; found {', '.join(table.column_names[:6])}")
    visit_column = _one_of(table, _VISIT_COLUMNS)
    ids = [normal_id(x) for x in table[id_column].to_pylist()]
    visits = visits_of(table, visit_column, name)
    values: Values = {}
    for column in table.column_names:
        if column in {id_column, visit_column, *skip}:
            continue
        numbers = _numbers(table[column])
        low, high = QUANTITIES[column].plausible if column in QUANTITIES else (-math.inf, math.inf)
        for i in np.flatnonzero((numbers >= low) & (numbers <= high)):
            values.setdefault((ids[i], visits[i]), {})[column] = float(numbers[i])
    return values


def visits_of(table: pa.Table, column: str | None, name: str) -> list[int]:
    """The visit of each row, 0 where the table has no such column or cell. Raises ConfigError."""
    if column is None:
        return [0] * table.num_rows
    texts = [(x or "0").strip() for x in table[column].to_pylist()]
    if not all(t.isdigit() and int(t) < 128 for t in texts):
        raise ConfigError(f"{name}: column {column} holds something else than visit numbers from 0 to 127")
    return [int(t) for t in texts]


def normal_id(text: str | None) -> str:
    """One type for ids everywhere: text without surrounding space, quotes or a trailing `.0`."""
    return re.sub(r"(?<=\d)\.0$", "", (text or "").strip().strip('"').strip())


def _one_of(table: pa.Table, names: tuple[str, ...]) -> str | None:
    return next((n for n in names if n in table.column_names), None)


def _names(path: Path) -> list[str]:
    try:
        return column_names(path)
    except FileNotFoundError:
        raise ConfigError(f"cohort.table: {path.name} is not there") from None


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Text to float64; what is not a finite number becomes NaN."""
    out = np.full(len(column), np.nan)
    for i, text in enumerate(column.to_pylist()):
        if text is not None:
            try:
                out[i] = float(text)
            except ValueError:
                continue
    out[~np.isfinite(out)] = np.nan
    return out
