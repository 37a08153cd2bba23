"""A miniature study, run once from a copy of the repository as a user would run it from a clone."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = ["Snakefile", "config.yaml", "configs", "envs", "profiles", "ptacl", "rules", "workflow_scripts"]


class Study:
    """A copy of the repository in which Snakemake runs."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.arguments = arguments
        self.printed = ""
        folder.mkdir(exist_ok=True)
        for name in PARTS:
            source = REPOSITORY / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)

    @property
    def environment(self) -> dict[str, str]:
        """Variables as in a shell with the virtual environment activated."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}

    def run(self, *arguments: str, cores: int = 2) -> subprocess.CompletedProcess[str]:
        """Runs Snakemake as the README says and returns what it printed (both streams in stdout)."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores), *self.arguments, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Rule names and job counts of a dry run; empty when there is nothing to be done."""
        done = self.run("--dry-run", *arguments)
        assert done.returncode == 0, done.stdout[-4000:]
        if "Nothing to be done" in done.stdout:
            return {}
        table = done.stdout.split("Job stats:")[1].split("total")[0]
        return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+)\s+(\d+)\s*$", table, re.MULTILINE) if m[1] != "all"}

    def overlay(self, text: str) -> str:
        """Writes one more config file and returns its name, for `--configfile`."""
        path = self.folder / "overlay.yaml"
        path.write_text(text)
        return path.name


@pytest.fixture(scope="session")
def new_study() -> type[Study]:
    """Makes a fresh copy of the repository in a folder."""
    return Study


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The finished miniature study of configs/micro.yaml."""
    study = Study(tmp_path_factory.mktemp("micro"), "--configfile", "configs/micro.yaml")
    done = study.run()
    assert done.returncode == 0, done.stdout[-6000:]
    study.printed = done.stdout
    return study


@pytest.fixture(scope="session")
def copy_of_micro(micro: Study, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Study]:
    """Makes copies of the finished study that a test may change; times of files are kept."""

    def copy() -> Study:
        study = Study.__new__(Study)
        study.folder = tmp_path_factory.mktemp("copy") / "study"
        study.arguments = micro.arguments
        shutil.copytree(micro.folder, study.folder)
        return study

    return copy
