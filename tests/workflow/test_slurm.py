"""A small study through profiles/slurm on a real SLURM of one node, which these tests install, start and stop.

They change system packages and /etc/slurm, and so run only when CI or PTACL_TEST_SLURM=1 is set (`make test-slurm`).
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
HERE = Path(__file__).parent / "slurm"
ETC = Path("/etc/slurm")
CONFIGS = ("slurm.conf", "gres.conf")
# A toy cluster keeps no accounts, answers at once, and has few cores.
TOY = (
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2", "--seconds-between-status-checks", "2",
    "--latency-wait", "10", "--set-threads", "synthetic=2",
)  # fmt: skip


class Slurm:
    """munged, slurmctld and slurmd on loopback, their files below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pids = folder, [folder / p for p in ("slurmd.pid", "slurmctld.pid", "munge/munged.pid")]

    def start(self) -> None:
        """Returns when the node takes jobs."""
        for name in ("state", "spool", "log", "munge"):
            (self.folder / name).mkdir(parents=True)
        os.chmod(self.folder, 0o755)
        memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 9 // 10_240
        values = {"@DIR@": str(self.folder), "@CPUS@": str(os.cpu_count()), "@MEM@": str(memory)}
        text = (HERE / "slurm.conf.in").read_text()
        for key, value in values.items():
            text = text.replace(key, value)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("NodeName=localhost Name=gpu File=/dev/null\n")
        # In /etc and not by SLURM_CONF: Snakemake drops variables of SLURM within a job, which then finds no cluster.
        ETC.mkdir(exist_ok=True)
        for name in CONFIGS:
            (ETC / name).symlink_to(self.folder / name)
        key = self.folder / "munge/munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        munge = self.folder / "munge"
        munged = [
            f"--{k}={munge / v}"
            for k, v in (("key-file", "munge.key"), ("socket", "munge.socket"), ("seed-file", "seed"))
        ]
        call("munged", "--force", *munged, f"--pid-file={self.pids[2]}", f"--log-file={self.folder / 'log/munged.log'}")
        call("slurmctld", "-c")
        call("slurmd", "-N", "localhost")
        for _ in range(120):
            if call("sinfo", "-h", "-p", "cpu", "-o", "%t", check=False).strip() == "idle":
                return
            time.sleep(0.5)
        raise AssertionError("\n".join(p.read_text()[-2000:] for p in (self.folder / "log").glob("*.log")))

    def stop(self) -> None:
        """Ends what it started, by process number."""
        call("scancel", "--user=root", check=False)
        for path in self.pids:
            if path.exists():
                pid = int(path.read_text())
                os.kill(pid, signal.SIGTERM)
                for _ in range(60):
                    if not Path(f"/proc/{pid}").exists():
                        break
                    time.sleep(0.25)
        for name in CONFIGS:
            (ETC / name).unlink()

    def ended(self) -> list[dict[str, str]]:
        """The job log: one entry for every job that ended."""
        path = self.folder / "log/jobcomp.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def call(*command: str, check: bool = True) -> str:
    """What a command prints."""
    return subprocess.run(command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if not (os.environ.get("CI") or os.environ.get("PTACL_TEST_SLURM") == "1"):
        pytest.fail("this installs packages and starts daemons: set PTACL_TEST_SLURM=1 where that is wanted")
    if any((ETC / name).exists() for name in CONFIGS):
        pytest.fail("this machine has a SLURM of its own, which is left alone")
    if not shutil.which("slurmctld"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
            subprocess.run(["apt-get", "-q", *command], check=True, env=environment, stdout=subprocess.DEVNULL)
        for name in CONFIGS:  # none comes with the package; what is no link is somebody's
            assert not (ETC / name).exists()
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


def running(name: str) -> list[str]:
    """Numbers of running jobs whose comment names a rule."""
    rows = call("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines()
    return [r.split()[0] for r in rows if name in r]


def test_a_study_runs_through_slurm_and_survives_a_killed_job(micro, new_study, slurm: Slurm, tmp_path: Path) -> None:
    study = new_study(tmp_path / "study")
    profile = study.folder / "profiles/slurm/profile.yaml"
    text = profile.read_text()
    # What a user with an account and these partitions edits is nothing; the pretended GPU is asked for in addition.
    trained = "pretrain_method: {"
    assert trained in text
    profile.write_text(text.replace(trained, trained + "gpu: 1, "))
    # Snakemake waits for ever for a job that SLURM holds.
    command = [
        "timeout", "-k", "30", "1500", sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm", *TOY,
        "--configfile", "configs/micro.yaml",
    ]  # fmt: skip
    with open(tmp_path / "printed", "w") as printed:
        run = subprocess.Popen(
            command, cwd=study.folder, env=study.environment, stdout=printed, stderr=subprocess.STDOUT
        )
        together, killed = 0, None
        while run.poll() is None:
            trainings = running("rule_pretrain_method")
            together = max(together, len(trainings))
            if trainings and killed is None:
                killed = trainings[0]
                time.sleep(4)
                call("scancel", "--signal=KILL", "--full", killed)
            time.sleep(0.5)
    printed = (tmp_path / "printed").read_text()
    assert run.returncode == 0, printed[-5000:]

    # Trainings took turns on the one GPU.
    assert together == 1
    jobs = slurm.ended()
    jobs_planned = int(re.findall(r"of (\d+) steps", micro.printed)[-1])
    targets = 1  # `all` runs nothing
    by_state = {s: sum(j["JobState"] == s for j in jobs) for s in {j["JobState"] for j in jobs}}
    assert by_state.get("COMPLETED") == jobs_planned - targets, by_state
    assert len(jobs) == jobs_planned - targets + 1 and killed in {j["JobId"] for j in jobs}, by_state
    assert sum(j["Partition"] == "gpu" for j in jobs) > 8

    tables = {p.name: p.read_bytes() for p in (micro.folder / "results/micro/tables").glob("*.csv")}
    assert tables and tables == {p.name: p.read_bytes() for p in (study.folder / "results/micro/tables").glob("*.csv")}
