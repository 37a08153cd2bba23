"""The evaluation of one checkpoint at the size of UK Biobank: time of one core, memory, and how the time compares with a floor.

    python benchmarks/evaluation.py --json FILE [--width 64]

27,951 people, 4,193 of them in the test split, 20 phenotypes, made-up embeddings `--width` wide (384: encoder size small). The
floor is what any implementation has to do in the same run: order every query's gallery in three directions, by numpy.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ptacl.artifacts import write_table
from ptacl.config import load_config
from ptacl.evaluation.stage import Study, evaluate
from ptacl.stages import stage_settings
from ptacl.store.schema import VERSION

PEOPLE, SIZES, BINS, PROJECTION = 27_951, {"train": 16_771, "val": 2_795, "calibration": 4_192, "test": 4_193}, 10, 128
MORE_TARGETS = ["LAVmax", "LAVmin", "LASV", "LAEF", "RAVmax"]
SECONDS, GIB = 30.0, 4.0


def write_inputs(folder: Path, settings: dict, width: int) -> None:
    """Embeddings, cohort and ECG table as the stages before leave them; a tenth of the signal is in every column."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((PEOPLE, 20))

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    def lists(x: np.ndarray) -> pa.Array:
        flat = pa.array(x.reshape(-1).astype(np.float32))
        return pa.FixedSizeListArray.from_arrays(flat, x.size // PEOPLE).cast(pa.list_(pa.float32()))

    ids = {
        "subject_id": pa.array([str(9_000_001 + i) for i in range(PEOPLE)]),
        "visit": pa.array(np.full(PEOPLE, 2), pa.int8()),
    }
    split = np.repeat(list(SIZES), list(SIZES.values()))
    mixing = rng.standard_normal((20, PROJECTION))
    sides = {f"{s}_proj": unit(latent @ mixing + 3 * rng.standard_normal((PEOPLE, PROJECTION))) for s in ("ecg", "cmr")}
    phases = rng.standard_normal((BINS, PROJECTION))
    aligned = {
        c: unit(phases + rng.standard_normal((PEOPLE, BINS, PROJECTION)))
        for c in ("ecg_phase", "cmr_phase", "cmr_phase_shifted")
    }
    wide = latent @ rng.standard_normal((20, BINS * width)) + 3 * rng.standard_normal((PEOPLE, BINS * width))
    feature = latent @ rng.standard_normal((20, width)) + rng.standard_normal((PEOPLE, width))
    columns = {"ecg_feature": feature, "cmr_feature": feature, **sides, **aligned, "ecg_phase_feature": wide}
    table = pa.table({**ids, "split": rng.permutation(split), **{c: lists(x) for c, x in columns.items()}})
    write_table(folder / "embeddings.parquet", table, kind="embeddings", version=2, settings={})
    names = [*settings["targets"], *settings["extra_targets"]]
    values = latent @ rng.standard_normal((20, len(names))) * 10 + 100
    # Left ventricle, right ventricle and atria are missing together, in other people each.
    missing = rng.random((3, PEOPLE)) < 0.03
    cohort = {n: np.where(missing[j % 3], np.nan, values[:, j]) for j, n in enumerate(names)}
    cohort |= {
        "age": rng.uniform(45, 82, PEOPLE), "sex": rng.integers(0, 2, PEOPLE).astype(float),
        "height_cm": rng.normal(170, 9, PEOPLE), "weight_kg": rng.normal(75, 12, PEOPLE),
        "systolic_bp": rng.normal(135, 17, PEOPLE), "bsa": rng.normal(1.85, 0.2, PEOPLE),
        "centre": rng.integers(1, 5, PEOPLE).astype(float),
    }  # fmt: skip
    ecg = {
        "flags": pa.array([["atrial_fibrillation"] * (i % 70 == 0) for i in range(PEOPLE)]),
        "heart_rate_bpm": pa.array(rng.normal(62, 9, PEOPLE), pa.float32()),
        "noise_ratio": pa.array(rng.lognormal(size=PEOPLE)),
    }
    for name, kind, more in (("subjects", "cohort_subjects", cohort), ("ecg", "ecg_table", ecg)):
        write_table(folder / f"{name}.parquet", pa.table(ids | more), kind=kind, version=VERSION[kind], settings={})


def floor_seconds() -> float:
    """Core-seconds to order 4,193 galleries of 4,193 three times."""
    x = np.random.default_rng(1).standard_normal((SIZES["test"], PROJECTION))
    start = time.process_time()
    for _ in range(3):
        for first in range(0, len(x), 64):
            np.argsort(-(x[first : first + 64] @ x.T), axis=1, kind="stable")
    return time.process_time() - start


def row(name: str, value: float, unit: str, peer: float | None = None, target: float | None = None) -> dict:
    """A measurement as every benchmark writes it."""
    met = None if target is None else value <= target
    return {"name": name, "value": value, "unit": unit, "peer": peer, "target": target, "met": met}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--width", type=int, default=64)
    arguments = parser.parse_args()
    settings = stage_settings(load_config([]), "evaluate")
    settings["targets"] = [*settings["targets"], *MORE_TARGETS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: what it makes must not count.
        if (child := os.fork()) == 0:
            write_inputs(folder, settings, arguments.width)
            os._exit(0)
        os.waitpid(child, 0)
        out = {k: folder / f"{k}.out" for k in ("regression", "retrieval", "predictions", "queries", "alignment")}
        study = Study(settings, folder / "subjects.parquet", [folder / "ecg.parquet"])
        with threadpool_limits(1):
            start = time.process_time()
            evaluate("ptacl", 0, study, folder / "embeddings.parquet", out)
            seconds = time.process_time() - start
            floor = floor_seconds()
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    name = f"evaluation, width {arguments.width}"
    rows = [
        row(name, seconds, "core-s", target=SECONDS),
        row(f"{name}, memory", gib, "GiB", target=GIB),
        row(f"{name}, over ordering the galleries", seconds / floor, "x", peer=floor),
    ]
    for r in rows:
        print(f"{r['name']}: {r['value']:.1f} {r['unit']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
