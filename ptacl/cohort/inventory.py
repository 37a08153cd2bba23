"""Who is there by name: the rows of a study before any file is opened or any phenotype read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ptacl.cohort.identity import first_of_each, relative_paths, valid_ids
from ptacl.cohort.sources import table_rows, ukb_rows


@dataclass
class Inventory:
    """Rows found, less those that their names exclude.

    rows: one per (subject, visit), sorted; columns as in `ptacl.cohort.identity`. excluded: the others, with the reason.
    n_withdrawn: rows of people on the withdrawal lists, who are in neither. known: what listing the folders told about
    files, by path. table: the user's own table, where the rows come from one; their column `line` points into it.
    """

    rows: pa.Table
    excluded: list[tuple[pa.Table, str]]
    n_withdrawn: int
    known: dict[str, os.stat_result]
    table: pa.Table | None


def take_inventory(settings: Mapping[str, Any], withdrawn: set[str]) -> Inventory:
    """The rows of `settings`, the config's `cohort` section. Raises ConfigError when an input is missing or of another form."""
    rows, known, table = _rows_found(settings)
    gone = pc.is_in(rows["subject_id"], value_set=pa.array(sorted(withdrawn), pa.string()))
    rows = relative_paths(rows.filter(pc.invert(gone)), os.fspath(Path(settings["root"])))
    valid = valid_ids(rows)
    kept, duplicates = first_of_each(rows.filter(valid))
    excluded = [(rows.filter(pc.invert(valid)), "invalid_id"), (duplicates, "duplicate")]
    return Inventory(kept, excluded, pc.sum(gone).as_py() or 0, known, table)


def _rows_found(settings: Mapping[str, Any]) -> tuple[pa.Table, dict[str, os.stat_result], pa.Table | None]:
    if settings["source"] == "ukb":
        return *ukb_rows(Path(settings["root"]), settings["folders"]), None
    rows, table = table_rows(Path(settings["table"]))
    return rows, {}, table
