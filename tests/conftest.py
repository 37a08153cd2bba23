"""Fixtures shared by all tests."""

import ast
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Elsewhere every run tries other examples; CI tells about the change, not about luck, and its machines may be slow.
settings.register_profile("ptacl", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("ptacl")


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Returns a folder of real sample files by name, or skips the test where it isn't there.

    They lie in `../shared/data` beside the repository, or where PTACL_SHARED_DATA says.
    """
    base = Path(os.environ.get("PTACL_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))

    def folder(name: str) -> Path:
        if not (base / name).is_dir():
            pytest.skip(f"real sample files '{name}' are not on this machine")
        return base / name

    return folder


def _module_file(name: str) -> str | None:
    """The file of a module `ptacl.x.y`, or of the package; None for names within a module."""
    base = REPOSITORY / Path(*name.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return str(file.relative_to(REPOSITORY))
    return None


def _imports_of(file: str) -> set[str]:
    """The ptacl files a file imports anywhere, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse((REPOSITORY / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ptacl":
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names if a.name.split(".")[0] == "ptacl"]
        else:
            continue
        for name in names:
            parts = name.split(".")
            # Importing a module runs the __init__ of every package above it.
            found |= {f for i in range(1, len(parts) + 1) if (f := _module_file(".".join(parts[:i])))}
    return found


def _closure(files: set[str]) -> set[str]:
    todo, seen = set(files), set()
    while todo:
        file = todo.pop()
        seen.add(file)
        todo |= _imports_of(file) - seen
    return seen


@pytest.fixture(scope="session")
def sources_of() -> Callable[[set[str]], set[str]]:
    """Files of the repository with all ptacl files that they import, at the top or inside a function, and so on."""
    return _closure
