"""Which method a page is about where it can show only one."""

from collections.abc import Mapping
from typing import Any

PREFERRED = ("ptacl", "global", "mae")


def shown_method(config: Mapping[str, Any]) -> str | None:
    """The preferred method with an encoder of its own; None where nothing but labels is learnt."""
    definitions = config["pretrain"]["methods"]
    own = [
        m
        for m in config["methods"]
        if definitions[m]["objective"] != "supervised" and "embedding_of" not in definitions[m]
    ]
    return next((m for m in (*PREFERRED, *own) if m in own), None)
