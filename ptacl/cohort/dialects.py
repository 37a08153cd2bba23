"""The spellings of UK Biobank columns: one regular expression per dialect, mapped to (field, visit, array)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ptacl.cohort.fields import TITLES
from ptacl.cohort.text import first_names
from ptacl.errors import ConfigError


class Header(NamedTuple):
    """What a UK Biobank table's header says: its dialect, its id column, and what the columns that are fields hold."""

    dialect: str
    id_column: str
    columns: dict[str, "Key"]


class Key(NamedTuple):
    """What a column holds. Visit and array are 0 where a dialect leaves them out (`p31`)."""

    field: int
    visit: int
    array: int


@dataclass(frozen=True)
class Dialect:
    name: str
    ids: tuple[str, ...]
    pattern: re.Pattern[str]


DIALECTS = (
    Dialect("ukbconv csv", ("eid",), re.compile(r"(?P<field>\d+)-(?P<visit>\d+)\.(?P<array>\d+)")),
    Dialect("ukbconv r", ("f.eid",), re.compile(r"f\.(?P<field>\d+)\.(?P<visit>\d+)\.(?P<array>\d+)")),
    Dialect("Stata", ("n_eid",), re.compile(r"[a-z]+_(?P<field>\d+)_(?P<visit>\d+)_(?P<array>\d+)")),
    Dialect(
        "RAP", ("eid", "participant.eid"),
        re.compile(r"(?:participant\.)?p(?P<field>\d+)(?:_i(?P<visit>\d+))?(?:_a(?P<array>\d+))?"),
    ),
    Dialect(
        "RAP with titles", ("Participant ID",),
        re.compile(r"(?P<title>.+?)(?: \| Instance (?P<visit>\d+))?(?: \| Array (?P<array>\d+))?"),
    ),
)  # fmt: skip


_TITLES = {title.lower(): field for title, field in TITLES.items()}


def parse_column(name: str, dialect: Dialect) -> Key | None:
    """What the column `name` holds, or None where it is no field of this dialect (or a title not known here)."""
    if (m := dialect.pattern.fullmatch(name)) is None:
        return None
    found = m.groupdict()
    field = _TITLES.get(found["title"].lower()) if "title" in found else int(found["field"])
    return None if field is None else Key(field, int(found["visit"] or 0), int(found["array"] or 0))


def parse_header(names: Sequence[str], file: str) -> Header:
    """The header of a UK Biobank table; columns that are no field are left out.

    Raises ConfigError for a table of no dialect or of two, and for two columns of one (field, visit, array).
    """
    found: list[Header] = []
    for dialect in DIALECTS:
        ids = [n for n in names if n.lower() in (i.lower() for i in dialect.ids)]
        columns = {n: key for n in names if n not in ids and (key := parse_column(n, dialect))}
        if len(ids) > 1:
            raise ConfigError(f"cohort.table: {file} has two columns of ids, {' and '.join(ids)}; keep one")
        if ids and columns:
            found.append(Header(dialect.name, ids[0], columns))
    if not found:
        raise ConfigError(
            f"cohort.table: {file} is in none of the dialects {', '.join(d.name for d in DIALECTS)} (an id column and"
            f" columns such as eid, 24103-2.0 or p24103_i2); its columns begin with {first_names(names)}"
        )
    if len(found) > 1:
        raise ConfigError(f"cohort.table: {file} mixes the dialects {' and '.join(f.dialect for f in found)}; keep one")
    columns = found[0].columns
    holders: dict[Key, str] = {}
    # Over `names`, where a name that occurs twice is still twice.
    for name in (n for n in names if n in columns):
        if columns[name] in holders:
            raise ConfigError(
                f"cohort.table: {file}: columns {holders[columns[name]]} and {name} are the same; drop one"
            )
        holders[columns[name]] = name
    return found[0]
