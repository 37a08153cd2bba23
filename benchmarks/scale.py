"""The workflow at scale: its plan for a hundred thousand participants, and twenty thousand people with tiny files through it.

python benchmarks/scale.py [--json FILE] [--people N] [--folder DIR]

The files are a WFDB record and a small NIfTI cine for each invented person, 6 GB for 20,000, which take ten minutes to write
and run. Each run is a process of its own: wall time, CPU time and peak memory of Snakemake and all of its jobs.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import nibabel as nib
import numpy as np
from random_study import Row, row

from ptacl.stages import REPOSITORY
from ptacl.synthetic.cine import lv_offset_mm, render
from ptacl.synthetic.heart import build_heart
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.presets import PRESETS
from ptacl.synthetic.trace import COUNTS_PER_MV, LEADS, simulate_trace

FIRST_ID, SHARD = 9_000_001, 256
HEARTS, EVERY, SLICES = 64, 2, (1, 2, 3)
COLUMNS = ("subject_id", "visit", "ecg_path", "cmr_path", "age", "sex", "LVEDV", "LVESV", "LVEF", "LVM")


@dataclass
class Heart:
    """A small cine [columns, rows, slices, frames], its affine, and what its person has."""

    cine: np.ndarray
    affine: np.ndarray
    rr_ms: float
    values: dict[str, float]


def heart(index: int) -> Heart:
    """The heart of invented person `index`, thinned out."""
    subject, rng, preset = draw_subject(1, index), np.random.default_rng([1, index]), PRESETS["small"]
    built = build_heart(subject, rng, preset)
    volume = render(built, subject, rng, preset, lv_offset_mm(rng))[list(SLICES)]
    small = volume[:, :, ::EVERY, ::EVERY].astype(np.int16).transpose(3, 2, 0, 1)
    affine = np.diag([-EVERY * preset.pixel_mm, -EVERY * preset.pixel_mm, -preset.step_mm, 1.0])
    values = {k: built.phenotypes[k] for k in COLUMNS[6:]}
    return Heart(
        small, affine, built.timing.rr, values | {"sex": float(subject.sex == "male"), "age": subject.age_years}
    )


def write_people(folder: Path, indices: list[int]) -> list[list[object]]:
    """Files of some people, no two alike; the rows of their table."""
    hearts, rows = {}, []
    for i in indices:
        of = i % HEARTS
        if of not in hearts:
            hearts[of] = heart(of)
        h, rng, eid = hearts[of], np.random.default_rng([2, i]), str(FIRST_ID + i)
        trace = simulate_trace(draw_subject(1, of), rng)
        trace.counts.T.astype("<i2").tofile(folder / f"ecg/{eid}.dat")
        lines = [f"{eid} 12 500 {trace.counts.shape[1]}"]
        lines += [
            f"{eid}.dat 16 {COUNTS_PER_MV}/mV 16 0 {x[0]} 0 0 {name}"
            for x, name in zip(trace.counts, LEADS, strict=True)
        ]
        (folder / f"ecg/{eid}.hea").write_text("\n".join(lines) + "\n")
        image = nib.Nifti1Image(h.cine + rng.integers(0, 4, h.cine.shape, np.int16), h.affine)
        image.header["pixdim"][4] = h.rr_ms / 1000 / h.cine.shape[3]
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, folder / f"cine/{eid}.nii")
        v = h.values
        rows.append([eid, 0, f"ecg/{eid}.hea", f"cine/{eid}.nii", *(round(v[c], 3) for c in COLUMNS[4:])])
    return rows


def write_study(folder: Path, people: int) -> None:
    """Files, table and overlay of a study."""
    for name in ("ecg", "cine"):
        (folder / name).mkdir(parents=True)
    parts = [list(range(people))[k::32] for k in range(32)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = [r for part in pool.map(write_people, [folder] * len(parts), parts) for r in part]
    with open(folder / "people.csv", "w", newline="") as f:
        csv.writer(f).writerows([COLUMNS, *sorted(rows)])
    overlay = {
        "results": str(folder / "results"), "synthetic": None,
        "cohort": {"source": "table", "root": str(folder), "table": str(folder / "people.csv"), "extra_tables": [],
                   "withdrawals": [], "shards": -(-people // SHARD)},
        "cmr": {"slices": 3, "frames": 20, "size": 16},
        "methods": ["mae", "global"],
        "pretrain": {"mae": {"epochs": 1}, "contrastive": {"epochs": 1}},
        "evaluate": {"targets": ["LVEDV", "LVESV", "LVEF", "LVM"], "indexed": [], "extra_targets": [], "covariates": ["age", "sex"],
                     "reference_predictions": None},
    }  # fmt: skip
    (folder / "study.yaml").write_text(json.dumps(overlay))


def snakemake(folder: Path, *arguments: str) -> tuple[str, float, float, float]:
    """What a run prints; its wall and CPU seconds and the peak MiB of its largest process."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(REPOSITORY / "Snakefile"), *arguments]
    started = perf_counter()
    with open(folder / "printed", "w") as out:
        run = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(run.pid, 0)
    text = (folder / "printed").read_text()
    if status:
        raise RuntimeError(text[-3000:])
    return text, perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def plans(folder: Path) -> list[Row]:
    """Dry runs."""
    rows = []
    for people in (27_951, 100_000):
        shards = -(-people // SHARD)
        overlay = {
            "results": str(folder / "none"),
            "synthetic": {"subjects": people},
            "cohort": {"shards": shards},
            "seeds": [0, 1, 2],
        }
        (folder / "plan.yaml").write_text(json.dumps(overlay))
        text, _, cpu, peak = snakemake(folder, "--dry-run", "--configfile", str(folder / "plan.yaml"))
        jobs = re.search(r"^total\s+(\d+)", text, re.MULTILINE)[1]
        name = f"dry run, {people:,} participants"
        rows.append(row(f"{name}: CPU", cpu, "s", f"{jobs} jobs in {shards} shards", 10))
        rows.append(row(f"{name}: memory", peak, "MiB", "Snakemake's own process", 1024))
    return rows


def rehearsal(folder: Path, people: int) -> list[Row]:
    """Everything, from the files to the report."""
    write_study(folder, people)
    text, wall, cpu, peak = snakemake(folder, "--configfile", str(folder / "study.yaml"))
    flow = json.loads((folder / "results/pairs/flow.json").read_text())
    lost = flow["subjects"] - flow["pairs"] - sum(flow["excluded"].values())
    jobs = [r for p in (folder / "results/benchmarks").rglob("*.tsv") for r in csv.DictReader(p.open(), delimiter="\t")]
    what = f"{people:,} people"
    rows = [
        row(f"{what}: wall", wall / 60, "min", f"{len(jobs)} jobs, {cpu / 60:.0f} core-minutes"),
        row(
            f"{what}: pairs",
            flow["pairs"],
            "pairs",
            f"of {flow['subjects']:,}; excluded {flow['excluded'] or 'nobody'}",
        ),
        row(f"{what}: neither pairs nor excluded", lost, "people", "", 0),
        row(f"{what}: memory of Snakemake and the largest job", peak, "MiB", "", 4096),
        row(f"{what}: printed", len(text) / 1024, "KiB", f"{text.count(chr(10))} lines"),
    ]
    named = sum(bool(re.search(rf"\b{FIRST_ID // 10_000}\d{{4}}\b", line)) for line in text.splitlines())
    rows.append(row(f"{what}: lines printed that name one", named, "lines", "", 0))
    text, _, cpu, peak = snakemake(folder, "--configfile", str(folder / "study.yaml"))
    rows.append(
        row(
            f"{what}: starting again when all is done",
            cpu,
            "s",
            f"peak {peak:.0f} MiB; " + text.strip().splitlines()[-1],
            20,
        )
    )
    return rows


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--people", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the files go (default: a temporary folder, removed)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        rows = plans(folder) + rehearsal(folder, arguments.people)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
