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
from ptacl.cohort.text import (
    ID_COLUMNS,
    VISIT_COLUMNS,
    first_names,
    normal_ids,
    one_column,
    read_text_table,
    visits_of,
)
from ptacl.errors import ConfigError
from ptacl.logs import mask_ids

_KINDS = {"20205": "ecg_path", "20209": "cmr_path", "20208": "lax_path"}
_NAME = re.compile(
    r"([0-9]+)_(?:(20205)_([0-9]{1,2})_[0-9]+\.xml|(20208|20209)_([0-9]{1,2})_[0-9]+\.zip)", re.IGNORECASE
)


def walk(root: Path, folders: Sequence[str] = ()) -> Iterator[os.DirEntry[str]]:
    """Every file below `root`, or below these folders of it; folder by folder in sort order of names.

    Links to folders are not followed, links in a circle are no files. Raises ConfigError where there is no such folder, or
    it lies outside `root`, or one below it can't be listed: who is in there would be lost.
    """
    if not os.path.isdir(root):
        raise ConfigError(f"cohort.root: {mask_ids(str(root))} is no folder")
    for i, folder in enumerate(folders):
        if os.path.isabs(folder) or ".." in Path(folder).parts or not os.path.isdir(root / folder):
            raise ConfigError(f"cohort.folders[{i}]: {folder!r} is no folder below cohort.root")
    chosen = {PurePosixPath(f) for f in folders} or {PurePosixPath(".")}
    # A folder inside another chosen one is walked with that. Joined as text, so that every path begins with the root's.
    base = os.fspath(root)
    waiting = [
        base if f == PurePosixPath(".") else os.path.join(base, f)
        for f in sorted(chosen, reverse=True)
        if not chosen & set(f.parents)
    ]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as e:
            # Without its name, which may be an id.
            raise ConfigError(
                f"cohort.root: a folder below {mask_ids(str(root))} can't be listed ({type(e).__name__})"
            ) from None
        waiting += [e.path for e in reversed(entries) if e.is_dir(follow_symlinks=False)]
        yield from filter(_is_file, entries)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False


def recordings(root: Path, folders: Sequence[str] = ()) -> Iterator[os.DirEntry[str]]:
    """Those files of `walk` that UK Biobank's names say are an ECG or a cine."""
    return (entry for entry in walk(root, folders) if _NAME.fullmatch(entry.name))


def ukb_rows(root: Path, folders: Sequence[str] = ()) -> tuple[pa.Table, dict[str, os.stat_result]]:
    """Rows of `{eid}_{field}_{instance}_{array}.{xml,zip}` files anywhere below `root`, and what is known of each file.

    A second file of the same field and visit (a copy in a sub-folder, another array) makes a second row of that
    (subject, visit), which the caller excludes as a duplicate. Raises ConfigError as `walk` does, and for a folder whose
    name is no UTF-8.
    """
    prefix = len(os.path.join(os.fspath(root), ""))
    eids: list[str] = []
    visits: list[int] = []
    kinds: list[str] = []
    paths: list[str] = []
    known: dict[str, os.stat_result] = {}
    for entry in recordings(root, folders):
        if m := _NAME.fullmatch(entry.name):
            eids.append(m[1])
            kinds.append(_KINDS[m[2] or m[4]])
            visits.append(int(m[3] or m[5]))
            paths.append(entry.path[prefix:])
            known[paths[-1]] = entry.stat()
            if not _is_utf8(paths[-1]):
                raise ConfigError(
                    f"cohort.root: the name of a folder below {mask_ids(str(root))} is not UTF-8; rename it"
                )
    files = pa.table(
        {
            "subject_id": pa.array(eids, pa.string()), "visit": pa.array(visits, pa.int8()),
            "kind": pa.array(kinds, pa.string()), "path": pa.array(paths, pa.string()),
        }
    )  # fmt: skip
    return _side_by_side(files), known


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _side_by_side(files: pa.Table) -> pa.Table:
    """One row per (subject, visit) from one row per file.

    The files of one field and visit are numbered in sort order of their paths; those of a number make a row. Somebody with
    nothing but a long axis has no row.
    """
    names = ["subject_id", "visit", "kind", "path"]
    files = files.take(pc.sort_indices(files, sort_keys=[(c, "ascending") for c in names])).combine_chunks()
    owner = row_keys(files["subject_id"], files["visit"].to_numpy())
    group = pc.binary_join_element_wise(owner, files["kind"], "|").to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]][: len(group)])
    number = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    key = pc.binary_join_element_wise(owner, pa.array(number).cast(pa.string()), "|")
    others = pc.filter(owner, pc.not_equal(files["kind"], "lax_path")).unique()
    keys = pc.filter(key, pc.is_in(owner, value_set=others)).unique()
    first = files.select(["subject_id", "visit"]).take(pc.index_in(keys, value_set=key))
    for kind in PATHS:
        mine = pc.equal(files["kind"], kind)
        place = pc.index_in(keys, value_set=pc.filter(key, mine))
        first = first.append_column(kind, pc.filter(files["path"], mine).take(place))
    return first


def table_rows(path: Path) -> tuple[pa.Table, pa.Table]:
    """Rows of a CSV or Parquet with subject_id, ecg_path, cmr_path, and optional visit (or instance) and lax_path; and the table.

    The rows' column `line` says where each stands in the table. Raises ConfigError when a needed column is missing.
    """
    table = read_text_table(path)
    for column in ("subject_id", "ecg_path", "cmr_path"):
        if column not in table.column_names:
            raise ConfigError(
                f"cohort.table: {path.name} has no column {column}; found {first_names(table.column_names, 8)}"
            )
    one_column(table, ID_COLUMNS, path.name)
    visits = visits_of(table, one_column(table, VISIT_COLUMNS, path.name), path.name)
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
