"""The environments of envs/, created and used by Snakemake from a channel that stands in for conda-forge.

What this cannot show: that conda-forge has these packages and builds, conda's own solver and activation, CUDA.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "conda"
STAGES = {
    "preprocess": ("synthetic", "cohort", "ecg", "cmr", "pairs"),
    "train": ("pretrain", "finetune", "embed", "evaluate", "compare", "package"),
    "report": ("report", "gallery", "quality"),
}
STAGES["train_cuda"] = STAGES["train"]


@pytest.fixture(scope="module")
def channels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    subprocess.run([sys.executable, HERE / "channel.py", folder / "conda-forge"], check=True)
    return folder


@pytest.fixture(scope="module")
def conda(channels: Path) -> dict[str, str]:
    """Variables with which `conda` is the stand-in."""
    path = os.pathsep.join([str(HERE / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "CONDA_STAND_IN_CHANNELS": str(channels),
        "CONDA_STAND_IN_PYTHON": sys.executable,
    }


@pytest.fixture(scope="module")
def environments(conda: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every environment of envs/, solved and linked."""
    folder, found = tmp_path_factory.mktemp("environments"), {}
    for file in sorted((REPOSITORY / "envs").glob("*.yaml")):
        found[file.stem] = folder / file.stem
        create = ["conda", "env", "create", "--quiet", "--yes", "--file", file, "--prefix", found[file.stem]]
        done = subprocess.run(create, env=conda, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return found


# Only for galleries above a million recordings (docs/method.md).
OPTIONAL = {"faiss"}


def imported(files: set[str]) -> set[str]:
    """Top names of all modules that files import, at the top or inside a function, but the standard library's."""
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse((REPOSITORY / file).read_text())):
            if isinstance(node, ast.Import):
                names |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"ptacl"} - OPTIONAL


@pytest.mark.parametrize("name", sorted(STAGES))
def test_an_environment_holds_all_that_its_stages_import_and_nothing_of_ours(
    environments: dict[str, Path], sources_of, name: str
) -> None:
    """By the environment's own Python: Snakemake would lend a script the packages that Snakemake was installed with."""
    scripts = {
        str(p.relative_to(REPOSITORY))
        for stage in STAGES[name]
        for p in REPOSITORY.glob(f"workflow_scripts/{stage}*.py")
    }
    files = sources_of(scripts)
    modules = {".".join(Path(f).with_suffix("").parts).removesuffix(".__init__") for f in files - scripts}
    wanted = sorted(modules | imported(files))
    assert len(modules) > 10 and len(wanted) > len(modules) + 3
    imports = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1:]]"
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
    python = environments[name] / "bin/python"
    done = subprocess.run([python, "-c", imports, *wanted], env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    without = subprocess.run([python, "-c", "import ptacl"], env={"PATH": clean["PATH"]}, cwd="/", capture_output=True)
    assert without.returncode != 0


def test_every_environment_file_is_tested() -> None:
    assert {p.stem for p in (REPOSITORY / "envs").glob("*.yaml")} == set(STAGES)


def test_a_study_runs_with_use_conda(conda: dict[str, str], new_study, tmp_path: Path) -> None:
    study = new_study(tmp_path / "study", "--configfile", "configs/micro.yaml")
    overlay = study.overlay("synthetic: {subjects: 24}\nmethods: [mae]\nseeds: [0]\n")
    run = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "2",
        "--use-conda",
        "--configfile",
        "configs/micro.yaml",
        overlay,
    ]
    done = subprocess.run(run, cwd=study.folder, env=conda, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert (study.folder / "results/micro/report/index.html").is_file()
    made = [p for p in (study.folder / ".snakemake/conda").iterdir() if (p / "conda-meta").is_dir()]
    assert len(made) == 3
    assert done.stdout.count("Activating conda environment") > 8


def test_an_environment_that_cannot_be_solved_says_which_package(conda: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("channels: [conda-forge]\ndependencies: [no-such-package=1]\n")
    create = ["conda", "env", "create", "--file", tmp_path / "bad.yaml", "--prefix", tmp_path / "bad"]
    done = subprocess.run(create, env=conda, capture_output=True, text=True)
    assert done.returncode != 0 and "no-such-package" in done.stderr
