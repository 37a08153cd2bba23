"""Stage pairs: who has a usable ECG and a usable cine of the same visit, and why everyone else has not."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptacl.artifacts import read_table, table_metadata, write_json, write_table
from ptacl.errors import PtaclError
from ptacl.store import schema

Key = tuple[str, int]

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
    subjects = read_table(
        cohort_dir / "subjects.parquet", kind=schema.COHORT_SUBJECTS, version=schema.VERSION[schema.COHORT_SUBJECTS]
    )
    ecg = _shard_rows(ecg_tables, schema.ECG_TABLE)
    cmr = _shard_rows(cmr_tables, schema.CMR_TABLE)
    pairs: list[dict[str, Any]] = []
    excluded = [
        {"subject_id": r["subject_id"], "visit": r["visit"], "stage": "cohort", "reason": r["reason"]}
        for r in read_table(
            cohort_dir / "excluded.parquet", kind=schema.COHORT_EXCLUDED, version=schema.VERSION[schema.COHORT_EXCLUDED]
        ).to_pylist()
    ]
    for row in subjects.select(["subject_id", "visit", "split", "shard"]).to_pylist():
        key = row["subject_id"], row["visit"]
        stage, reason = _first_reason(ecg.get(key), cmr.get(key))
        if reason:
            excluded.append({"subject_id": key[0], "visit": key[1], "stage": stage, "reason": reason})
        else:
            pairs.append({**row, **_columns(ecg[key], cmr[key])})
    withdrawn = json.loads((cohort_dir / "excluded_counts.json").read_text())["withdrawn"]
    counts = Counter(r["reason"] for r in excluded) + Counter(withdrawn=withdrawn)
    if not pairs:
        top = ", ".join(f"{reason} {n}" for reason, n in counts.most_common(3))
        raise PtaclError(f"no pair is left of {counts.total()} rows; the commonest reasons are {top}")

    order = {"key": lambda r: (r["subject_id"], r["visit"], r.get("reason", ""))}
    _write(out_dir / "pairs.parquet", sorted(pairs, **order), _pairs_schema(), schema.PAIRS, settings)
    _write(out_dir / "excluded.parquet", sorted(excluded, **order), _excluded_schema(), schema.EXCLUDED, settings)
    flow = {"subjects": len(pairs) + counts.total(), "excluded": dict(counts), "pairs": len(pairs)}
    write_json(out_dir / "flow.json", flow)
    print(f"{len(pairs)} pairs of {flow['subjects']} rows")


def _shard_rows(tables: list[Path], kind: str) -> dict[Key, dict[str, Any]]:
    """Rows of all shards by (subject, visit), each with the digest of its shard's tensors."""
    rows = {}
    for path in tables:
        table = read_table(path, kind=kind, version=schema.VERSION[kind])
        digest = table_metadata(table)[schema.TENSORS_DIGEST]
        for row in table.to_pylist():
            rows[row["subject_id"], row["visit"]] = {**row, "digest": digest}
    return rows


def _first_reason(ecg: dict[str, Any] | None, cmr: dict[str, Any] | None) -> tuple[str, str | None]:
    for stage, row in (("ecg", ecg), ("cmr", cmr)):
        if row is None or row["status"] == "absent":
            return stage, f"no_{stage}"
        if row["status"] != "ok":
            return stage, f"{stage}_{row['reason']}"
    return "", None


def _columns(ecg: dict[str, Any], cmr: dict[str, Any]) -> dict[str, Any]:
    return {
        "ecg_row": ecg["tensor_row"], "cmr_row": cmr["tensor_row"],
        **{c: ecg[c] for c in _ECG_COLUMNS}, **{c: cmr[c] for c in _CMR_COLUMNS},
        "ecg_digest": ecg["digest"], "cmr_digest": cmr["digest"],
    }  # fmt: skip


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


def _write(path: Path, rows: list[dict[str, Any]], table: pa.Schema, kind: str, settings: Mapping[str, Any]) -> None:
    data = pa.Table.from_pylist(rows, schema=table)
    write_table(path, data, kind=kind, version=schema.VERSION[kind], settings=settings)
