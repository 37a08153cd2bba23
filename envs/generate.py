"""Writes envs/*.yaml from pyproject.toml's groups and the lock's versions, so that pip and conda cannot drift apart.

Every package is pinned to the minor release that the tests run with: a patch release is free, since conda-forge does not
build each of them.

python envs/generate.py           writes the files
python envs/generate.py --check   exits 1 and names the files that differ
"""

import re
import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
PYTHON = "3.11"
# Groups of an environment, and the build of pytorch in it.
ENVIRONMENTS = {
    "preprocess": (["preprocess"], ""),
    "train": (["train"], "pytorch-cpu"),
    "train_cuda": (["train"], "pytorch-gpu"),
    "report": (["report"], ""),
}
CONDA_NAMES = {"isal": "python-isal"}


def locked() -> dict[str, str]:
    """Minor release of every package in the lock, by name."""
    lines = (FOLDER.parent / "requirements.lock").read_text().split()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return {_canonical(name): ".".join(version.split(".")[:2]) for name, version in pins.items()}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def environment(groups: list[str], pytorch: str, project: dict) -> str:
    """The text of one environment file: Python, the core dependencies and those of the groups."""
    wanted = [*project["dependencies"], *(d for g in groups for d in project["optional-dependencies"][g])]
    pins, lines = locked(), [f"python={PYTHON}"]
    for requirement in wanted:
        name = _canonical(re.match(r"[A-Za-z0-9_.-]+", requirement)[0])
        lines.append(f"{pytorch if name == 'torch' else CONDA_NAMES.get(name, name)}={pins[name]}")
    body = "\n".join(f"  - {line}" for line in sorted(set(lines)))
    return (
        "# Generated from pyproject.toml and requirements.lock by envs/generate.py; edit there.\n"
        f"channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n{body}\n"
    )


def main() -> int:
    """Writes or checks every environment file."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    texts = {FOLDER / f"{name}.yaml": environment(*kind, project) for name, kind in ENVIRONMENTS.items()}
    if "--check" not in sys.argv[1:]:
        for path, text in texts.items():
            path.write_text(text)
        return 0
    stale = [path.name for path, text in texts.items() if not path.exists() or path.read_text() != text]
    if stale:
        print(f"not what pyproject.toml says, run python envs/generate.py: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
