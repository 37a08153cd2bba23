"""The files of a package."""

from pathlib import Path
from typing import Any

import yaml

from ptacl.errors import ArtifactError

WEIGHTS, ABOUT, CARD = "model.safetensors", "package.yaml", "README.md"
KIND, VERSION = "package", 1
KEYS = {
    "method", "seed", "encoder", "projects", "scale_mv", "ecg", "source", "people", "coverage", "phenotypes", "typical_distance",
}  # fmt: skip


def read_about(folder: Path) -> dict[str, Any]:
    """What a package says of itself. Raises ArtifactError."""
    try:
        about = yaml.safe_load((folder / ABOUT).read_text())
    except OSError:
        raise ArtifactError(f"{folder}: no package; `snakemake package` leaves them in results/packages/") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ArtifactError(f"{folder / ABOUT}: damaged") from None
    found = about.get("ptacl_package") if isinstance(about, dict) else None
    if found != VERSION:
        raise ArtifactError(f"{folder / ABOUT}: expected a package of version {VERSION}, found {found}")
    if missing := sorted(KEYS - about.keys()):
        raise ArtifactError(f"{folder / ABOUT}: damaged: `{missing[0]}` is missing")
    return about
