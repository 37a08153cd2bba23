"""Hospital diagnoses: field 41270 in its spellings, to one column per diagnosis the study names."""

import datetime
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from ptacl.cohort.fields import ICD10_CODES, ICD10_DATES
from ptacl.errors import ConfigError

_CODE = re.compile(r"[A-Z]\d[0-9A-Z]{1,5}")
# One item of a list and the comma after it: quoted either way, or bare.
_ITEM = re.compile(r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\[\]{}]*?))\s*(?:,|$)""")
_NOTHING = {"", "nan", "none", "null", "na"}


def parse_codes(cell: str) -> list[str]:
    """The codes of one cell, in order: one code, `I251|I10`, `["I251","I10"]`, `['I251', 'I10']` or `[I251, I10]`.

    A code may carry a dot and its meaning (`I25.1 Atherosclerotic heart disease`); both are dropped. An empty item is "",
    so that dates find their codes. Raises ConfigError for anything else, since a spelling that is not understood would
    make everybody healthy.
    """
    items = _items(cell, ICD10_CODES)
    codes = [item.split()[0].replace(".", "").upper() if item else "" for item in items]
    if not all(_CODE.fullmatch(code) for code, item in zip(codes, items, strict=True) if item):
        raise _not_understood(ICD10_CODES)
    return codes


def _items(cell: str, field: int) -> list[str]:
    """The items of a cell, "" for those that say nothing. Raises ConfigError."""
    text = cell.strip()
    if not text:
        return []
    if text[:1] + text[-1:] != "[]":
        items = text.split("|")
    else:
        items, text, at = [], text[1:-1], 0
        while at < len(text):
            m = _ITEM.match(text, at)
            if m is None or m.end() == at:
                raise _not_understood(field)
            items.append(next(g for g in m.groups() if g is not None))
            at = m.end()
    items = [item.strip() for item in items]
    return ["" if item.lower() in _NOTHING else item for item in items]


def _not_understood(field: int) -> ConfigError:
    what = {ICD10_CODES: "code", ICD10_DATES: "date as 2001-12-31"}[field]
    return ConfigError(
        f"cohort.table: field {field} (ICD-10) holds something that is no {what}, a|b, [\"a\", \"b\"] or ['a', 'b']"
    )


def diagnosis_columns(
    codes: Mapping[int, pa.Array], dates: Mapping[int, pa.Array], wanted: Mapping[str, Sequence[str]], known: np.ndarray
) -> dict[str, pa.Array]:
    """One 0/1 column per name (float64 [n], null where `known`, bool [n], is false) and, with dates, `{name}_date`.

    `codes`: the text columns of field 41270 by array; a cell that holds a list continues the numbering from there.
    `dates`: likewise those of field 41280, numbered like the codes. `wanted`: code prefixes by name; the date of a name is
    the earliest of its codes.
    """
    prefixes = {name: tuple(p.replace(".", "").upper() for p in given) for name, given in wanted.items()}
    has = {name: np.zeros(len(known)) for name in wanted}
    first: dict[str, dict[int, datetime.date]] = {name: {} for name in wanted}
    for array, column in codes.items():
        rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).tolist()
        for row, cell in zip(rows, column.drop_null().to_pylist(), strict=True):
            for place, code in enumerate(parse_codes(cell), array):
                for name, starts in prefixes.items():
                    if code.startswith(starts):
                        has[name][row] = 1
                        date = _date_at(dates, place, row)
                        if date is not None:
                            first[name][row] = min(date, first[name].get(row, date))
    columns: dict[str, pa.Array] = {}
    for name in wanted:
        columns[name] = pa.array(has[name], mask=~known)
        if dates:
            columns[f"{name}_date"] = pa.array([first[name].get(i) for i in range(len(known))], pa.date32())
    return columns


def _date_at(dates: Mapping[int, pa.Array], place: int, row: int) -> datetime.date | None:
    """The date numbered `place` of a row: in the last column that begins at or before it."""
    array = max((a for a in dates if a <= place), default=None)
    items = _items(dates[array][row].as_py() or "", ICD10_DATES) if array is not None else []
    text = items[place - array] if array is not None and place - array < len(items) else ""
    try:
        return datetime.date.fromisoformat(text[:10]) if text else None
    except ValueError:
        raise _not_understood(ICD10_DATES) from None
