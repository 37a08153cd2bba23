"""Phenotype tables to columns that stand row by row beside the cohort's rows.

Only the rows of the cohort are taken from a table: who has withdrawn was removed from these before, so that no
withdrawn person's value enters anything.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptacl.cohort.dialects import Key, parse_header
from ptacl.cohort.fields import (
    ICD10_CODES,
    ICD10_DATES,
    NO_ANSWER,
    QUANTITIES,
    SCANNER_TITLES,
    SPECIAL_CODES,
    TWO_LEVELS,
    WORDS,
)
from ptacl.cohort.icd10 import diagnosis_columns
from ptacl.cohort.identity import PATHS, SCIENTIFIC
from ptacl.cohort.text import (
    ID_COLUMNS,
    VISIT_COLUMNS,
    column_names,
    first_names,
    normal_ids,
    numbers,
    one_column,
    read_text_table,
    visits_of,
)
from ptacl.errors import ConfigError

# Quantity -> float64 [n], NaN where missing; diagnoses are Arrow columns, null where nothing is known.
Columns = dict[str, np.ndarray]

# Columns that the cohort table makes itself.
RESERVED = ("subject_id", "visit", "ecg_path", "cmr_path", "lax_path", "split", "shard", "phenotype_flags")


def ukb_columns(
    path: Path, subjects: pa.Array, visits: np.ndarray, icd10: Mapping[str, Sequence[str]], errors: Counter[str]
) -> tuple[Columns, dict[str, pa.Array]]:
    """Quantities and diagnoses of the rows (`subjects` [n], `visits` int8 [n]) from a UK Biobank table of any dialect.

    A field's arrays are averaged; fields are tried in order of preference. Readings out of range are left out and
    counted by quantity in `errors`. Raises ConfigError for another kind of table, a person with two rows, a table of
    other people, and a known column that holds text only.
    """
    dialect, id_column, header = parse_header(column_names(path), path.name)
    fields = {f for q in QUANTITIES.values() for f in q.fields} | ({ICD10_CODES, ICD10_DATES} if icd10 else set())
    wanted = {key: name for name, key in header.items() if key.field in fields}
    if icd10 and not any(key.field == ICD10_CODES for key in wanted):
        raise ConfigError(f"cohort.icd10: {path.name} has no field {ICD10_CODES} (diagnoses)")
    table = read_text_table(path, [id_column, *wanted.values()])
    ids = _ids(table, id_column, path.name)
    place = _places(ids, subjects, path.name, "person")
    if len(ids) and place.null_count == len(place):
        raise ConfigError(
            f"cohort.table: nobody in {path.name} has a file in this study; are its ids those of another application?"
        )
    table = table.take(place)  # null places make null rows
    columns = _quantities(table, wanted, visits, errors)
    _check_values(wanted, visits, columns, path.name)
    if dialect == "RAP with titles" and columns.keys() & SCANNER_TITLES:
        print(
            f"note: {path.name} has titles for names, and those of category 157 are also those of the scanner's own fields"
        )
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


def _check_values(wanted: Mapping[Key, str], visits: np.ndarray, columns: Columns, file: str) -> None:
    """Raises ConfigError for a table whose visits are none of the study's; of single quantities a note says so."""
    held: dict[str, set[int]] = {}
    for name, quantity in QUANTITIES.items():
        found = {key.visit for key in wanted if key.field in quantity.fields}
        if found and not quantity.any_visit:
            held[name] = found
    empty = [name for name in held if name not in columns]
    if held and not set().union(*held.values()) & set(visits.tolist()):
        raise ConfigError(
            f"cohort.table: {file} has columns for other visits than this study's only (see its instances)"
        )
    if empty:
        print(f"note: {file} has columns for {', '.join(empty)}, and no possible value at a visit of this study")


