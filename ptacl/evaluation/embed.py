"""Stage embed: what a trained model makes of every pair."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from ptacl.artifacts import write_table
from ptacl.model import phase
from ptacl.model.encoders import EcgEncoder
from ptacl.model.ptacl import Ptacl
from ptacl.store.dataset import PairedDataset
from ptacl.training.checkpoint import load_weights
from ptacl.training.stage import pick_device

EMBEDDINGS, VERSION = "embeddings", 1
COLUMNS = (
    "ecg_feature", "cmr_feature", "ecg_proj", "cmr_proj", "ecg_phase", "cmr_phase", "ecg_phase_feature",
)  # fmt: skip
# Starts of the three windows 0-5, 2.5-7.5 and 5-10 s.
WINDOWS = (0, 1250, 2500)
BATCH = 128


def embed(
    model_dir: Path,
    pairs: Path,
    ecg_dir: Path,
    cmr_dir: Path,
    settings: Mapping[str, Any],
    out: Path,
    *,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Writes one row per pair with the columns of docs/artifacts.md; null where a method has none.

    `settings`: encoder, method, scale, cmr, phase.
    """
    torch.set_num_threads(threads)
    where = pick_device(device)
    weights = load_weights(model_dir / "model.safetensors")
    paired = any(k.startswith("cmr.") for k in weights)
    model: Ptacl | EcgOnly = Ptacl(**settings["cmr"]) if paired else EcgOnly()
    model.load_state_dict(weights)
    model.to(where).eval()
    data = PairedDataset.load(pairs, ecg_dir, cmr_dir).to(where)
    columns: dict[str, list[Any]] = {c: [] for c in COLUMNS}
    with torch.no_grad():
        for rows in torch.arange(len(data), device=where).split(BATCH):
            batch = _embed_batch(model, data, rows, settings)
            for c in COLUMNS:
                columns[c] += batch.get(c, [None] * len(rows))
    table = pa.table(
        {
            "subject_id": pa.array(data.subject_id, pa.string()),
            "visit": pa.array(data.visit, pa.int8()),
            "split": pa.array(data.split, pa.string()),
            **{c: pa.array(v, pa.list_(pa.float32())) for c, v in columns.items()},
        }
    )
    write_table(out, table, kind=EMBEDDINGS, version=VERSION, settings=settings)


class EcgOnly(torch.nn.Module):
    """A method without a CMR side."""

    def __init__(self) -> None:
        super().__init__()
        self.ecg = EcgEncoder()


def _embed_batch(
    model: Ptacl | EcgOnly, data: PairedDataset, rows: Tensor, settings: Mapping[str, Any]
) -> dict[str, list[Any]]:
    """Columns of a batch, as lists of arrays; rows without usable phase hold None in the phase columns."""
    bins, kappa = settings["phase"]["bins"], settings["phase"]["kappa"]
    tokens, binned, weight = [], torch.zeros(()), torch.zeros(())
    for start in WINDOWS:
        x, r_peaks = data.ecg_batch(rows, torch.full((len(rows),), start, device=rows.device), settings["scale"])
        t = model.ecg(x)
        phi, inside = phase.ecg_slot_phase(r_peaks)
        w = phase.bin_weights(phi, bins, kappa, inside.to(phi.dtype))
        tokens.append(t)
        binned, weight = binned + w @ t, weight + w.sum(-1, keepdim=True)
    ecg_bins = binned / weight.clamp_min(1e-6)
    ok = (weight[..., 0] >= phase.MIN_WEIGHT).all(1) & data.phase_ok[rows]
    columns = {
        "ecg_feature": _rows(torch.stack([t.mean(1) for t in tokens]).mean(0)),
        "ecg_phase_feature": _rows(ecg_bins.flatten(1), ok),
    }
    if isinstance(model, Ptacl):
        c = model.cmr(data.cine_batch(rows))
        psi = phase.cmr_slot_phase(data.phase_0[rows], model.frames)
        cmr_bins = phase.pool(c, phase.bin_weights(psi, bins, kappa))
        u = torch.stack([model.ecg_head(t.mean(1)) for t in tokens]).mean(0)
        columns |= {
            "cmr_feature": _rows(c.mean(1)),
            "ecg_proj": _rows(F.normalize(u, dim=-1)),
            "cmr_proj": _rows(F.normalize(model.cmr_head(c.mean(1)), dim=-1)),
            "ecg_phase": _rows(F.normalize(model.ecg_head(ecg_bins), dim=-1).flatten(1), ok),
            "cmr_phase": _rows(F.normalize(model.cmr_head(cmr_bins), dim=-1).flatten(1), ok),
        }
    return columns


def _rows(x: Tensor, keep: Tensor | None = None) -> list[Any]:
    values = list(x.float().cpu().numpy())
    return values if keep is None else [v if k else None for v, k in zip(values, keep.tolist(), strict=True)]
