"""Stage embed: what a trained model makes of every pair."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ptacl.artifacts import write_table
from ptacl.model import phase
from ptacl.model.build import EcgOnly, ecg_encoder
from ptacl.model.ptacl import Ptacl, ecg_bin_weights, pooled, takes_part
from ptacl.store.dataset import CINE, ECG, Batch, PairedDataset
from ptacl.store.timing import Timing
from ptacl.training.augment import WINDOWS, cine_input, crop
from ptacl.training.checkpoint import load_weights
from ptacl.training.objectives import loss_settings
from ptacl.training.processes import pick_device

EMBEDDINGS, VERSION = "embeddings", 2
COLUMNS = (
    "ecg_feature", "cmr_feature", "ecg_proj", "cmr_proj", "ecg_phase", "cmr_phase", "cmr_phase_shifted",
    "ecg_phase_feature",
)  # fmt: skip
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
    model: Ptacl | EcgOnly = Ptacl.from_settings(settings) if paired else EcgOnly(ecg_encoder(settings["encoder"]))
    model.load_state_dict(weights)
    model.to(where).eval()
    sides = (ECG, CINE) if paired else (ECG,)
    data = PairedDataset.load(pairs, ecg_dir, cmr_dir, sides=sides, device=where, data="auto")
    columns: dict[str, list[Any]] = {c: [] for c in COLUMNS}
    with torch.no_grad():
        for batch in data.batches(torch.arange(len(data)).split(BATCH)):
            found = _embed_batch(model, batch, settings)
            for c in COLUMNS:
                columns[c] += found.get(c, [None] * len(batch.rows))
    table = pa.table(
        {
            "subject_id": pa.array(data.subject_id, pa.string()),
            "visit": pa.array(data.visit, pa.int8()),
            "split": pa.array(data.split, pa.string()),
            **{c: pa.array(v, pa.list_(pa.float32())) for c, v in columns.items()},
        }
    )
    write_table(out, table, kind=EMBEDDINGS, version=VERSION, settings=settings)


def _embed_batch(model: Ptacl | EcgOnly, batch: Batch, settings: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Columns of a batch, as lists of arrays; rows without usable phase hold None in the phase columns."""
    loss = loss_settings(settings)
    whole, binned, middle, weight = [], torch.zeros(()), torch.zeros(()), torch.zeros(())
    for start in WINDOWS:
        starts = torch.full((len(batch.rows),), start, device=batch.rows.device)
        x, timing = crop(batch.ecg, batch.timing, starts, settings["scale"])
        slots = model.ecg(x)
        w = ecg_bin_weights(timing, loss)
        total = w.sum(-1, keepdim=True)
        whole.append(slots.mean(1))
        binned, weight, middle = binned + w @ slots, weight + total, middle + total * slots.mean(1, keepdim=True)
    ecg_bins, middle = binned / weight.clamp_min(1e-6), middle / weight.clamp_min(1e-6)
    ok = phase.enough_weight(weight) & takes_part(batch.timing, loss)
    columns = {"ecg_feature": _rows(ecg_feature(whole)), "ecg_phase_feature": _rows(ecg_bins.flatten(1), ok)}
    if isinstance(model, Ptacl):
        c = model.cmr(cine_input(batch.cine))
        cmr_bins = pooled(c, model.cmr_bin_weights(batch.timing, loss), loss.center)
        shifted, timing = _from_mid_cycle(batch)
        shifted_bins = pooled(model.cmr(cine_input(shifted)), model.cmr_bin_weights(timing, loss), loss.center)
        columns |= {
            "cmr_feature": _rows(c.mean(1)),
            "ecg_proj": _rows(ecg_projection(whole, model.ecg_head)),
            "cmr_proj": _rows(F.normalize(model.cmr_head(c.mean(1)), dim=-1)),
            "ecg_phase": _rows(
                F.normalize(model.ecg_head(ecg_bins - middle if loss.center else ecg_bins), dim=-1).flatten(1), ok
            ),
            "cmr_phase": _rows(F.normalize(model.cmr_head(cmr_bins), dim=-1).flatten(1), ok),
            "cmr_phase_shifted": _rows(F.normalize(model.cmr_head(shifted_bins), dim=-1).flatten(1), ok),
        }
    return columns


def ecg_feature(windows: Sequence[Tensor]) -> Tensor:
    """What probes read: the mean over the windows [B, D] of their mean slots."""
    return torch.stack(list(windows)).mean(0)


def ecg_projection(windows: Sequence[Tensor], head: nn.Module) -> Tensor:
    """What retrieval reads: the mean over the windows of their projections, of unit length [B, 128]."""
    return F.normalize(torch.stack([head(e) for e in windows]).mean(0), dim=-1)


def _from_mid_cycle(batch: Batch) -> tuple[Tensor, Timing]:
    """The cines with their time axis shifted by half a cycle, and the phase of their first frame shifted along."""
    frames = batch.cine.shape[2]
    first = frames // 2
    phase_0 = (batch.timing.phase_0 + first / frames) % 1.0
    return batch.cine.roll(-first, 2), batch.timing.changed(phase_0=phase_0)


def _rows(x: Tensor, keep: Tensor | None = None) -> list[Any]:
    values = list(x.float().cpu().numpy())
    return values if keep is None else [v if k else None for v, k in zip(values, keep.tolist(), strict=True)]
