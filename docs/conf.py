"""The site: `make docs` builds it from these pages, the library's docstrings and the help of the commands, without the network."""

import os
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
os.environ["COLUMNS"] = "100"  # of the commands' help

from ptacl import __version__
from ptacl.cli import help_of_commands

project, release = "PTACL", __version__
copyright = "the authors; MIT licence"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
html_theme, html_title = "furo", "PTACL"
html_theme_options = {"source_edit_link": "", "source_view_link": ""}
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_static_path, html_css_files = ["_static"], ["site.css"]
exclude_patterns = ["_static"]
myst_heading_anchors = 3
# Docstrings write code as Markdown does.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
# Pages that lie elsewhere in the repository, where links to them lead on GitHub.
ELSEWHERE = {"../CONTRIBUTING.md": "contributing.md", "../benchmarks/RESULTS.md": "measured.md"}
# The menu. Here, since GitHub shows the pages too, and would show its source.
MENU = {
    "Start": ["quickstart", "data", "ukb", "clusters", "workflow"],
    "Results": ["report", "predict", "sharing", "study"],
    "Method": ["method", "training", "synthetic", "tuning"],
    "Reference": ["artifacts", "faults", "api", "commands", "measured"],
    "Taking part": ["extending", "layout", "contributing"],
}


def _complete(app: object, docname: str, source: list[str]) -> None:
    """Turns links to pages elsewhere to their copies here, and fills in the help of the commands and the menu."""
    text = source[0]
    for there, here in ELSEWHERE.items():
        text = text.replace(f"]({there}", f"]({here}")
    if "<!-- commands -->" in text:
        helps = (f"## ptacl {name}\n\n```text\n{said.rstrip()}\n```\n" for name, said in help_of_commands().items())
        text = text.replace("<!-- commands -->", "\n".join(helps))
    if docname == "index":
        for caption, pages in MENU.items():
            text += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
    source[0] = text


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _complete)
