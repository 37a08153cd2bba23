"""profiles/generic as it stands, with a PBS made of three scripts: no PBS was at hand."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PBS = Path(__file__).parent / "pbs"


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    folder = tmp_path / "queue"
    folder.mkdir()
    return folder


def start(study, queue: Path, printed: Path, *overlays: str) -> subprocess.Popen:
    path = f"{PBS}{os.pathsep}{study.environment['PATH']}"
    command = [
        sys.executable, "-m", "snakemake", "pairs", "--workflow-profile", "profiles/generic", "--latency-wait", "5",
        "--seconds-between-status-checks", "1", "--configfile", "configs/micro.yaml", *overlays,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=study.folder, env={**study.environment, "PATH": path, "PBS_QUEUE": str(queue)}, stdout=open(printed, "w"),
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def asked(queue: Path, rule: str) -> list[Path]:
    return [p for p in sorted(queue.glob("*.asked")) if f"-N ptacl_{rule} " in p.read_text()]


def until(found, seconds: float = 120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def test_jobs_go_through_the_scheduler_and_one_that_vanishes_is_tried_again(
    new_study, queue: Path, tmp_path: Path
) -> None:
    study = new_study(tmp_path / "study")
    run = start(study, queue, tmp_path / "printed")
    (first,) = until(lambda: asked(queue, "synthetic"))
    time.sleep(1)
    os.killpg(int(first.with_suffix(".pid").read_text()), signal.SIGKILL)
    assert run.wait(timeout=300) == 0, (tmp_path / "printed").read_text()[-4000:]
    assert {rule: len(asked(queue, rule)) for rule in ("synthetic", "cohort", "ecg_shard", "cmr_shard", "pairs")} == {
        "synthetic": 2, "cohort": 1, "ecg_shard": 2, "cmr_shard": 2, "pairs": 1,
    }  # fmt: skip
    again = next(p for p in asked(queue, "synthetic") if p != first)
    # What the rule asks for, and twice the memory the second time.
    assert "ncpus=8:mem=2000mb -l walltime=0:240:0" in first.read_text()
    assert "mem=4000mb" in again.read_text()
    assert "-A my_account -q cpu" in asked(queue, "pairs")[0].read_text()


def test_an_interrupted_run_takes_its_jobs_with_it(new_study, queue: Path, tmp_path: Path) -> None:
    study = new_study(tmp_path / "study")
    # People enough that generating them takes longer than being told to stop.
    run = start(study, queue, tmp_path / "printed", study.overlay("synthetic: {subjects: 1000}\n"))
    (job,) = until(lambda: asked(queue, "synthetic"))
    pid = int(job.with_suffix(".pid").read_text())
    until(lambda: "Submitted job" in (tmp_path / "printed").read_text())
    run.send_signal(signal.SIGINT)
    run.wait(timeout=60)
    until(lambda: not Path(f"/proc/{pid}").exists(), 20)
    assert not (study.folder / "results/micro/synthetic/phenotypes.csv").exists()
