"""Where rows come from: UK Biobank folders by file name, or a table the user writes."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ptacl.cohort.identity import Row
from ptacl.cohort.tables import Values, normal_id, plain_values, read_text_table, visits_of
from ptacl.errors import ConfigError

_FIELDS = {"20205": "ecg_path", "20209": "cmr_path", "20208": "lax_path"}
_NAME = re.compile(r"(\d+)_(20205|20208|20209)_(\d{1,2})_(\d+)\.(xml|zip)", re.IGNORECASE)
_PATH_COLUMNS = ("ecg_path", "cmr_path", "lax_path")


def walk(root: Path) -> Iterator[os.DirEntry]:
    """Every file below `root`, in sort order of names, folder by folder; links to folders are not followed."""
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                yield from walk(Path(entry.path))
            elif entry.is_file():
                yield entry


def ukb_rows(root: Path) -> list[Row]:
    """Rows of `{eid}_{field}_{instance}_{array}.{xml,zip}` files anywhere below `root`.

    A second file of the same field and visit (a copy in a sub-folder, another array) makes a second row of that
    (subject, visit), which the caller excludes as a duplicate. Raises ConfigError when `root` is no folder.
    """
    if not root.is_dir():
        raise ConfigError(f"cohort.root: {root} is no folder")
    files: dict[tuple[str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in walk(root):
        if m := _NAME.fullmatch(entry.name):
            eid, field, visit, _, suffix = m.groups()
            if (field == "20205") == (suffix.lower() == "xml"):
                name = Path(entry.path).relative_to(root).as_posix()
                files[eid, int(visit)][_FIELDS[field]].append(name)
    rows = []
    for (eid, visit), columns in sorted(files.items()):
        # Files of one person's visit are paired in sort order: the first of each field make the row that stays.
        for i in range(max(len(names) for k, names in columns.items())):
            paths = {k: sorted(names)[i] for k, names in columns.items() if i < len(names)}
            if i == 0 or "ecg_path" in paths or "cmr_path" in paths:
                rows.append(Row(eid, visit, **paths))
    return [r for r in rows if r.ecg_path or r.cmr_path]


def table_rows(path: Path) -> tuple[list[Row], Values]:
    """Rows and values of a CSV or Parquet with subject_id, ecg_path, cmr_path, and any of visit, lax_path, quantities.

    Raises ConfigError when a needed column is missing.
    """
    table = read_text_table(path)
    for column in ("subject_id", "ecg_path", "cmr_path"):
        if column not in table.column_names:
            raise ConfigError(
                f"cohort.table: {path.name} has no column {column}; found {', '.join(table.column_names[:8])}"
            )
    ids = [normal_id(x) for x in table["subject_id"].to_pylist()]
    visits = visits_of(table, "visit" if "visit" in table.column_names else None, path.name)
    paths = {c: table[c].to_pylist() for c in _PATH_COLUMNS if c in table.column_names}
    rows = [
        Row(subject, visit, **{c: (values[i] or "").strip() or None for c, values in paths.items()})
        for i, (subject, visit) in enumerate(zip(ids, visits, strict=True))
    ]
    return rows, plain_values(table, path.name, skip=_PATH_COLUMNS)
