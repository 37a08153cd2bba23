"""Stage ecg: one shard of recordings to tensors and a table with a row for everyone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table, table_metadata, tensor_digest, write_table, write_tensors
from ptacl.ecg.clean import SAMPLES, CleanEcg, clean_ecg
from ptacl.ecg.phase import BEAT_SAMPLES
from ptacl.ecg.readers import read_ecg
from ptacl.ecg.record import MEASUREMENTS, EcgRecord
from ptacl.errors import RecordError

TABLE, TENSORS, TABLE_VERSION, TENSORS_VERSION = "ecg_table", "ecg_tensors", 2, 1
MANIFEST, MANIFEST_VERSION = "cohort_manifest", 1

SCHEMA = pa.schema(
    {
        "subject_id": pa.string(), "visit": pa.int8(), "status": pa.string(), "reason": pa.string(),
        "flags": pa.list_(pa.string()), "format": pa.string(), "statements": pa.list_(pa.string()),
        "lead_mask": pa.list_(pa.bool_()), "heart_rate_bpm": pa.float32(),
        "r_peaks": pa.list_(pa.float32()), "t_end_ms": pa.float32(), "phase_ok": pa.bool_(),
        "r_method": pa.string(), "r_agreement": pa.float32(), "beats_matched": pa.float32(),
        "rr_irregularity": pa.float32(), **dict.fromkeys(MEASUREMENTS, pa.float32()),
        "noise_ratio": pa.float32(), "drift_uv": pa.float32(), "einthoven_uv": pa.float32(),
        "tensor_row": pa.int32(),
    }
)  # fmt: skip


def build_shard(
    manifest: Path, settings: Mapping[str, Any], tensors: Path, table: Path, *, source: str = "ukb"
) -> None:
    """Reads and cleans every ECG of a manifest; a record that can't be used is a row with its reason.

    `settings`: corner_hz, mains_hz, poor_quality, pacemaker. Writes `ecg` int16 [n,12,5000] and `median_beat` int16 [n,12,600].
    """
    members = read_table(manifest, kind=MANIFEST, version=MANIFEST_VERSION)
    root = Path(table_metadata(members)["ptacl.root"])
    rows: list[dict[str, Any]] = []
    strips: list[np.ndarray] = []
    beats: list[np.ndarray] = []
    for member in members.select(["subject_id", "visit", "ecg_path"]).to_pylist():
        row, ecg = read_member(member, root, settings, source)
        if ecg is not None:
            row["tensor_row"] = len(strips)
            strips.append(ecg.counts)
            beats.append(ecg.median_beat)
        rows.append(row)
    arrays = {
        "ecg": np.stack(strips) if strips else np.zeros((0, 12, SAMPLES), np.int16),
        "median_beat": np.stack(beats) if beats else np.zeros((0, 12, BEAT_SAMPLES), np.int16),
    }
    write_tensors(tensors, arrays, kind=TENSORS, version=TENSORS_VERSION, settings=settings)
    write_table(
        table, pa.Table.from_pylist(rows, schema=SCHEMA), kind=TABLE, version=TABLE_VERSION, settings=settings,
        extra={"ptacl.tensors": tensor_digest(arrays)},
    )  # fmt: skip
    print(f"{len(strips)} of {len(rows)} rows usable")


def read_member(
    member: Mapping[str, Any], root: Path, settings: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], CleanEcg | None]:
    """A manifest's row (subject_id, visit, ecg_path) to its row in the table and its strip; None where unusable."""
    row: dict[str, Any] = {"subject_id": member["subject_id"], "visit": member["visit"], "flags": []}
    if member["ecg_path"] is None:
        return row | {"status": "absent"}, None
    try:
        record = read_ecg(root / member["ecg_path"])
        ecg = clean_ecg(record, settings, source)
        return row | _columns(record, ecg) | {"status": "ok"}, ecg
    except RecordError as e:
        return row | {"status": "excluded", "reason": e.code}, None
    except Exception as e:  # one odd record must not cost the shard
        return row | {"status": "excluded", "reason": "internal_error", "flags": [type(e).__name__]}, None


def _columns(record: EcgRecord, ecg: CleanEcg) -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return float(value) if value is not None and np.isfinite(value) else None

    return {
        "flags": sorted(ecg.flags), "format": record.format, "statements": sorted(record.statements),
        "lead_mask": ecg.lead_mask.tolist(),
        "heart_rate_bpm": number(ecg.heart_rate_bpm), "r_peaks": ecg.r_peaks.tolist(),
        "t_end_ms": number(ecg.t_end_ms), "phase_ok": ecg.phase_ok, "r_method": ecg.r_method,
        "r_agreement": number(ecg.r_agreement), "beats_matched": number(ecg.beats_matched),
        "rr_irregularity": number(ecg.rr_irregularity), "noise_ratio": number(ecg.noise_ratio),
        "drift_uv": number(ecg.drift_uv), "einthoven_uv": number(ecg.einthoven_uv),
        **{k: number(record.measurements.get(k)) for k in MEASUREMENTS},
    }  # fmt: skip
