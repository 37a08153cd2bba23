"""Writes envs/*.yaml from pyproject.toml's dependency groups, so that pip and conda cannot drift apart.

python envs/generate.py           writes the files
python envs/generate.py --check   exits 1 and names the files that differ
"""

import re
import sys
import tomllib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ENVIRONMENTS = {"preprocess": ["preprocess"], "train": ["train"], "report": ["report"]}
CONDA_NAMES = {"torch": "pytorch", "isal": "python-isal"}


def environment(groups: list[str], project: dict) -> str:
    """The text of one environment file: Python, the core dependencies and those of the groups."""
    wanted = [*project["dependencies"], *(d for g in groups for d in project["optional-dependencies"][g])]
    lines = [f"python{project['requires-python']},<3.13"]
    for requirement in wanted:
        name, constraint = re.fullmatch(r"([A-Za-z0-9_.-]+)(.*)", requirement).groups()
        lines.append(CONDA_NAMES.get(name, name) + constraint)
    body = "\n".join(f"  - {line}" for line in sorted(set(lines)))
    return (
        "# Generated from pyproject.toml by envs/generate.py; edit there.\n"
        f"channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n{body}\n"
    )


def main() -> int:
    """Writes or checks every environment file."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text())["project"]
    texts = {FOLDER / f"{name}.yaml": environment(groups, project) for name, groups in ENVIRONMENTS.items()}
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
