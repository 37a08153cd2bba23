"""Pairs as tensors: int16 ECG and uint8 cine as stored, on the device or mapped from disk, floats only per batch."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ptacl.artifacts import map_tensor, read_table
from ptacl.store import schema
from ptacl.store.timing import Timing

RATE_HZ, STRIP = 500, 5000
MV_PER_COUNT = 0.005
ECG, CINE = "ecg", "cine"
SHARDS_OF = {ECG: (schema.ECG_TENSORS, "ecg_row"), CINE: (schema.CMR_TENSORS, "cmr_row")}
# Share of a GPU's free memory that a resident dataset may take; the rest is for weights and activations.
RESIDENT_SHARE = 0.7
# On a CPU it takes part of what the job asked its scheduler for (rules/*.smk), and mapped recordings are as quick.
CPU_RESIDENT_BYTES = 2 * 2**30
# Threads that read mapped recordings, and batches they are ahead of the one in use.
READERS, AHEAD = 4, 4


@dataclass(frozen=True)
class Batch:
    """Rows of the dataset [B], their raw recordings (int16 [B, 12, 5000], uint8 [B, S, T, H, W], None where not asked for)."""

    rows: Tensor
    # Who asks for a side has it: the types do not follow who asked.
    ecg: Tensor
    cine: Tensor
    timing: Timing


@dataclass
class PairedDataset:
    """The pairs of some splits, sorted as in pairs.parquet.

    `timing` holds float32 tensors of all pairs; person: int64 [n], the same number for visits of one person. `recordings`
    holds one store per side that was asked for: in memory on `device` (resident), or mapped from the shards.
    """

    subject_id: list[str]
    visit: list[int]
    split: list[str]
    timing: Timing
    person: Tensor
    recordings: Mapping[str, "Resident | Mapped"]
    device: torch.device
    waited_s: float = field(default=0.0)

    @classmethod
    def load(
        cls,
        pairs: Path,
        ecg_dir: Path,
        cmr_dir: Path,
        splits: Sequence[str] | None = None,
        *,
        sides: Sequence[str] = (ECG, CINE),
        device: torch.device | str = "cpu",
        data: str = "resident",
    ) -> "PairedDataset":
        """Reads the pairs table and the rows of the shards it names.

        `data`: `resident`, all recordings in the device's memory; `mapped`, read from the shards batch by batch; `auto`,
        resident where they fit. Both give the same batches, bit for bit. Raises ArtifactError.
        """
        device = torch.device(device)
        rows = read_table(pairs, kind=schema.PAIRS, version=schema.VERSION[schema.PAIRS]).to_pylist()
        rows = [r for r in rows if splits is None or r["split"] in splits]
        numbers = {s: i for i, s in enumerate(sorted({r["subject_id"] for r in rows}))}
        mapped = {side: Mapped.open(ecg_dir if side == ECG else cmr_dir, rows, side) for side in sides}
        needed = sum(m.nbytes for m in mapped.values())
        resident = data == "resident" or (data == "auto" and needed <= room(device))
        return cls(
            subject_id=[r["subject_id"] for r in rows],
            visit=[r["visit"] for r in rows],
            split=[r["split"] for r in rows],
            timing=_timing(rows, mapped[CINE].like.shape[2] if CINE in mapped else math.nan).to(device),
            person=torch.tensor([numbers[r["subject_id"]] for r in rows], dtype=torch.int64),
            recordings={side: m.resident(device) if resident else m for side, m in mapped.items()},
            device=device,
        )

    def __len__(self) -> int:
        return len(self.subject_id)

    @property
    def is_resident(self) -> bool:
        """Whether all recordings lie in the device's memory."""
        return all(isinstance(r, Resident) for r in self.recordings.values())

    def of_split(self, split: str) -> Tensor:
        """Row indices of a split, int64."""
        return torch.tensor([i for i, s in enumerate(self.split) if s == split], dtype=torch.int64)

    def batches(self, parts: Sequence[Tensor]) -> Iterator[Batch]:
        """The rows of each part (int64, on the CPU) as a batch on the device, in order.

        Mapped recordings are read ahead by threads. `waited_s` adds up the time that the caller waited for data.
        """
        fetched = map(self._fetch, parts) if self.is_resident else _read_ahead(self._fetch, parts)
        while True:
            started = perf_counter()
            found = next(fetched, None)
            self.waited_s += perf_counter() - started
            if found is None:
                return
            rows = found["rows"].to(self.device, non_blocking=True)
            ecg, cine = (found[s].to(self.device, non_blocking=True) if s in found else None for s in (ECG, CINE))
            yield Batch(rows, ecg, cine, self.timing.of(rows))  # type: ignore[arg-type]

    def _fetch(self, rows: Tensor) -> dict[str, Tensor]:
        return {"rows": rows, **{side: store.rows(rows) for side, store in self.recordings.items()}}


