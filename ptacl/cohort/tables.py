"""Phenotype tables to columns that stand row by row beside the cohort's rows.

Only the rows of the cohort are taken from a table: who has withdrawn was removed from these before, so that no
withdrawn person's value enters anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptacl.cohort.dialects import Key, first_names, parse_header
from ptacl.cohort.fields import ICD10_CODES, ICD10_DATES, QUANTITIES, SPECIAL_CODES, TWO_LEVELS, WORDS
from ptacl.cohort.icd10 import diagnosis_columns
from ptacl.cohort.text import column_names, normal_ids, numbers, read_text_table, visits_of
from ptacl.errors import ConfigError

# Quantity -> float64 [n], NaN where missing; diagnoses are Arrow columns, null where nothing is known.
Columns = dict[str, np.ndarray]

_ID_COLUMNS, _VISIT_COLUMNS = ("subject_id", "eid"), ("visit", "instance")
# Columns that the cohort table makes itself.
RESERVED = ("subject_id", "visit", "ecg_path", "cmr_path", "lax_path", "split", "shard", "phenotype_flags")


def ukb_columns(
    path: Path, subjects: pa.Array, visits: np.ndarray, icd10: Mapping[str, Sequence[str]], errors: Counter[str]
) -> tuple[Columns, dict[str, pa.Array]]:
    """Quantities and diagnoses of the rows (`subjects` [n], `visits` int8 [n]) from a UK Biobank table of any dialect.

    A field's arrays are averaged; fields are tried in order of preference. Readings out of range are left out and
    counted by quantity in `errors`. Raises ConfigError for another kind of table or a person with two rows.
    """
    _, id_column, header = parse_header(column_names(path), path.name)
    fields = {f for q in QUANTITIES.values() for f in q.fields} | ({ICD10_CODES, ICD10_DATES} if icd10 else set())
    wanted = {key: name for name, key in header.items() if key.field in fields}
    if icd10 and not any(key.field == ICD10_CODES for key in wanted):
        raise ConfigError(f"cohort.icd10: {path.name} has no field {ICD10_CODES} (diagnoses)")
    table = read_text_table(path, [id_column, *wanted.values()])
    place = _places(normal_ids(table[id_column]), subjects, path.name, "person")
    table = table.take(place)  # null places make null rows
    columns = _quantities(table, wanted, visits, errors)
    if not icd10:
        return columns, {}
    codes, dates = (
        {k.array: table[name].combine_chunks() for k, name in wanted.items() if k.field == field}
        for field in (ICD10_CODES, ICD10_DATES)
    )
    known = place.is_valid().to_numpy(zero_copy_only=False)
    return columns, diagnosis_columns(codes, dates, icd10, known)


def _quantities(table: pa.Table, wanted: Mapping[Key, str], visits: np.ndarray, errors: Counter[str]) -> Columns:
    """Every known quantity with a value, at each row's own visit; `table` stands row by row beside `visits`."""
    columns: Columns = {}
    for name, quantity in QUANTITIES.items():
        means: dict[tuple[int, int], np.ndarray] = {}
        for source in sorted({k[:2] for k in wanted if k.field in quantity.fields}):
            rows = np.ones(len(visits), bool) if quantity.any_visit else visits == source[1]
            if rows.any():
                readings = [numbers_of(key, table[wanted[key]]) for key in wanted if key[:2] == source]
                means[source] = _mean([believed(name, np.where(rows, r, np.nan), errors) for r in readings])
        result = np.full(len(visits), np.nan)
        for visit in np.unique(visits).tolist():
            others = sorted({v for _, v in means} - {visit}) if quantity.any_visit else []
            for source in [(f, v) for v in [visit, *others] for f in quantity.fields if (f, v) in means]:
                empty = (visits == visit) & np.isnan(result)
                result[empty] = means[source][empty]
        if np.isfinite(result).any():
            columns[name] = result
    return columns


def numbers_of(key: Key, column: pa.ChunkedArray) -> np.ndarray:
    """The readings of one column, float64 [n]: words as numbers, special codes as missing, fine groups as coarse ones."""
    found = numbers(column, WORDS.get(key.field))
    found[np.isin(found, SPECIAL_CODES.get(key.field, ()))] = np.nan
    return np.where(found >= 1000, found // 1000, found) if key.field in TWO_LEVELS else found


def _mean(readings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of what is there, float64 [n], NaN where nothing is."""
    count = sum(np.isfinite(r) for r in readings)
    total = sum(np.nan_to_num(r) for r in readings)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def believed(name: str, column: np.ndarray, errors: Counter[str]) -> np.ndarray:
    """The column without values that are impossible for the quantity, which are counted."""
    if name not in QUANTITIES:
        return column
    low, high = QUANTITIES[name].possible
    wrong = (column < low) | (column > high)
    if wrong.any():
        errors[name] += int(wrong.sum())
    return np.where(wrong, np.nan, column)


def extra_columns(path: Path, subjects: pa.Array, visits: np.ndarray, errors: Counter[str]) -> Columns:
    """Quantities of the rows from a table with `subject_id` (or `eid`), optional `visit` (or `instance`) and columns.

    Raises ConfigError without an id column, or when two rows stand for one (subject, visit).
    """
    table = read_text_table(path)
    id_column, visit_column = _one_of(table, _ID_COLUMNS), _one_of(table, _VISIT_COLUMNS)
    if id_column is None:
        raise ConfigError(f"{path.name}: no column subject_id or eid; found {first_names(table.column_names)}")
    theirs = row_keys(normal_ids(table[id_column]), visits_of(table, visit_column, path.name))
    table = table.take(_places(theirs, row_keys(subjects, visits), path.name, "subject and visit"))
    return plain_columns(table, path.name, [id_column, visit_column], errors)


def plain_columns(table: pa.Table, name: str, skip: Iterable[str | None], errors: Counter[str]) -> Columns:
    """The columns of a text table that hold any number, each a quantity under its own name."""
    columns: Columns = {}
    for column in (c for c in table.column_names if c not in set(skip)):
        values = believed(column, numbers(table[column]), errors)
        if column in RESERVED and np.isfinite(values).any():
            raise ConfigError(f"{name}: the cohort has a column {column} of its own; rename yours")
        if np.isfinite(values).any():
            columns[column] = values
    return columns


def row_keys(subjects: pa.Array, visits: np.ndarray) -> pa.Array:
    """One text per (subject, visit), to look rows up by."""
    return pc.binary_join_element_wise(subjects, pa.array(visits).cast(pa.string()), "|")


def _places(theirs: pa.Array, ours: pa.Array, name: str, what: str) -> pa.Array:
    """Where each of our keys stands among theirs, null where it does not. Raises ConfigError for a key with two rows."""
    mine = pc.filter(theirs, pc.is_in(theirs, value_set=ours))
    twice = len(mine) - pc.count_distinct(mine).as_py()
    if twice:
        raise ConfigError(f"{name}: {twice} rows repeat a {what}; keep one row of each")
    return pc.index_in(ours, value_set=theirs)


def _one_of(table: pa.Table, names: tuple[str, ...]) -> str | None:
    return next((n for n in names if n in table.column_names), None)
