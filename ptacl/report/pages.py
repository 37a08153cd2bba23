"""Pages of one file each: the templates, with the style and the scripts they need written into them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, *, title: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """The page as HTML. scripts: names of files beside the templates."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        title=title,
        style=(TEMPLATES / "style.css").read_text(),
        script="".join((TEMPLATES / name).read_text() for name in scripts),
        **values,
    )
