"""The documentation: the site builds without the network, its links lead somewhere, and what it tells people to type works."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from ptacl.cli import help_of_commands
from ptacl.config import load_config
from ptacl.errors import UnreadableEcg
from ptacl.plan import plan_study

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built with every warning an error: a link that leads nowhere, a page in no menu, a module that is gone."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "-d", folder / "cache"]
    done = subprocess.run([*build, REPOSITORY / "docs", folder / "html"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


def test_every_page_is_there_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {p.stem for p in site.glob("*.html")}
    assert {p.stem for p in (REPOSITORY / "docs").glob("*.md")} <= pages
    for page in site.glob("*.html"):
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"([^\"]+)\"", page.read_text())
        assert [u for u in loaded if re.match(r"(https?:)?//", u)] == [], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style.name


def test_the_library_and_the_commands_are_described(site: Path) -> None:
    api, commands = (site / "api.html").read_text(), (site / "commands.html").read_text()
    for name in ("ptacl.package.model.load_package", "ptacl.ecg.readers.read_ecg", "ptacl.model.losses.local_loss"):
        assert f'id="{name}"' in api
    for name in help_of_commands():
        assert f"ptacl {name}" in commands
    assert "usage: ptacl predict" in commands


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_of_the_repository_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_are_ones_that_there_are(page: Path) -> None:
    named = set(re.findall(r"(?m)^(?:\.venv/bin/)?ptacl ([a-z-]+)", page.read_text()))
    assert named <= set(help_of_commands())


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of a page, indented ones too, without their indentation."""
    found = []
    text = (REPOSITORY / "docs" / page).read_text()
    for indent, body in re.findall(rf"(?ms)^( *)```{language}\n(.*?)^\1```$", text):
        found.append(re.sub(rf"(?m)^{indent}", "", body))
    return found


def test_the_reader_that_is_explained_reads_and_refuses(tmp_path: Path) -> None:
    names: dict = {}
    exec(blocks("extending.md", "python")[0], names)
    file = tmp_path / "a.acq"
    file.write_text('{"rate_hz": 500, "samples_uv": {"i": [100, -50], "V1": [1000, 0], "SpO2": [97, 98]}}')
    record = names["read_acq"](file)
    assert record.signal[0] == pytest.approx([0.1, -0.05]) and record.signal[6] == pytest.approx([1.0, 0.0])
    assert np.flatnonzero(record.present).tolist() == [0, 6] and record.rate_hz == 500
    large = "9" * 400
    for odd in (
        "", "[]", '{"rate_hz": 0, "samples_uv": {}}', '{"rate_hz": 500, "samples_uv": 3}', "[" * 10_000,
        f'{{"rate_hz": {large}, "samples_uv": {{}}}}', f'{{"rate_hz": 500, "samples_uv": {{"I": [{large}]}}}}',
    ):  # fmt: skip
        file.write_text(odd)
        with pytest.raises(UnreadableEcg):
            names["read_acq"](file)


@pytest.mark.parametrize("overlay", [*blocks("extending.md", "yaml"), *blocks("training.md", "yaml")])
def test_overlays_that_are_explained_are_valid(tmp_path: Path, overlay: str) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(overlay)
    config = load_config([file])
    assert set(yaml.safe_load(overlay)["pretrain"]["methods"]) <= set(config["pretrain"]["methods"])


def test_what_the_readme_says_of_costs_is_what_the_plan_says() -> None:
    stages = plan_study(load_config([REPOSITORY / "configs/paper.yaml"]), 27951)
    said = re.search(
        r"the study takes (\d+) core hours, (\d+) GPU hours .*? and (\d+) GB of tensors and embeddings, in\n(\d+) jobs",
        (REPOSITORY / "README.md").read_text(),
    )
    hours = [sum(s.core_s for s in stages) / 3600, sum(s.gpu_s for s in stages) / 3600]
    found = [*hours, sum(s.disk for s in stages) / 1e9, sum(s.jobs for s in stages)]
    assert [int(n) for n in said.groups()] == [round(x) for x in found]


def test_places_in_the_code_that_are_named_are_there() -> None:
    layout = (REPOSITORY / "docs/layout.md").read_text().split("```")[1]
    parents = {"ecg", "cmr", "cohort", "synthetic", "store", "model", "training", "evaluation", "report", "package"}
    assert all((REPOSITORY / "ptacl" / name).is_dir() for name in parents)
    for line in filter(None, layout.splitlines()):
        folder = REPOSITORY / ("ptacl" if line.startswith("  ") else "")
        named = line.split("    ")[0] if line.startswith("  cli.py") else line[:22]
        for name in filter(None, re.split(r"[,\s]+", named)):
            assert (folder / name).exists(), name
