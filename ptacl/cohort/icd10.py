"""Hospital diagnoses: field 41270 in its spellings, to one column per diagnosis the study names."""

import datetime
import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from ptacl.errors import ConfigError

_CODE = re.compile(r"[A-Z]\d[0-9A-Z]{1,5}")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


def parse_codes(cell: str) -> list[str]:
    """The codes of one cell, in order: one code, `I251|I10`, `["I251","I10"]`, `['I251', 'I10']` or `[I251, I10]`.

    A code may carry a dot and its meaning (`I25.1 Atherosclerotic heart disease`); both are dropped. Raises ConfigError
    for anything else, since a spelling that is not understood would make everybody healthy.
    """
    text = cell.strip()
    items = _list_items(text) if text[:1] + text[-1:] == "[]" else text.split("|")
    codes = [item.split()[0].replace(".", "").upper() for item in items if item.strip()]
    if not all(_CODE.fullmatch(c) for c in codes):
        raise ConfigError(
            "cohort.table: field 41270 (ICD-10) holds something that is no code, a|b, [\"a\", \"b\"] or ['a', 'b']"
        )
    return codes


def _list_items(text: str) -> list[str]:
    try:
        return [item for item in json.loads(text) if isinstance(item, str)]
    except ValueError:
        quoted = [a or b for a, b in _QUOTED.findall(text)]
        return quoted if quoted else text[1:-1].split(",")


def diagnosis_columns(
    codes: Mapping[int, pa.Array], dates: Mapping[int, pa.Array], wanted: Mapping[str, Sequence[str]], known: np.ndarray
) -> dict[str, pa.Array]:
    """One 0/1 column per name (float64 [n], null where `known`, bool [n], is false) and, with dates, `{name}_date`.

    `codes`: the text columns of field 41270 by array; a cell that holds a list continues the numbering from there.
    `dates`: the text columns of field 41280 by array, numbered like the codes. `wanted`: code prefixes by name; the
    date of a name is the earliest of its codes.
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
                        date = _date(dates[place][row].as_py()) if place in dates else None
                        if date is not None:
                            first[name][row] = min(date, first[name].get(row, date))
    columns: dict[str, pa.Array] = {}
    for name in wanted:
        columns[name] = pa.array(has[name], mask=~known)
        if dates:
            columns[f"{name}_date"] = pa.array([first[name].get(i) for i in range(len(known))], pa.date32())
    return columns


def _date(text: str | None) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat((text or "").strip()[:10])
    except ValueError:
        return None
