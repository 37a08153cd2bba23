"""What pages show where they cannot show all."""

from collections.abc import Mapping
from typing import Any

# The method, the first of these that a study has.
PREFERRED = ("ptacl", "global", "mae")
# Pixels per side, and frames, above which a cine is thinned out for a page.
LARGEST, MOST_FRAMES = 64, 25


def shown_method(config: Mapping[str, Any]) -> str | None:
    """The preferred method with an encoder of its own; None where nothing but labels is learnt."""
    definitions = config["pretrain"]["methods"]
    own = [
        m
        for m in config["methods"]
        if definitions[m]["objective"] != "supervised" and "embedding_of" not in definitions[m]
    ]
    return next((m for m in (*PREFERRED, *own) if m in own), None)