@dataclass(frozen=True)
class Resident:
    """All recordings of one side in one tensor [n, ..] on the device."""

    tensor: Tensor

    def rows(self, rows: Tensor) -> Tensor:
        """The recordings of `rows` [B]."""
        return self.tensor[rows.to(self.tensor.device, non_blocking=True)]


@dataclass(frozen=True)
class Mapped:
    """All recordings of one side as the shards hold them, mapped: shard and row in it of each, int64 [n]."""

    shards: Mapping[int, np.ndarray]
    shard: np.ndarray
    row: np.ndarray
    like: np.ndarray

    @classmethod
    def open(cls, folder: Path, rows: Sequence[Mapping[str, Any]], side: str) -> "Mapped":
        """Maps the shards that `rows` of the pairs table name. Raises ArtifactError."""
        kind, column = SHARDS_OF[side]
        shard = np.array([r["shard"] for r in rows], np.int64)
        shards = {
            int(s): map_tensor(folder / f"{s:04d}.safetensors", side, kind=kind, version=schema.VERSION[kind])
            for s in np.unique(shard)
        }
        row = np.array([r[column] for r in rows], np.int64)
        like = next(iter(shards.values()), np.zeros((0, 12, STRIP), np.int16))
        return cls(shards, shard, row, np.empty((0, *like.shape[1:]), like.dtype))

    @property
    def nbytes(self) -> int:
        """Bytes of all recordings."""
        return len(self.row) * self.like.dtype.itemsize * math.prod(self.like.shape[1:])

    def rows(self, rows: Tensor) -> Tensor:
        """The recordings of `rows` [B], copied to (pinned) memory."""
        out = self._empty(len(rows), pin_memory=torch.cuda.is_available())
        view = out.numpy()
        for i, r in enumerate(rows.tolist()):
            view[i] = self.shards[int(self.shard[r])][self.row[r]]
        return out

    def resident(self, device: torch.device) -> Resident:
        """All recordings in the device's memory, copied shard by shard."""
        out = self._empty(len(self.row), device=device)
        for s, array in self.shards.items():
            members = np.flatnonzero(self.shard == s)
            out[torch.from_numpy(members).to(device)] = torch.from_numpy(array[self.row[members]]).to(device)
        return Resident(out)

    def _empty(self, n: int, **where: Any) -> Tensor:
        return torch.empty((n, *self.like.shape[1:]), dtype=torch.from_numpy(self.like).dtype, **where)


def _timing(rows: Sequence[Mapping[str, Any]], frames: float) -> Timing:
    """Timing of all pairs; R peaks are those of the whole strip. `frames` of a cine decide the end-systolic phase."""
    longest = max((len(r["r_peaks"]) for r in rows), default=0)
    peaks = np.full((len(rows), max(longest, 2)), np.nan, np.float32)
    for i, r in enumerate(rows):
        peaks[i, : len(r["r_peaks"])] = r["r_peaks"]

    def column(values: list[float | None]) -> Tensor:
        return torch.tensor([np.nan if v is None else v for v in values], dtype=torch.float32)

    phase_0 = column([r["phase_0"] or 0.0 for r in rows])
    return Timing(
        r_peaks=torch.from_numpy(peaks),
        phase_0=phase_0,
        usable=torch.tensor([bool(r["phase_ok"]) for r in rows], dtype=torch.bool),
        t_end=column([r["t_end_ms"] for r in rows]) * RATE_HZ / 1000,
        es_phase=(column([r["es_frame"] for r in rows]) / frames + phase_0) % 1.0,
    )


def room(device: torch.device) -> float:
    """Bytes that a resident dataset may take on a device."""
    if device.type == "cuda":
        return RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    return CPU_RESIDENT_BYTES


def _read_ahead(fetch: Callable[[Tensor], Any], parts: Sequence[Tensor]) -> Iterator[Any]:
    """`fetch` of every part, in order, by threads that work ahead of the reader; their errors are raised here."""
    pool = ThreadPoolExecutor(READERS)
    waiting: deque[Future[Any]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(fetch, part))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
