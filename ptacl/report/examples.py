"""A few ECGs beside their cines, without names; they make the report private."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from ptacl.artifacts import read_tensors
from ptacl.report.figures import ecg_paper
from ptacl.report.load import Row, Study
from ptacl.report.tables import LEADS

MV_PER_COUNT = 0.005
ENLARGE_TO = 150


def build_examples(study: Study, results: Path, count: int) -> list[dict[str, Any]]:
    """The first pairs of the test split in the order of their shard: ECG paper, cine sprite, what is known."""
    rows = [p for p in study.pairs if p["split"] == "test"]
    rows = sorted(rows, key=lambda r: (r["shard"], r["ecg_row"]))[:count]
    return [_example(chr(ord("A") + i), r, results, study) for i, r in enumerate(rows)]


def _example(name: str, pair: Mapping[str, Any], results: Path, study: Study) -> dict[str, Any]:
    shard = f"{pair['shard']:04d}.safetensors"
    strip = read_tensors(results / "ecg" / shard, kind="ecg_tensors", version=1)["ecg"][pair["ecg_row"]]
    cine = read_tensors(results / "cmr" / shard, kind="cmr_tensors", version=1)["cine"][pair["cmr_row"]]
    subject = next(s for s in study.subjects if (s["subject_id"], s["visit"]) == (pair["subject_id"], pair["visit"]))
    return {
        "name": name,
        "ecg": ecg_paper(strip * MV_PER_COUNT, pair["r_peaks"], LEADS),
        "sprite": sprite(cine),
        "frames": cine.shape[1],
        "height": ENLARGE_TO,
        "width": ENLARGE_TO * cine.shape[0],
        "ms": round((pair["rr_ms"] or 1000) / cine.shape[1]),
        "facts": _facts(pair, subject),
    }


def _facts(pair: Mapping[str, Any], subject: Row) -> list[tuple[str, str]]:
    facts: list[tuple[str, Any, str]] = [
        ("heart rate at the ECG", pair["heart_rate_bpm"], "/min"), ("RR at the MRI", pair["rr_ms"], "ms"),
        *((name, subject.get(name), unit) for name, unit in (("LVEDV", "ml"), ("LVEF", "%"), ("LVM", "g"))),
    ]  # fmt: skip
    return [(k, f"{v:.0f} {u}") for k, v, u in facts if v is not None]


def sprite(cine: np.ndarray) -> str:
    """A cine [S, T, H, W] as one PNG: frames below each other, slices side by side, enlarged; base64."""
    repeat = -(-ENLARGE_TO // cine.shape[-1])
    frames = np.concatenate([np.concatenate(list(cine[:, t]), axis=1) for t in range(cine.shape[1])], axis=0)
    big = np.kron(frames, np.ones((repeat, repeat), np.uint8))
    buffer = io.BytesIO()
    no_metadata: dict[str, Any] = {"Software": None}
    matplotlib.image.imsave(buffer, big, cmap="gray", vmin=0, vmax=255, format="png", metadata=no_metadata)
    return base64.b64encode(buffer.getvalue()).decode()
