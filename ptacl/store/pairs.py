"""Stage pairs: who has a usable ECG and a usable cine of the same visit, and why everyone else has not."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ptacl.artifacts import read_table, table_metadata, write_json, write_table
from ptacl.errors import PtaclError
from ptacl.store import schema

# Columns carried along from the shards' tables: what training and alignment need, and no phenotype, so that a new
# phenotype table trains nothing again.
_ECG_COLUMNS = {
    "r_peaks": pa.list_(pa.float32()), "phase_ok": pa.bool_(), "t_end_ms": pa.float32(),
    "heart_rate_bpm": pa.float32(), "lead_mask": pa.list_(pa.bool_()),
}  # fmt: skip
_CMR_COLUMNS = {"rr_ms": pa.float32(), "phase_0": pa.float32(), "ed_frame": pa.int32(), "es_frame": pa.int32()}


def build_pairs(
    cohort_dir: Path, ecg_tables: list[Path], cmr_tables: list[Path], settings: Mapping[str, Any], out_dir: Path
) -> None:
    """Writes pairs.parquet, excluded.parquet and flow.json into `out_dir`.

    Every (subject, visit) row the cohort found is either a pair or excluded with its first reason; the withdrawn
    are counted only. Raises PtaclError, naming the commonest reasons, when no pair is left.
    """
    subjects = _read(cohort_dir / "subjects.parquet", schema.COHORT_SUBJECTS, ["subject_id", "visit", "split", "shard"])
    keys = _keys(subjects)
    ecg = _rows_of(keys, ecg_tables, schema.ECG_TABLE, list(_ECG_COLUMNS))
    cmr = _rows_of(keys, cmr_tables, schema.CMR_TABLE, list(_CMR_COLUMNS))
    of_ecg, of_cmr = _reasons(ecg, "ecg"), _reasons(cmr, "cmr")
    reason = pc.coalesce(of_ecg, of_cmr)
    usable = pc.is_null(reason)
    excluded = pa.concat_tables(
        [
            _excluded(_read(cohort_dir / "excluded.parquet", schema.COHORT_EXCLUDED), "cohort"),
            _excluded(_with(subjects, reason=of_ecg).filter(pc.is_valid(of_ecg)), "ecg"),
            _excluded(_with(subjects, reason=of_cmr).filter(pc.and_(pc.is_null(of_ecg), pc.is_valid(of_cmr))), "cmr"),
        ]
    )
    withdrawn = json.loads((cohort_dir / "excluded_counts.json").read_text())["withdrawn"]
    counts = Counter({r["values"]: r["counts"] for r in excluded["reason"].value_counts().to_pylist()})
    counts += Counter(withdrawn=withdrawn)
    pairs = _with(
        subjects, ecg_row=ecg["tensor_row"], cmr_row=cmr["tensor_row"], **{c: ecg[c] for c in _ECG_COLUMNS},
        **{c: cmr[c] for c in _CMR_COLUMNS}, ecg_digest=ecg["digest"], cmr_digest=cmr["digest"],
    ).filter(usable)  # fmt: skip
    if not pairs.num_rows:
        top = ", ".join(f"{reason} {n}" for reason, n in counts.most_common(3))
        raise PtaclError(f"no pair is left of {counts.total()} rows; the commonest reasons are {top}")

    _write(out_dir / "pairs.parquet", pairs, _pairs_schema(), schema.PAIRS, settings)
    _write(out_dir / "excluded.parquet", excluded, _excluded_schema(), schema.EXCLUDED, settings)
    flow = {"subjects": pairs.num_rows + counts.total(), "excluded": dict(counts), "pairs": pairs.num_rows}
    write_json(out_dir / "flow.json", flow)
    print(f"{pairs.num_rows} pairs of {flow['subjects']} rows")


def _read(path: Path, kind: str, columns: list[str] | None = None) -> pa.Table:
    return read_table(path, kind=kind, version=schema.VERSION[kind], columns=columns)


def _with(table: pa.Table, **columns: pa.Array | pa.ChunkedArray) -> pa.Table:
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _keys(table: pa.Table) -> pa.ChunkedArray:
    """One text per (subject, visit), to look rows up by."""
    return pc.binary_join_element_wise(table["subject_id"], table["visit"].cast(pa.string()), "|")


def _rows_of(keys: pa.ChunkedArray, tables: list[Path], kind: str, columns: list[str]) -> pa.Table:
    """The shards' rows in the order of `keys`, null where there is none, each with the digest of its shard's tensors."""
    parts = []
    for path in tables:
        table = _read(path, kind, ["subject_id", "visit", "status", "reason", "tensor_row", *columns])
        digest = pa.repeat(pa.scalar(table_metadata(table)[schema.TENSORS_DIGEST]), table.num_rows)
        parts.append(table.replace_schema_metadata().append_column("digest", digest))
    rows = pa.concat_tables(parts)
    return rows.take(pc.index_in(keys, value_set=_keys(rows).combine_chunks()))


def _reasons(rows: pa.Table, stage: str) -> pa.ChunkedArray:
    """Why each row can't be used, null where it can: `no_ecg`, or the stage with the shard's own reason."""
    status = pc.fill_null(rows["status"], "absent")
    own = pc.binary_join_element_wise(pa.scalar(stage), pc.fill_null(rows["reason"], "unknown"), "_")
    nothing = pa.scalar(None, pa.string())
    return pc.case_when(
        pc.make_struct(pc.equal(status, "absent"), pc.not_equal(status, "ok")), pa.scalar(f"no_{stage}"), own, nothing
    )


def _excluded(table: pa.Table, stage: str) -> pa.Table:
    stages = pa.repeat(pa.scalar(stage), table.num_rows)
    return _with(table.replace_schema_metadata().select(["subject_id", "visit", "reason"]), stage=stages)


def _pairs_schema() -> pa.Schema:
    return pa.schema(
        {
            "subject_id": pa.string(), "visit": pa.int8(), "split": pa.string(), "shard": pa.int32(),
            "ecg_row": pa.int32(), "cmr_row": pa.int32(), **_ECG_COLUMNS, **_CMR_COLUMNS,
            "ecg_digest": pa.string(), "cmr_digest": pa.string(),
        }
    )  # fmt: skip


def _excluded_schema() -> pa.Schema:
    return pa.schema({"subject_id": pa.string(), "visit": pa.int8(), "stage": pa.string(), "reason": pa.string()})


def _write(path: Path, rows: pa.Table, columns: pa.Schema, kind: str, settings: Mapping[str, Any]) -> None:
    order = [(c, "ascending") for c in ("subject_id", "visit", "reason") if c in columns.names]
    table = rows.select(columns.names).cast(columns).sort_by(order).combine_chunks()
    write_table(path, table, kind=kind, version=schema.VERSION[kind], settings=settings)
