"""A small study with something to learn, as the stages before training would leave it, and runs on it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from ptacl.artifacts import read_table, write_table, write_tensors
from ptacl.store import schema
from ptacl.store.dataset import PairedDataset
from ptacl.store.pairs import _pairs_schema
from ptacl.training.checkpoint import load_weights
from ptacl.training.options import How
from ptacl.training.stage import Inputs, pretrain

FRAMES, PIXELS, SLICES = 20, 16, 2
COMMON: dict[str, Any] = {
    "encoder": {"size": "tiny", "tokens": "time", "tubelet": 2, "patch": 16},
    "scale": 0.5,
    "cmr": {"slices": SLICES, "frames": FRAMES, "size": PIXELS},
    "phase": {"bins": 10, "kappa": 20.0},
    "augment": {"ecg_noise_mv": 0.02, "ecg_gain": 0.03, "cine_shift": 2, "cine_gain": 0.1, "cine_offset": 0.1},
}
CONTRASTIVE: dict[str, Any] = {
    "epochs": 3, "batch": 8, "lr": 2e-3, "weight_decay": 0.05, "tau_g": 0.1, "tau_l": 0.1, "cine_drop": 0.75,
}  # fmt: skip
MAE: dict[str, Any] = {
    "objective": {"objective": "mae"},
    "section": {"epochs": 3, "batch": 8, "lr": 3e-3, "weight_decay": 0.05, "mask": 0.5},
}
# Rows of history.parquet that differ from run to run.
SPEEDS = {"samples_per_s", "data_wait", "mfu"}


def ptacl(*, loss: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Settings of a contrastive training of the tiny encoders, with some of the section's values changed."""
    method = {"objective": "contrastive", "loss": dict(loss or {"beta": 1.0})}
    return COMMON | {"method": method, "contrastive": CONTRASTIVE | changes}


def mae(**changes: Any) -> dict[str, Any]:
    """Settings of a masked autoencoder of the ECG."""
    return COMMON | {"method": MAE["objective"], "mae": MAE["section"] | changes}


