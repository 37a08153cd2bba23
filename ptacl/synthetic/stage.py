"""Stage synthetic: the whole cohort on disk."""

import concurrent.futures
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ptacl.artifacts import write_bytes, write_json
from ptacl.synthetic import tables
from ptacl.synthetic.cardiosoft import write_xml
from ptacl.synthetic.faults import CINE_FAULTS, ECG_FAULTS, plan_faults
from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.tables import Visit
from ptacl.synthetic.trace import simulate_trace

FIRST_ID = 9_000_001
REPEAT_SHARE, ONE_MODALITY_SHARE, LONG_AXIS_SHARE = 0.04, 0.06, 0.5
CHUNK = 8
_STAMP = "settings.json"


def build_synthetic_cohort(settings: Mapping[str, Any], out_dir: Path, *, processes: int = 1) -> None:
    """Writes the cohort of `settings` (subjects, seed, size, fault_rate) below `out_dir`.

    Files of other settings are removed first. phenotypes.csv is written last: its presence means complete.
    """
    _clear(settings, out_dir)
    faults = plan_faults(settings["seed"], settings["subjects"], settings["fault_rate"])
    chunks = [
        (settings["seed"], settings["size"], list(range(a, min(a + CHUNK, settings["subjects"]))), faults, out_dir)
        for a in range(0, settings["subjects"], CHUNK)
    ]
    visits: list[Visit] = []
    with concurrent.futures.ProcessPoolExecutor(max(1, processes)) as pool:
        for chunk in tqdm(pool.map(_write_people, chunks), total=len(chunks), unit="chunk", mininterval=5):
            visits += chunk
    visits.sort(key=lambda v: (v.eid, v.visit))
    tables.write_timings(out_dir / "timings.csv", visits)
    tables.write_withdrawals(out_dir / "withdrawals", visits)
    tables.write_expected(out_dir / "expected.parquet", settings["seed"], visits)
    tables.write_truth(out_dir / "truth.parquet", dict(settings), visits)
    tables.write_phenotypes(out_dir / "phenotypes.csv", settings["seed"], visits)
    print(f"{settings['subjects']} people, {len(visits)} visits, {len(faults)} planted faults")


def _clear(settings: Mapping[str, Any], out_dir: Path) -> None:
    """Empties the folder when it holds a cohort of other settings, and notes those of this one."""
    stamp = out_dir / _STAMP
    if not stamp.exists() or json.loads(stamp.read_text()) != dict(settings):
        for name in ("ecg", "cmr", "withdrawals"):
            shutil.rmtree(out_dir / name, ignore_errors=True)
        (out_dir / "phenotypes.csv").unlink(missing_ok=True)
    write_json(stamp, dict(settings))


def _write_people(job: tuple[int, str, list[int], dict[int, str], Path]) -> list[Visit]:
    seed, size, indices, faults, out_dir = job
    return [v for index in indices for v in _write_person(seed, size, index, faults.get(index), out_dir)]


def _write_person(seed: int, size: str, index: int, fault: str | None, out_dir: Path) -> list[Visit]:
    """All files of one person, from random streams of their own: the same whatever the cohort's size or order."""
    rng = np.random.default_rng([seed, index, 2])
    repeat, modality, long_axis = rng.random() < REPEAT_SHARE, rng.random(), rng.random() < LONG_AXIS_SHARE
    visits = []
    for instance in (2, 3) if repeat else (2,):
        subject = draw_subject(seed, index, instance)
        visit = Visit(
            eid=str(FIRST_ID + index), index=index, visit=instance, subject=subject,
            fault=fault if instance == 2 or fault == "withdrawn" else None,
            # Faulty people have both modalities, so that the fault is what excludes them.
            has_ecg=instance == 3 or fault is not None or modality >= ONE_MODALITY_SHARE / 2,
            has_cine=instance == 3 or fault is not None or not ONE_MODALITY_SHARE / 2 <= modality < ONE_MODALITY_SHARE,
        )  # fmt: skip
        _write_visit(visit, seed, size, long_axis, out_dir)
        visits.append(visit)
    return visits


def _write_visit(visit: Visit, seed: int, size: str, long_axis: bool, out_dir: Path) -> None:
    fault = frozenset({visit.fault}) if visit.fault else frozenset()
    if visit.has_ecg:
        rng = np.random.default_rng([seed, visit.index, 3, visit.visit])
        trace = simulate_trace(visit.subject, rng)
        data = write_xml(visit.eid, visit.subject, trace, rng, fault & frozenset(ECG_FAULTS))
        write_bytes(out_dir / "ecg" / f"{visit.eid}_20205_{visit.visit}_0.xml", data)
        visit.r_ms = trace.r_ms.tolist()
    if visit.has_cine:
        truth = write_heart_files(
            visit.subject, eid=visit.eid, instance=visit.visit,
            rng=np.random.default_rng([seed, visit.index, 4, visit.visit]), size=size, folder=out_dir / "cmr",
            faults=fault & frozenset(CINE_FAULTS), long_axis=long_axis,
        )  # fmt: skip
        visit.phenotypes, visit.timings = truth.phenotypes, truth.timings
        visit.centre_mm, visit.es_frame = truth.centre_mm, truth.es_frame