def numbers_of(key: Key, column: pa.ChunkedArray) -> np.ndarray:
    """The readings of one column, float64 [n]: words as numbers, special codes as missing, fine groups as coarse ones.

    Raises ConfigError where it holds text only.
    """
    found = known_numbers(column, WORDS.get(key.field, {}), f"field {key.field}")
    found[np.isin(found, SPECIAL_CODES.get(key.field, ()))] = np.nan
    return np.where(found >= 1000, found // 1000, found) if key.field in TWO_LEVELS else found


def known_numbers(column: pa.ChunkedArray, words: Mapping[str, int], name: str) -> np.ndarray:
    """The numbers of a known column, float64 [n], `words` for numbers. Raises ConfigError where it holds text only."""
    found = numbers(column, words)
    if not np.isfinite(found).any():
        texts = pc.utf8_lower(pc.utf8_trim_whitespace(pc.drop_null(column)))
        if not pc.all(pc.is_in(texts, value_set=pa.array(["", *NO_ANSWER])), min_count=0).as_py():
            raise ConfigError(f"cohort: {name} holds text and no number (a decimal comma? words for codes?)")
    return found


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

    Raises ConfigError without an id column, when two rows stand for one (subject, visit), and when nobody in it takes part.
    """
    table = read_text_table(path)
    id_column, visit_column = (one_column(table, names, path.name) for names in (ID_COLUMNS, VISIT_COLUMNS))
    if id_column is None:
        raise ConfigError(f"{path.name}: no column subject_id or eid; found {first_names(table.column_names)}")
    ids = _ids(table, id_column, path.name)
    place = _places(
        row_keys(ids, visits_of(table, visit_column, path.name)), row_keys(subjects, visits), path.name,
        "subject and visit",
    )  # fmt: skip
    if table.num_rows and place.null_count == len(place):
        anybody = pc.any(pc.is_in(ids, value_set=subjects)).as_py()
        why = (
            "at these visits"
            if anybody and visit_column
            else "without a column visit or instance"
            if anybody
            else "at all"
        )
        raise ConfigError(f"{path.name}: none of its {table.num_rows} rows belongs to this study {why}")
    table = table.take(place)
    return plain_columns(table, path.name, errors)


def plain_columns(table: pa.Table, name: str, errors: Counter[str]) -> Columns:
    """The columns of a text table that hold any number, each a quantity under its own name; ids, visits and paths are none.

    Raises ConfigError for one of the cohort's own names, and for a known quantity that holds text only.
    """
    columns: Columns = {}
    for column in (c for c in table.column_names if c.lower() not in (*ID_COLUMNS, *VISIT_COLUMNS, *PATHS)):
        if column in QUANTITIES:
            words = {w: n for f in QUANTITIES[column].fields for w, n in WORDS.get(f, {}).items()}
            values = believed(column, known_numbers(table[column], words, f"column {column} of {name}"), errors)
        else:
            values = numbers(table[column])
        if column in RESERVED and np.isfinite(values).any():
            raise ConfigError(f"{name}: the cohort has a column {column} of its own; rename yours")
        if np.isfinite(values).any():
            columns[column] = values
    return columns


def row_keys(subjects: pa.Array, visits: np.ndarray) -> pa.Array:
    """One text per (subject, visit), to look rows up by."""
    return pc.binary_join_element_wise(subjects, pa.array(visits).cast(pa.string()), "|")


def _ids(table: pa.Table, column: str, name: str) -> pa.Array:
    ids = normal_ids(table[column])
    if pc.any(pc.match_substring_regex(ids, pattern=SCIENTIFIC)).as_py():
        raise ConfigError(
            f"{name}: column {column} has numbers such as 9e+06, of which digits are lost; write ids as text"
        )
    return ids


def _places(theirs: pa.Array, ours: pa.Array, name: str, what: str) -> pa.Array:
    """Where each of our keys stands among theirs, null where it does not. Raises ConfigError for a key with two rows."""
    mine = pc.filter(theirs, pc.is_in(theirs, value_set=ours))
    twice = len(mine) - pc.count_distinct(mine).as_py()
    if twice:
        raise ConfigError(f"{name}: {twice} rows repeat a {what}; keep one row of each")
    return pc.index_in(ours, value_set=theirs)
