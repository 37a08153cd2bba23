"""What the training benchmarks share: lines of the table, shards of random numbers, a process of its own for each measurement."""

import math
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import write_table, write_tensors
from ptacl.store import schema
from ptacl.store.pairs import _pairs_schema
from ptacl.training.stage import Inputs

SHARD = 256

Row = dict[str, object]


def row(name: str, value: float, unit: str, peer: str, target: float | None = None, least: bool = False) -> Row:
    """One line of the table, printed at once; `target` is an upper bound, or the `least` value wanted."""
    met = None if target is None else bool(value >= target if least else value <= target)
    verdict = "" if met is None else ("met" if met else f"MISSED by {abs(value / target - 1):.0%}")
    wanted = "" if target is None else f"{target:.4g}"
    digits = 3 if abs(value) < 100 else 0
    print(f"{name:<58} {value:>9.{digits}f} {unit:<8} target {wanted:<6} {verdict:<14} {peer}", flush=True)
    return {"name": name, "value": round(value, 4), "unit": unit, "peer": peer, "target": target, "met": met}


def write_study(folder: Path, pairs: int, distinct: int, shape: Sequence[int]) -> Inputs:
    """Shards and pairs table of a training split, with cines of `shape` (slices, frames, height, width)."""
    rng = np.random.default_rng(0)
    inputs = Inputs(folder / "pairs.parquet", folder / "ecg", folder / "cmr", folder / "out")
    for shard in range(math.ceil(distinct / SHARD)):
        n = min(SHARD, distinct - shard * SHARD)
        for where, kind, name, tensor in (
            (inputs.ecg_dir, schema.ECG_TENSORS, "ecg", rng.integers(-400, 400, (n, 12, 5000), np.int16)),
            (inputs.cmr_dir, schema.CMR_TENSORS, "cine", rng.integers(0, 256, (n, *shape), np.uint8)),
        ):
            path = where / f"{shard:04d}.safetensors"
            write_tensors(path, {name: tensor}, kind=kind, version=schema.VERSION[kind], settings={})
    rows = []
    for i in range(pairs):
        shard, place = divmod(i % distinct, SHARD)
        rr = 350 + i % 150
        rows.append(
            {
                "subject_id": f"P{i:06d}", "visit": 0, "split": "train", "shard": shard, "ecg_row": place, "cmr_row": place,
                "r_peaks": np.arange(60.0, 5000.0, rr).tolist(), "phase_ok": True, "phase_0": 0.0,
                "ecg_digest": "e", "cmr_digest": "c",
            }
        )  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=_pairs_schema())
    write_table(inputs.pairs, table, kind=schema.PAIRS, version=schema.VERSION[schema.PAIRS], settings={})
    return inputs


def in_own_process(work: Callable[..., Any], *arguments: object) -> Any:
    """The result of `work` in a fresh process, so that its peak memory and compiled code are its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
