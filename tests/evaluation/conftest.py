"""A small study on disk: embeddings, cohort table, ECG table, as the stages before leave them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from threadpoolctl import threadpool_limits

from ptacl.artifacts import write_table
from ptacl.evaluation.embed import COLUMNS
from ptacl.evaluation.stage import Study
from ptacl.store.schema import VERSION

SETTINGS: dict[str, Any] = {
    "targets": ["LVEDV", "LVEF", "LVM"], "extra_targets": ["es_ms"], "indexed": ["LVEDV"], "below": {"LVEF": 50},
    "covariates": ["age", "sex", "height_cm"], "label_fractions": [0.1, 1.0], "reference_predictions": None,
    "bootstraps": 100, "seed": 0, "compare": [],
}  # fmt: skip
BINS, WIDTH = 4, 6


class Cohort:
    """People with a known signal: LVEDV follows the first feature, LVEF the second, es_ms the phase bins; LVM is unknown.

    mixed: splits between each other, and the cohort table and two ECG tables each in an order of its own, as in a real study.
    """

    def __init__(
        self, folder: Path, n: int, n_test: int, n_val: int = 0, repeats: int = 0, n_calibration: int = 0,
        mixed: bool = False,
    ) -> None:  # fmt: skip
        rng, self.mixed = np.random.default_rng(1), mixed
        self.folder, self.ids = folder, [str(9_000_001 + i) for i in range(n)]
        split = ["test"] * n_test + ["val"] * n_val + ["calibration"] * n_calibration
        split += ["train"] * (n - len(split))
        if mixed:
            split = np.random.default_rng(2).permutation(split).tolist()
        self.keys = sorted([(s, 2) for s in self.ids] + [(s, 3) for s in self.ids[:repeats]])
        self.split = [split[self.ids.index(s)] for s, _ in self.keys]
        rows = len(self.keys)
        z = rng.normal(size=(rows, WIDTH))
        phases = rng.normal(size=(rows, BINS, WIDTH))
        bins = rng.normal(size=(BINS, 128)) + 0.3 * rng.normal(size=(rows, BINS, 128))
        bins /= np.linalg.norm(bins, axis=2, keepdims=True)
        proj = np.pad(z / np.linalg.norm(z, axis=1, keepdims=True), ((0, 0), (0, 128 - WIDTH)))
        self.embeddings: dict[str, list | None] = {
            "ecg_feature": list(z), "cmr_feature": list(z + rng.normal(size=z.shape)), "ecg_proj": list(proj),
            "cmr_proj": list(proj), "ecg_phase": list(bins.reshape(rows, -1)), "cmr_phase": list(bins.reshape(rows, -1)),
            "cmr_phase_shifted": list(np.roll(bins, 2, 1).reshape(rows, -1)),
            "ecg_phase_feature": list(phases.reshape(rows, -1)),
        }  # fmt: skip
        self.cohort: dict[str, Any] = {
            "LVEDV": 150 + 30 * z[:, 0] + rng.normal(0, 10, rows), "LVEF": 55 + 6 * z[:, 1] + rng.normal(0, 3, rows),
            "es_ms": 330 + 20 * phases[:, 1, 2] + rng.normal(0, 5, rows), "age": rng.uniform(45, 80, rows),
            "sex": rng.integers(0, 2, rows).astype(float), "height_cm": rng.normal(170, 9, rows),
            "bsa": rng.uniform(1.5, 2.3, rows), "centre": rng.integers(1, 4, rows).astype(float),
        }  # fmt: skip
        self.ecg: dict[str, Any] = {
            "flags": [["atrial_fibrillation"] if i % 9 == 0 else [] for i in range(rows)],
            "heart_rate_bpm": np.linspace(50, 90, rows), "noise_ratio": np.linspace(0.1, 0.3, rows),
        }  # fmt: skip

    def write(self) -> "Cohort":
        rows = len(self.keys)
        ids = {
            "subject_id": pa.array([s for s, _ in self.keys], pa.string()),
            "visit": pa.array([v for _, v in self.keys], pa.int8()),
        }
        lists = {c: pa.array(self.embeddings.get(c) or [None] * rows, pa.list_(pa.float32())) for c in COLUMNS}
        write_table(
            self.folder / "embeddings.parquet", pa.table({**ids, "split": pa.array(self.split, pa.string()), **lists}),
            kind="embeddings", version=2, settings={},
        )  # fmt: skip
        types = {"flags": pa.list_(pa.string()), "heart_rate_bpm": pa.float32(), "noise_ratio": pa.float32()}
        ecg = pa.table(ids | {name: pa.array(self.ecg[name], of) for name, of in types.items()})
        subjects, half = pa.table(ids | self.cohort), rows // 2 if self.mixed else rows
        if self.mixed:
            subjects, ecg = (t.take(np.random.default_rng(i).permutation(rows)) for i, t in enumerate((subjects, ecg)))
        for name, table, kind in (
            ("subjects", subjects, "cohort_subjects"),
            ("ecg", ecg.slice(0, half), "ecg_table"),
            ("ecg_1", ecg.slice(half), "ecg_table"),
        ):
            write_table(self.folder / f"{name}.parquet", table, kind=kind, version=VERSION[kind], settings={})
        return self

    def study(self, split: str = "test", **settings: Any) -> Study:
        return Study(
            SETTINGS | settings, self.folder / "subjects.parquet", sorted(self.folder.glob("ecg*.parquet")), split
        )


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of BLAS wait for each other busily where cores are few."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def cohort(tmp_path: Path) -> Callable[..., Cohort]:
    """Makes a cohort below `tmp_path`; change its columns, then `write()` it."""

    def make(n: int, n_test: int, **options: int) -> Cohort:
        return Cohort(tmp_path, n, n_test, **options)

    return make
