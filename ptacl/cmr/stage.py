"""Stage cmr: one shard of cines to tensors, views and a table with a row for everyone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table, table_metadata, tensor_digest, write_table, write_tensors
from ptacl.cmr import quality
from ptacl.cmr.centre import heart_centre
from ptacl.cmr.readers import read_cine
from ptacl.cmr.record import Cine
from ptacl.cmr.tensor import cardiac_frames, choose_slices, make_tensor
from ptacl.cmr.view import PIXELS, View, view
from ptacl.errors import RecordError

TABLE, TENSORS, TABLE_VERSION, TENSORS_VERSION = "cmr_table", "cmr_tensors", 2, 1
VIEWS, VIEWS_VERSION = "cmr_views", 1
MANIFEST, MANIFEST_VERSION = "cohort_manifest", 1

SCHEMA = pa.schema(
    {
        "subject_id": pa.string(), "visit": pa.int8(), "status": pa.string(), "reason": pa.string(),
        "flags": pa.list_(pa.string()), "n_slices": pa.int32(), "n_frames": pa.int32(),
        "spacing_mm": pa.list_(pa.float32()), "slice_step_mm": pa.float32(),
        "slice_positions_mm": pa.list_(pa.float32()), "centre_mm": pa.list_(pa.float32()),
        "centre_method": pa.string(), "centre_confidence": pa.float32(), "rr_ms": pa.float32(),
        "phase_0": pa.float32(), "ed_frame": pa.int32(), "es_frame": pa.int32(), "es_method": pa.string(),
        "tensor_row": pa.int32(),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Cut:
    """What is kept of a cine: volume uint8 [slices, frames, size, size], and the middle slice's end-diastole as a whole."""

    volume: np.ndarray
    view: View


def build_shard(
    manifest: Path, settings: Mapping[str, Any], tensors: Path, views: Path, table: Path, *, source: str = "ukb"
) -> None:
    """Reads and cuts every cine of a manifest; a record that can't be used is a row with its reason.

    `settings`: slices, frames, frame_ms, crop_mm, size. Writes `cine` uint8 [n, slices, frames, size, size], and for
    people to look at `view` uint8 [n, 128, 128] and `box` float32 [n, 3] (`ptacl.cmr.view.View`).
    """
    members = read_table(manifest, kind=MANIFEST, version=MANIFEST_VERSION)
    root = Path(table_metadata(members)["ptacl.root"])
    rows: list[dict[str, Any]] = []
    volumes: list[np.ndarray] = []
    seen: list[View] = []
    for member in members.select(["subject_id", "visit", "cmr_path", "lax_path"]).to_pylist():
        row, cut = read_member(member, root, settings, source)
        if cut is not None:
            row["tensor_row"] = len(volumes)
            volumes.append(cut.volume)
            seen.append(cut.view)
        rows.append(row)
    shape = (0, settings["slices"], settings["frames"], settings["size"], settings["size"])
    arrays = {"cine": np.stack(volumes) if volumes else np.zeros(shape, np.uint8)}
    write_tensors(tensors, arrays, kind=TENSORS, version=TENSORS_VERSION, settings=settings)
    pictures = {
        "view": np.stack([v.image for v in seen]) if seen else np.zeros((0, PIXELS, PIXELS), np.uint8),
        "box": np.stack([v.box for v in seen]) if seen else np.zeros((0, 3), np.float32),
    }
    write_tensors(views, pictures, kind=VIEWS, version=VIEWS_VERSION, settings=settings)
    write_table(
        table, pa.Table.from_pylist(rows, schema=SCHEMA), kind=TABLE, version=TABLE_VERSION, settings=settings,
        extra={"ptacl.tensors": tensor_digest(arrays)},
    )  # fmt: skip
    print(f"{len(volumes)} of {len(rows)} rows usable")


def read_member(
    member: Mapping[str, Any], root: Path, settings: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], Cut | None]:
    """A manifest's row (subject_id, visit, cmr_path, lax_path) to its row in the table and its cine; None where unusable."""
    row: dict[str, Any] = {"subject_id": member["subject_id"], "visit": member["visit"], "flags": []}
    if member["cmr_path"] is None:
        return row | {"status": "absent"}, None
    long_axis = root / member["lax_path"] if member["lax_path"] else None
    try:
        cut, columns = _record(root / member["cmr_path"], long_axis, settings, source)
        return row | columns | {"status": "ok"}, cut
    except RecordError as e:
        return row | {"status": "excluded", "reason": e.code}, None
    except Exception as e:  # one odd record must not cost the shard
        return row | {"status": "excluded", "reason": "internal_error", "flags": [type(e).__name__]}, None


def _record(path: Path, long_axis: Path | None, settings: Mapping[str, Any], source: str) -> tuple[Cut, dict[str, Any]]:
    cine = _with_chosen_slices(read_cine(path, source, settings["frame_ms"]), settings["slices"], source)
    centre = heart_centre(cine, long_axis)
    volume, chosen = make_tensor(cine, centre.point_mm, settings)
    quality.check_contrast(volume)
    ed, es = cardiac_frames(volume, settings["crop_mm"], source)
    middle = cine.slices[chosen[len(chosen) // 2]]
    seen = view(middle, ed, settings["frames"], centre.point_mm, settings["crop_mm"])
    return Cut(volume, seen), {
        "flags": sorted(cine.flags), "n_slices": len(cine.slices), "n_frames": cine.n_frames,
        "spacing_mm": list(cine.slices[0].spacing_mm), "slice_step_mm": cine.slice_step_mm,
        "slice_positions_mm": cine.positions_mm[chosen].tolist(), "centre_mm": centre.point_mm.tolist(),
        "centre_method": centre.method, "centre_confidence": centre.confidence, "rr_ms": cine.rr_ms,
        "phase_0": cine.phase_0, "ed_frame": ed, "es_frame": es, "es_method": "unlike_ed",
    }  # fmt: skip


def _with_chosen_slices(cine: Cine, count: int, source: str) -> Cine:
    """The stack with the slices that go into the tensor decoded; raises RecordError.

    A slice that can't be decoded leaves the stack, which moves the choice.
    """
    while True:
        quality.check(cine, source, count)
        decoded = cine.decoded(choose_slices(cine.positions_mm, count))
        if len(decoded.slices) == len(cine.slices):
            return decoded
        cine = decoded
