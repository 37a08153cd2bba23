"""A study that is killed again and again, or finds the disk full, ends like an unbroken one."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

KILLS = int(os.environ.get("PTACL_KILLS", "3"))
# They are the record of speeds, and of the times of raw files, which a killed generator writes anew.
TIMED = re.compile(r".*/history\.parquet|cohort/\d+\.parquet")


class Run:
    """One start of a study as `make demo` starts it, in a process group of its own."""

    def __init__(self, study) -> None:
        command = [sys.executable, "workflow_scripts/once.py", "--cores", "2", "--configfile", "configs/micro.yaml"]
        self.process = subprocess.Popen(
            command, cwd=study.folder, env=study.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self.reader.start()

    def finished(self) -> int:
        """Jobs that this start has finished so far."""
        return sum("Finished jobid" in line for line in self.lines)

    def live(self, jobs: int, then_s: float) -> bool:
        """Waits for so many jobs and a moment more; False when the run came to its end before."""
        while self.process.poll() is None and self.finished() < jobs:
            time.sleep(0.02)
        time.sleep(then_s)
        return self.process.poll() is None

    def kill(self, alone: bool) -> None:
        """SIGKILL for everything, or for Snakemake alone: its jobs then go on as orphans."""
        if alone:
            self.process.kill()
        else:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> str:
        """What it printed, when it has ended by itself."""
        self.process.wait()
        self.reader.join(timeout=10)
        return "".join(self.lines)


def artifacts(results: Path) -> dict[str, bytes]:
    """Every table and tensor file of a study but the raw files and what holds times."""
    kinds = {".csv", ".parquet", ".safetensors", ".json"}
    found = {p.relative_to(results).as_posix(): p for p in sorted(results.rglob("*")) if p.suffix in kinds}
    return {
        name: p.read_bytes()
        for name, p in found.items()
        if not TIMED.fullmatch(name) and name.split("/")[0] not in ("synthetic", "benchmarks")
    }


def test_a_study_killed_at_random_moments_ends_with_the_same_files(micro, new_study, tmp_path: Path) -> None:
    """kill -9, as often as PTACL_KILLS says, of everything or of Snakemake alone, and nobody unlocks anything."""
    study, dice, killed = new_study(tmp_path / "study"), random.Random(7), 0
    jobs = int(re.findall(r"of (\d+) steps", micro.printed)[-1])
    while killed < KILLS:
        run = Run(study)
        if not run.live(dice.randint(0, int(1.4 * jobs / KILLS)), dice.uniform(0.0, 3.0)):
            break
        run.kill(alone=dice.random() < 0.3)
        killed += 1
    assert killed == KILLS, run.end()[-3000:]
    last = Run(study)
    printed = last.end()
    assert last.process.returncode == 0, printed[-4000:]
    results = study.folder / "results/micro"
    found, expected = artifacts(results), artifacts(micro.folder / "results/micro")
    assert found.keys() == expected.keys()
    assert [name for name, content in found.items() if content != expected[name]] == []
    left = [p.name for p in results.rglob("*") if p.suffix in (".tmp", ".ckpt")]
    assert left == []


def test_a_full_disk_leaves_nothing_half_written_and_the_next_run_goes_on(new_study, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: shards of ECG tensors are larger, those of cines smaller."""
    study = new_study(tmp_path / "study", "pairs", "--configfile", "configs/micro.yaml")
    limit = 2 * 2**20
    command = [sys.executable, "-m", "snakemake", "--cores", "2", *study.arguments]
    done = subprocess.run(
        command, cwd=study.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
    )  # fmt: skip
    assert done.returncode == 1
    results = study.folder / "results/micro"
    assert "File too large" in done.stdout
    assert list((results / "ecg").glob("*")) == []
    shards = sorted((results / "cmr").glob("*.safetensors"))
    before = [p.stat().st_mtime_ns for p in shards]
    assert len(shards) == 4  # two of cines, and their views
    again = study.run()
    assert again.returncode == 0, again.stdout[-3000:]
    assert len(list((results / "ecg").glob("*.safetensors"))) == 2
    assert [p.stat().st_mtime_ns for p in shards] == before
