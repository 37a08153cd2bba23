"""Stage cohort: subjects, exclusions, and one manifest per shard."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptacl.artifacts import write_json, write_table
from ptacl.cohort.fields import QUANTITIES
from ptacl.cohort.identity import Row, assign_splits, relative, resolve_duplicates, shard_of, shared_files
from ptacl.cohort.sources import table_rows, ukb_rows
from ptacl.cohort.tables import Values, read_plain_table, read_ukb_table
from ptacl.cohort.withdrawals import read_withdrawals
from ptacl.errors import ConfigError

SUBJECTS, EXCLUDED, MANIFEST, VERSION = "cohort_subjects", "cohort_excluded", "cohort_manifest", 1
ROOT = "ptacl.root"

_FILES = ("ecg", "cmr", "lax")
# What decides a manifest's content: a new phenotype table or withdrawal list must not rebuild every shard.
_MANIFEST_SETTINGS = ("source", "hash_key", "fingerprint", "shards")


def build_cohort(settings: Mapping[str, Any], out_dir: Path) -> None:
    """Writes subjects.parquet, excluded.parquet, excluded_counts.json and a manifest per shard into `out_dir`.

    `settings` is the config's `cohort` section. Raises ConfigError when an input is missing or of another form.
    """
    root = Path(settings["root"])
    rows, values = _read_source(settings, root)
    for name in settings["extra_tables"]:
        for key, more in read_plain_table(Path(name)).items():
            values.setdefault(key, {}).update(more)

    withdrawn = read_withdrawals(settings["withdrawals"])
    if withdrawn and not any(r.subject_id in withdrawn for r in rows):
        print("note: nobody on the withdrawal lists is in this cohort")
    n_withdrawn = sum(r.subject_id in withdrawn for r in rows)
    rows = [relative(r, root) for r in rows if r.subject_id not in withdrawn]

    valid = [r for r in rows if valid_id(r.subject_id)]
    excluded = [(r, "invalid_id") for r in rows if not valid_id(r.subject_id)]
    kept, duplicates = resolve_duplicates(valid)
    excluded += [(r, "duplicate") for r in duplicates]
    shared = shared_files(kept, root)
    excluded += [(r, "shared_file") for r in kept if (r.subject_id, r.visit) in shared]
    kept = [r for r in kept if (r.subject_id, r.visit) not in shared]
    if not kept:
        raise ConfigError(f"cohort.root: no usable file name or row found ({len(excluded)} excluded)")

    _write_subjects(settings, kept, values, out_dir)
    _write_excluded(settings, excluded, out_dir)
    write_json(out_dir / "excluded_counts.json", {"withdrawn": n_withdrawn})
    for shard in range(settings["shards"]):
        members = [r for r in kept if shard_of(r.subject_id, settings["hash_key"], settings["shards"]) == shard]
        _write_manifest(settings, members, root, out_dir / f"{shard:04d}.parquet")
    print(f"{len(kept)} rows kept, {len(excluded)} excluded by name, {n_withdrawn} withdrawn")


def valid_id(subject_id: str) -> bool:
    """Ids are letters, digits, dots, dashes and underscores, at most 64 of them."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", subject_id) is not None


def _read_source(settings: Mapping[str, Any], root: Path) -> tuple[list[Row], Values]:
    if settings["source"] == "ukb":
        return ukb_rows(root), read_ukb_table(Path(settings["table"])) if settings["table"] else {}
    if not settings["table"]:
        raise ConfigError("cohort.table: missing; the source `table` reads its rows from it")
    return table_rows(Path(settings["table"]))


def _write_subjects(settings: Mapping[str, Any], rows: list[Row], values: Values, out_dir: Path) -> None:
    rows = sorted(rows, key=lambda r: (r.subject_id, r.visit))
    splits = assign_splits([r.subject_id for r in rows], settings["hash_key"])
    found = {q for r in rows for q in values.get((r.subject_id, r.visit), {})}
    quantities = [q for q in QUANTITIES if q in found] + sorted(found - set(QUANTITIES))
    columns: dict[str, pa.Array] = {
        "subject_id": pa.array([r.subject_id for r in rows], pa.string()),
        "visit": pa.array([r.visit for r in rows], pa.int8()),
        **{f"{k}_path": pa.array([getattr(r, f"{k}_path") for r in rows], pa.string()) for k in _FILES},
        "split": pa.array([splits[r.subject_id] for r in rows], pa.string()),
        "shard": pa.array([shard_of(r.subject_id, settings["hash_key"], settings["shards"]) for r in rows], pa.int32()),
    }
    for q in quantities:
        columns[q] = pa.array([values.get((r.subject_id, r.visit), {}).get(q) for r in rows], pa.float64())
    write_table(out_dir / "subjects.parquet", pa.table(columns), kind=SUBJECTS, version=VERSION, settings=settings)


def _write_excluded(settings: Mapping[str, Any], excluded: list[tuple[Row, str]], out_dir: Path) -> None:
    excluded = sorted(excluded, key=lambda e: (e[0].subject_id, e[0].visit, e[0].paths))
    table = pa.table(
        {
            "subject_id": pa.array([r.subject_id for r, _ in excluded], pa.string()),
            "visit": pa.array([r.visit for r, _ in excluded], pa.int8()),
            "reason": pa.array([reason for _, reason in excluded], pa.string()),
        }
    )
    write_table(out_dir / "excluded.parquet", table, kind=EXCLUDED, version=VERSION, settings=settings)


def _write_manifest(settings: Mapping[str, Any], rows: list[Row], root: Path, path: Path) -> None:
    """One shard's rows with size and time of each raw file: all that the shard's jobs read."""
    rows = sorted(rows, key=lambda r: (r.subject_id, r.visit))
    columns: dict[str, pa.Array] = {
        "subject_id": pa.array([r.subject_id for r in rows], pa.string()),
        "visit": pa.array([r.visit for r in rows], pa.int8()),
    }
    for kind in _FILES:
        names = [getattr(r, f"{kind}_path") for r in rows]
        prints = [_fingerprint(root / n, settings["fingerprint"]) if n else (None, None) for n in names]
        columns[f"{kind}_path"] = pa.array(names, pa.string())
        columns[f"{kind}_size"] = pa.array([size for size, _ in prints], pa.int64())
        columns[f"{kind}_mtime_ns"] = pa.array([mtime for _, mtime in prints], pa.int64())
    write_table(
        path, pa.table(columns), kind=MANIFEST, version=VERSION,
        settings={k: settings[k] for k in _MANIFEST_SETTINGS}, extra={ROOT: str(root)},
    )  # fmt: skip


def _fingerprint(path: Path, how: str) -> tuple[int | None, int | None]:
    """Size and (where wanted) time of a file; of a folder or a WFDB record, over its files."""
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    elif path.suffix == ".hea":
        files = [path, *(p for s in (".mat", ".dat") if (p := path.with_suffix(s)).exists())]
    try:
        stats = [p.stat() for p in files]
    except OSError:
        return None, None
    size = sum(s.st_size for s in stats)
    return size, max((s.st_mtime_ns for s in stats), default=0) if how == "size_mtime" else None