@dataclass(frozen=True)
class Study:
    """The files of a study, and each person's size: what ECG amplitude, cine and label follow from."""

    folder: Path
    size: np.ndarray

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs.parquet"

    @property
    def subjects(self) -> Path:
        return self.folder / "subjects.parquet"

    def dataset(self, **options: Any) -> PairedDataset:
        """All pairs of all splits."""
        return PairedDataset.load(self.pairs, self.folder / "ecg", self.folder / "cmr", **options)

    def inputs(self, out: Path, ecg: Path | None = None, cmr: Path | None = None) -> Inputs:
        """What pretraining into `out` reads; `ecg`, `cmr`: the warm starts."""
        return Inputs(self.pairs, self.folder / "ecg", self.folder / "cmr", out, ecg, cmr)

    def train(
        self, out: Path, settings: Mapping[str, Any], ecg: Path | None = None, cmr: Path | None = None, *,
        seed: int = 0, **how: Any,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """Pretrains into `out` on the CPU; the weights that remain."""
        pretrain("x", seed, settings, self.inputs(out, ecg, cmr), How(**{"device": "cpu"} | how))
        return load_weights(out / "model.safetensors")

    def rewrite(self, **columns: Any) -> None:
        """Gives every row of the pairs table the same value in some columns."""
        rows = [r | columns for r in pq.read_table(self.pairs).to_pylist()]
        write_pairs(self.pairs, rows)


def make_study(
    folder: Path, people: int = 32, *, second_visits: int = 0, shards: int = 1, pixels: int = PIXELS,
    splits: Sequence[str] = ("val", "train", "train", "train"),
) -> Study:  # fmt: skip
    """People whose ECG amplitude and heart rate go with the size and timing of a pulsating disc.

    The first `second_visits` people come twice; the fourth has no usable phase. `splits` are dealt in turn. The label
    `LVM` (in g) follows from the size, that is from the amplitude of the ECG; every fifth person's is not known.
    """
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    y, x = np.mgrid[-1 : 1 : pixels * 1j, -1 : 1 : pixels * 1j]
    sizes, beats = 0.4 + 0.5 * rng.permutation(people) / people, 0.8 + 0.08 * rng.permutation(people) / people
    rows, strips, cines = [], [[] for _ in range(shards)], [[] for _ in range(shards)]
    for i in range(people + second_visits):
        person = i % people
        size, rr, shard = sizes[person], beats[person], i % shards
        peaks = np.arange(0.2, 10, rr)
        wave = sum(
            np.exp(-0.5 * ((t - p) / 0.04) ** 2) + 0.5 * np.exp(-0.5 * ((t - p - 0.3) / 0.08) ** 2) for p in peaks
        )
        leads = np.outer(np.linspace(0.5, 1.5, 12) * size, wave) + 0.01 * rng.standard_normal((12, 5000))
        radius = size * (1 - 0.3 * np.sin(np.pi * np.arange(FRAMES) / FRAMES) ** 2)
        disc = 200 / (1 + np.exp((np.hypot(x, y)[None] - radius[:, None, None]) * 12))
        cine = (disc + rng.normal(0, 3, disc.shape)).clip(0, 255).astype(np.uint8)
        rows.append(
            {
                "subject_id": f"P{person:03d}", "visit": i // people, "split": splits[person % len(splits)],
                "shard": shard, "ecg_row": len(strips[shard]), "cmr_row": len(cines[shard]),
                "r_peaks": (peaks * 500).tolist(), "phase_ok": person != 3, "t_end_ms": 380.0, "phase_0": 0.0,
                "es_frame": 10, "ed_frame": 0, "rr_ms": 1000 * rr, "heart_rate_bpm": 60 / rr, "lead_mask": [True] * 12,
                "ecg_digest": f"e{shard}", "cmr_digest": f"c{shard}",
            }
        )  # fmt: skip
        strips[shard].append(np.round(leads / 0.005).astype(np.int16))
        cines[shard].append(np.repeat(cine[None], SLICES, axis=0))
    write_pairs(folder / "pairs.parquet", rows)
    for shard in range(shards):
        for side, name, kind, data in (
            ("ecg", "ecg", schema.ECG_TENSORS, strips[shard]), ("cmr", "cine", schema.CMR_TENSORS, cines[shard]),
        ):  # fmt: skip
            path = folder / side / f"{shard:04d}.safetensors"
            write_tensors(path, {name: np.stack(data)}, kind=kind, version=1, settings={})
    write_subjects(
        folder / "subjects.parquet", rows, {r: None if r % 5 == 4 else 40 + 100 * sizes[r] for r in range(people)}
    )
    return Study(folder, sizes)


def write_pairs(path: Path, rows: list[dict[str, Any]]) -> None:
    """A pairs table, sorted as the stage sorts it."""
    rows = sorted(rows, key=lambda r: (r["subject_id"], r["visit"]))
    table = pa.Table.from_pylist(rows, schema=_pairs_schema())
    write_table(path, table, kind=schema.PAIRS, version=schema.VERSION[schema.PAIRS], settings={})


def write_subjects(
    path: Path,
    rows: list[dict[str, Any]],
    lvm: Mapping[int, float | None],
    lvef: Mapping[int, float | None] | None = None,
) -> None:
    """A subjects table with the labels of each person, by number; nobody's LVEF is known unless given."""
    people = [(r["subject_id"], r["visit"], int(r["subject_id"][1:])) for r in rows]
    table = pa.table(
        {
            "subject_id": pa.array([s for s, _, _ in people], pa.string()),
            "visit": pa.array([v for _, v, _ in people], pa.int8()),
            "LVM": pa.array([lvm[i] for *_, i in people], pa.float64()),
            "LVEF": pa.array([(lvef or {}).get(i) for *_, i in people], pa.float64()),
        }
    )
    kind = schema.COHORT_SUBJECTS
    write_table(path, table, kind=kind, version=schema.VERSION[kind], settings={})


def history(out: Path) -> list[dict[str, Any]]:
    """Rows of a training's history, but for its speeds."""
    rows = read_table(out / "history.parquet", kind="history", version=1).to_pylist()
    return [r for r in rows if r["name"] not in SPEEDS]


def curve(out: Path, name: str, split: str = "train") -> list[float]:
    """One value by epoch."""
    return [r["value"] for r in history(out) if r["name"] == name and r["split"] == split]


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    """Whether two sets of weights agree in every bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def furthest(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert a.keys() == b.keys()
    return max((a[k].double() - b[k].double()).abs().max().item() for k in a)


@contextmanager
def after_every_step(do: Callable[[], None]) -> Iterator[None]:
    """Calls `do` whenever an optimizer has made a step."""
    handle = register_optimizer_step_post_hook(lambda *_: do())
    try:
        yield
    finally:
        handle.remove()
