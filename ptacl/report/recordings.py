"""The recordings of single pairs, for pages that show them; they make a page private."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptacl.artifacts import map_tensor
from ptacl.report.paper import MV_PER_COUNT, RATE, ecg_paper
from ptacl.report.pictures import Sprite, sprite
from ptacl.report.rows import Row
from ptacl.store.schema import CMR_TENSORS, ECG_TENSORS, VERSION


@dataclass(frozen=True)
class Strip:
    """An ECG on paper as SVG, its R peaks in seconds as text, and the length of its cardiac cycle in ms."""

    svg: str
    peaks: str
    cycle_ms: int


def strip(results: Path, pair: Row) -> Strip:
    """The ECG of a row of pairs.parquet."""
    path = results / f"ecg/{pair['shard']:04d}.safetensors"
    counts = map_tensor(path, "ecg", kind=ECG_TENSORS, version=VERSION[ECG_TENSORS])[pair["ecg_row"]]
    seconds = np.asarray(pair["r_peaks"], float) / RATE
    rate = pair["heart_rate_bpm"] or 60.0
    return Strip(
        ecg_paper(counts * MV_PER_COUNT, pair["r_peaks"], pair["lead_mask"]),
        " ".join(f"{s:.3f}" for s in seconds),
        round(60_000 / rate),
    )


def cine(results: Path, pair: Row) -> Sprite:
    """The cine of a row of pairs.parquet."""
    path = results / f"cmr/{pair['shard']:04d}.safetensors"
    volume = map_tensor(path, "cine", kind=CMR_TENSORS, version=VERSION[CMR_TENSORS])[pair["cmr_row"]]
    return sprite(np.asarray(volume), pair["phase_0"] or 0.0)
