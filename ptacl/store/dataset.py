"""Pairs as tensors: int16 ECG and uint8 cine in memory as stored, floats only per batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ptacl.artifacts import read_table, read_tensors
from ptacl.store import schema

RATE_HZ, STRIP, CROP = 500, 5000, 2500
MV_PER_COUNT = 0.005


@dataclass
class PairedDataset:
    """The pairs of some splits, sorted as in pairs.parquet.

    ecg: int16 [n, 12, 5000]; cine: uint8 [n, S, T, H, W]; r_peaks: float32 [n, P], padded with NaN; phase_ok: bool [n];
    phase_0: float32 [n]; person: int64 [n], the same number for visits of one person.
    """

    subject_id: list[str]
    visit: list[int]
    split: list[str]
    ecg: Tensor
    cine: Tensor
    r_peaks: Tensor
    phase_ok: Tensor
    phase_0: Tensor
    person: Tensor

    @classmethod
    def load(cls, pairs: Path, ecg_dir: Path, cmr_dir: Path, splits: Sequence[str] | None = None) -> "PairedDataset":
        """Reads the pairs table and the rows of the shards it names. Raises ArtifactError."""
        rows = read_table(pairs, kind=schema.PAIRS, version=schema.VERSION[schema.PAIRS]).to_pylist()
        rows = [r for r in rows if splits is None or r["split"] in splits]
        longest = max((len(r["r_peaks"]) for r in rows), default=0)
        peaks = np.full((len(rows), max(longest, 2)), np.nan, np.float32)
        for i, r in enumerate(rows):
            peaks[i, : len(r["r_peaks"])] = r["r_peaks"]
        numbers = {s: i for i, s in enumerate(sorted({r["subject_id"] for r in rows}))}
        return cls(
            subject_id=[r["subject_id"] for r in rows],
            visit=[r["visit"] for r in rows],
            split=[r["split"] for r in rows],
            ecg=_gather(ecg_dir, rows, "ecg_row", schema.ECG_TENSORS, "ecg"),
            cine=_gather(cmr_dir, rows, "cmr_row", schema.CMR_TENSORS, "cine"),
            r_peaks=torch.from_numpy(peaks),
            phase_ok=torch.tensor([bool(r["phase_ok"]) for r in rows], dtype=torch.bool),
            phase_0=torch.tensor([r["phase_0"] or 0.0 for r in rows], dtype=torch.float32),
            person=torch.tensor([numbers[r["subject_id"]] for r in rows], dtype=torch.int64),
        )

    def __len__(self) -> int:
        return len(self.subject_id)

    def of_split(self, split: str) -> Tensor:
        """Row indices of a split, int64."""
        return torch.tensor([i for i, s in enumerate(self.split) if s == split], dtype=torch.int64)

    def to(self, device: torch.device) -> "PairedDataset":
        """Moves the tensors to a device, where they fit (method: data resident on the GPU)."""
        for name in ("ecg", "cine", "r_peaks", "phase_ok", "phase_0", "person"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def ecg_batch(self, rows: Tensor, start: Tensor, scale_mv: float) -> tuple[Tensor, Tensor]:
        """Crops of 5 s from sample `start` [B]: float32 [B, 12, 2500] in units of `scale_mv`, and R peaks in the crop's samples."""
        window = start[:, None] + torch.arange(CROP, device=start.device)
        strips = self.ecg[rows].gather(2, window[:, None, :].expand(-1, 12, -1))
        return strips.float() * (MV_PER_COUNT / scale_mv), self.r_peaks[rows] - start[:, None]

    def cine_batch(self, rows: Tensor) -> Tensor:
        """float32 [B, S, T, H, W], 0..255 mapped to about -0.5..1.5."""
        return self.cine[rows].float() / 128 - 0.5


def _gather(folder: Path, rows: list[dict], column: str, kind: str, name: str) -> Tensor:
    """Rows of the shards' tensors in the order of `rows`."""
    by_shard: dict[int, list[int]] = {}
    for i, r in enumerate(rows):
        by_shard.setdefault(r["shard"], []).append(i)
    out: np.ndarray | None = None
    for shard, members in by_shard.items():
        tensor = read_tensors(folder / f"{shard:04d}.safetensors", kind=kind, version=schema.VERSION[kind])[name]
        if out is None:
            out = np.empty((len(rows), *tensor.shape[1:]), tensor.dtype)
        out[members] = tensor[[rows[i][column] for i in members]]
    return torch.from_numpy(out if out is not None else np.zeros((0, 12, STRIP), np.int16))
