"""Stage cohort: subjects, exclusions, and one manifest per shard."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import write_json, write_table
from ptacl.cohort.checks import phenotype_flags
from ptacl.cohort.fields import QUANTITIES
from ptacl.cohort.files import Files
from ptacl.cohort.identity import PATHS, with_split_and_shard
from ptacl.cohort.inventory import take_inventory
from ptacl.cohort.tables import RESERVED, Columns, extra_columns, plain_columns, ukb_columns
from ptacl.cohort.withdrawals import read_withdrawals
from ptacl.errors import ConfigError

SUBJECTS, SUBJECTS_VERSION = "cohort_subjects", 2
EXCLUDED, EXCLUDED_VERSION = "cohort_excluded", 1
MANIFEST, MANIFEST_VERSION = "cohort_manifest", 1
ROOT = "ptacl.root"
FEW_SHARE = 0.5

# What decides a manifest's content: a new phenotype table or withdrawal list must not rebuild every shard.
_MANIFEST_SETTINGS = ("source", "hash_key", "fingerprint", "shards")


def build_cohort(settings: Mapping[str, Any], out_dir: Path) -> None:
    """Writes subjects.parquet, excluded.parquet, excluded_counts.json and a manifest per shard into `out_dir`.

    `settings` is the config's `cohort` section. Raises ConfigError when an input is missing or of another form.
    """
    withdrawn = read_withdrawals(settings["withdrawals"], settings["source"])
    found = take_inventory(settings, withdrawn)
    if withdrawn and not found.n_withdrawn:
        print("note: nobody on the withdrawal lists is in this cohort")
    kept = with_split_and_shard(found.rows, settings["hash_key"], settings["shards"])
    n_excluded = sum(t.num_rows for t, _ in found.excluded)
    if not kept.num_rows:
        raise ConfigError(f"cohort.root: no usable file name or row found ({n_excluded} excluded)")

    errors: Counter[str] = Counter()
    columns, diagnoses = read_phenotypes(settings, found.table, kept, errors)
    _note_few_values(columns, kept.num_rows)
    _write_subjects(settings, kept, columns, diagnoses, out_dir)
    _write_excluded(settings, found.excluded, out_dir)
    write_json(out_dir / "excluded_counts.json", {"withdrawn": found.n_withdrawn, "impossible_values": dict(errors)})
    _write_manifests(settings, kept, found.files, Path(settings["root"]), out_dir)
    print(f"{kept.num_rows} rows kept, {n_excluded} excluded by name, {found.n_withdrawn} withdrawn")
    if errors:
        print("values left out as impossible: " + ", ".join(f"{name} {n}" for name, n in sorted(errors.items())))


def read_phenotypes(
    settings: Mapping[str, Any], own: pa.Table | None, rows: pa.Table, errors: Counter[str]
) -> tuple[Columns, dict[str, pa.Array]]:
    """Quantities and diagnoses of the rows from all tables; where two tables know a value, the later one's counts.

    `own`: the user's table that the rows come from, if any. Raises ConfigError.
    """
    subjects, visits = rows["subject_id"].combine_chunks(), rows["visit"].to_numpy()
    columns: Columns = {}
    diagnoses: dict[str, pa.Array] = {}
    if own is not None:
        own = own.take(rows["line"])
        columns = plain_columns(own, Path(settings["table"]).name, errors)
    elif settings["table"]:
        columns, diagnoses = ukb_columns(Path(settings["table"]), subjects, visits, settings["icd10"], errors)
    for name in settings["extra_tables"]:
        for quantity, more in extra_columns(Path(name), subjects, visits, errors).items():
            columns[quantity] = np.where(np.isnan(more), columns.get(quantity, more), more)
    if {"height_cm", "weight_kg"} <= columns.keys():
        body = 0.007184 * columns["height_cm"] ** 0.725 * columns["weight_kg"] ** 0.425
        columns["bsa"] = np.where(np.isnan(given := columns.get("bsa", body)), body, given)
    taken = sorted(set(diagnoses) & ({*columns} | {*QUANTITIES} | {*RESERVED}))
    if taken:
        raise ConfigError(f"cohort.icd10: {taken[0]} is the name of another column; choose another")
    return columns, diagnoses


def _note_few_values(columns: Columns, n: int) -> None:
    few = {name: int(np.isfinite(v).sum()) for name, v in columns.items() if np.isfinite(v).sum() < FEW_SHARE * n}
    if few:
        print("note: few rows have a value: " + ", ".join(f"{name} {count} of {n}" for name, count in few.items()))


def _write_subjects(
    settings: Mapping[str, Any], rows: pa.Table, columns: Columns, diagnoses: Mapping[str, pa.Array], out_dir: Path
) -> None:
    table = rows.select(["subject_id", "visit", *PATHS, "split", "shard"])
    for name in [*(q for q in QUANTITIES if q in columns), *sorted(set(columns) - set(QUANTITIES))]:
        table = table.append_column(name, pa.array(columns[name], from_pandas=True))  # NaN becomes null
    for name in sorted(diagnoses):
        table = table.append_column(name, diagnoses[name])
    table = table.append_column("phenotype_flags", phenotype_flags(columns, table.num_rows))
    path = out_dir / "subjects.parquet"
    write_table(path, table.combine_chunks(), kind=SUBJECTS, version=SUBJECTS_VERSION, settings=settings)


def _write_excluded(settings: Mapping[str, Any], excluded: list[tuple[pa.Table, str]], out_dir: Path) -> None:
    tables = [
        t.select(["subject_id", "visit"]).append_column("reason", pa.array([reason] * t.num_rows, pa.string()))
        for t, reason in excluded
    ]
    table = pa.concat_tables(tables).sort_by([(c, "ascending") for c in ("subject_id", "visit", "reason")])
    path = out_dir / "excluded.parquet"
    write_table(path, table.combine_chunks(), kind=EXCLUDED, version=EXCLUDED_VERSION, settings=settings)


def _write_manifests(settings: Mapping[str, Any], rows: pa.Table, files: Files, root: Path, out_dir: Path) -> None:
    """One shard's rows with size and time of each raw file: all that the shard's jobs read."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"subject_id": rows["subject_id"], "visit": rows["visit"]}
    with_times = settings["fingerprint"] == "size_mtime"
    for path in PATHS:
        kind, place = path.removesuffix("_path"), files.places(rows[path])
        size, mtime = files.size[place], files.mtime_ns[place]
        missing = (place < 0) | (size < 0)
        columns[path] = rows[path]
        columns[f"{kind}_size"] = pa.array(size, mask=missing)
        columns[f"{kind}_mtime_ns"] = pa.array(mtime, mask=missing | (not with_times))
    # Rows stand in order of subject and visit; a stable sort keeps that inside each shard.
    shard = rows["shard"].to_numpy()
    order = np.argsort(shard, kind="stable")
    table = pa.table(columns).take(pa.array(order)).combine_chunks()
    ends = np.searchsorted(shard[order], np.arange(settings["shards"] + 1))
    for i, (start, end) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        write_table(
            out_dir / f"{i:04d}.parquet", table.slice(start, end - start), kind=MANIFEST, version=MANIFEST_VERSION,
            settings={k: settings[k] for k in _MANIFEST_SETTINGS}, extra={ROOT: str(root)},
        )  # fmt: skip
