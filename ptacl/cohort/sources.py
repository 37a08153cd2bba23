"""Where rows come from: UK Biobank folders by file name, or a table the user writes."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptacl.cohort.identity import PATHS
from ptacl.cohort.tables import row_keys
from ptacl.cohort.text import normal_ids, read_text_table, visits_of
from ptacl.errors import ConfigError

_KINDS = {"20205": "ecg_path", "20209": "cmr_path", "20208": "lax_path"}
_NAME = re.compile(r"(\d+)_(?:(20205)_(\d{1,2})_\d+\.xml|(20208|20209)_(\d{1,2})_\d+\.zip)", re.IGNORECASE)


def walk(root: Path, folders: Sequence[str] = ()) -> Iterator[os.DirEntry[str]]:
    """Every file below `root`, or below these folders of it; folder by folder in sort order of names.

    Links to folders are not followed. Raises ConfigError where there is no such folder, or it lies outside `root`.
    """
    if not root.is_dir():
        raise ConfigError(f"cohort.root: {root} is no folder")
    for i, folder in enumerate(folders):
        if os.path.isabs(folder) or ".." in Path(folder).parts or not (root / folder).is_dir():
            raise ConfigError(f"cohort.folders[{i}]: {folder!r} is no folder below cohort.root ({root})")
    chosen = {PurePosixPath(f) for f in folders} or {PurePosixPath(".")}
    # A folder inside another chosen one is walked with that. Joined as text, so that every path begins with the root's.
    base = os.fspath(root)
    waiting = [
        base if f == PurePosixPath(".") else os.path.join(base, f)
        for f in sorted(chosen, reverse=True)
        if not chosen & set(f.parents)
    ]
    while waiting:
        with os.scandir(waiting.pop()) as listing:
            entries = sorted(listing, key=lambda e: e.name)
        waiting += [e.path for e in reversed(entries) if e.is_dir(follow_symlinks=False)]
        for entry in entries:
            if entry.is_file():
                yield entry


def ukb_rows(root: Path, folders: Sequence[str] = ()) -> tuple[pa.Table, dict[str, os.stat_result]]:
    """Rows of `{eid}_{field}_{instance}_{array}.{xml,zip}` files anywhere below `root`, and what is known of each file.

    A second file of the same field and visit (a copy in a sub-folder, another array) makes a second row of that
    (subject, visit), which the caller excludes as a duplicate. Raises ConfigError when a folder is missing.
    """
    prefix = len(os.path.join(os.fspath(root), ""))
    eids: list[str] = []
    visits: list[int] = []
    kinds: list[str] = []
    paths: list[str] = []
    known: dict[str, os.stat_result] = {}
    for entry in walk(root, folders):
        if m := _NAME.fullmatch(entry.name):
            eids.append(m[1])
            kinds.append(_KINDS[m[2] or m[4]])
            visits.append(int(m[3] or m[5]))
            paths.append(entry.path[prefix:])
            known[paths[-1]] = entry.stat()
    files = pa.table(
        {
            "subject_id": pa.array(eids, pa.string()), "visit": pa.array(visits, pa.int8()),
            "kind": pa.array(kinds, pa.string()), "path": pa.array(paths, pa.string()),
        }
    )  # fmt: skip
    return _side_by_side(files), known


def _side_by_side(files: pa.Table) -> pa.Table:
    """One row per (subject, visit) from one row per file.

    The files of one field and visit are numbered in sort order of their paths; those of a number make a row. A long axis
    without the others is no row.
    """
    names = ["subject_id", "visit", "kind", "path"]
    files = files.take(pc.sort_indices(files, sort_keys=[(c, "ascending") for c in names])).combine_chunks()
    owner = row_keys(files["subject_id"], files["visit"].to_numpy())
    group = pc.binary_join_element_wise(owner, files["kind"], "|").to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]][: len(group)])
    number = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    key = pc.binary_join_element_wise(owner, pa.array(number).cast(pa.string()), "|")
    wanted = pc.not_equal(files["kind"], "lax_path")
    keys = pc.filter(key, wanted).unique()
    first = files.select(["subject_id", "visit"]).take(pc.index_in(keys, value_set=key))
    for kind in PATHS:
        mine = pc.equal(files["kind"], kind)
        place = pc.index_in(keys, value_set=pc.filter(key, mine))
        first = first.append_column(kind, pc.filter(files["path"], mine).take(place))
    return first


def table_rows(path: Path) -> tuple[pa.Table, pa.Table]:
    """Rows of a CSV or Parquet with subject_id, ecg_path, cmr_path, and optional visit and lax_path; and the whole table.

    The rows' column `line` says where each stands in the table. Raises ConfigError when a needed column is missing.
    """
    table = read_text_table(path)
    for column in ("subject_id", "ecg_path", "cmr_path"):
        if column not in table.column_names:
            raise ConfigError(
                f"cohort.table: {path.name} has no column {column}; found {', '.join(table.column_names[:8])}"
            )
    visits = visits_of(table, "visit" if "visit" in table.column_names else None, path.name)
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "subject_id": normal_ids(table["subject_id"]), "visit": pa.array(visits, pa.int8())
    }  # fmt: skip
    for kind in PATHS:
        columns[kind] = pa.nulls(table.num_rows, pa.string())
        if kind in table.column_names:
            text = pc.utf8_trim_whitespace(table[kind])
            columns[kind] = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    columns["line"] = pa.array(np.arange(table.num_rows))
    return pa.table(columns), table
