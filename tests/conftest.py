"""Fixtures shared by all tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

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
