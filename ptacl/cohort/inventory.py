"""Who is there, with which files: the rows of a study before any recording or phenotype is read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptacl.cohort.files import Files, facts, shared
from ptacl.cohort.identity import first_of_each, relative_paths, valid_ids
from ptacl.cohort.sources import table_rows, ukb_rows
from ptacl.cohort.tables import row_keys
from ptacl.cohort.withdrawals import on_lists


@dataclass
class Inventory:
    """Rows found, less those that names and files exclude.

    rows: one per (subject, visit), sorted; columns as in `ptacl.cohort.identity`. excluded: the others, with the reason.
    n_withdrawn: rows of people on the withdrawal lists, who are in neither. files: facts about the rows' files. table:
    the user's own table, where the rows come from one; their column `line` points into it.
    """

    rows: pa.Table
    excluded: list[tuple[pa.Table, str]]
    n_withdrawn: int
    files: Files
    table: pa.Table | None


def take_inventory(settings: Mapping[str, Any], withdrawn: set[str], *, compare_files: bool = True) -> Inventory:
    """The rows of `settings`, the config's `cohort` section. Raises ConfigError when an input is missing or of another form.

    `compare_files` looks for files that serve two people, which takes time on a slow file system.
    """
    root = Path(settings["root"])
    found, known, table = _rows_found(settings)
    found = relative_paths(found, os.fspath(root))
    files = facts(found, root, known)
    # Among all rows: also a file that somebody shares with a duplicate, or with one who has withdrawn, may be another's.
    is_shared = _of_visit(found, shared(found, files)) if compare_files else np.zeros(found.num_rows, bool)
    found = found.append_column("shared", pa.array(is_shared))
    gone = on_lists(found["subject_id"], withdrawn)
    rows = found.filter(pc.invert(gone))
    valid = valid_ids(rows)
    kept, duplicates = first_of_each(rows.filter(valid))
    excluded = [
        (rows.filter(pc.invert(valid)), "invalid_id"), (duplicates, "duplicate"),
        (kept.filter(kept["shared"]), "shared_file"),
    ]  # fmt: skip
    kept = kept.filter(pc.invert(kept["shared"])).combine_chunks()
    return Inventory(kept.drop_columns("shared"), excluded, pc.sum(gone).as_py() or 0, files, table)


def _of_visit(rows: pa.Table, mask: np.ndarray) -> np.ndarray:
    """True for every row of a (subject, visit) of which any row is in `mask`, bool [n]."""
    keys = row_keys(rows["subject_id"], rows["visit"].to_numpy())
    return pc.is_in(keys, value_set=pc.filter(keys, pa.array(mask)).unique()).to_numpy()


def _rows_found(settings: Mapping[str, Any]) -> tuple[pa.Table, dict[str, os.stat_result], pa.Table | None]:
    if settings["source"] == "ukb":
        return *ukb_rows(Path(settings["root"]), settings["folders"]), None
    rows, table = table_rows(Path(settings["table"]))
    return rows, {}, table
