"""The study as a document: what stands in it is what stands in the tables, whichever way it falls."""

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptacl.report.study import write_study

Study = tuple[Path, dict[str, Any]]


def document(study: Study, folder: Path) -> str:
    results, config = study
    write_study(results, config, folder / "study.md", date(2026, 1, 2))
    return (folder / "study.md").read_text()


@pytest.fixture(scope="module")
def page(both: Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    return document(both, tmp_path_factory.mktemp("document"))


def section(page: str, title: str) -> str:
    return page.split(f"\n## {title}\n")[1].split("\n## ")[0]


def cells(table: str) -> list[list[str]]:
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]


def test_it_says_what_was_compared_on_whom_how_surely_and_what_it_does_not_show(page: str) -> None:
    titles = re.findall(r"^## (.+)$", page, re.MULTILINE)
    wanted = [
        "The comparisons in short",
        "On whom",
        "What was compared",
        "The comparisons in numbers",
        "What this does not show",
    ]
    assert [t for t in titles if t in wanted] == wanted
    assert "2026-01-02" in page and "settings " in section(page, "How it was made") and "torch" in page
    assert re.search(r"from 100 draws", page) and "131 visits were found, 120 are usable" in section(page, "On whom")


def test_every_table_is_one(page: str) -> None:
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", page, re.MULTILINE)
    assert len(blocks) > 8
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1, block[:200]
    assert "nan" not in page.lower().split() and "None" not in page


def test_the_first_lines_say_what_the_differences_say(page: str) -> None:
    short = section(page, "The comparisons in short")
    (line,) = [s for s in short.splitlines() if "`ptacl` against `global`" in s]
    above, below = line.split("Below: ")
    # The fixture's differences are 0.05 by the probe and -1.96 fine-tuned.
    assert "R² LV myocardial mass (0.050)" in above
    assert "R² mean of the volumes, mass and ejection fractions, fine-tuned (−1.960)" in below
    assert "recall@10 of the own partner, both directions" not in line  # told by each direction


def test_every_quantity_stands_below_with_the_protocol_that_read_it(page: str) -> None:
    numbers = section(page, "The comparisons in numbers")
    for title, value in (("Probe, mean over time", 0.05), ("Probe, phase bins", -0.95), ("Fine-tuned", -1.95)):
        part = numbers.split(f"**{title}**")[1].split("\n\n")[1]
        head, _, *rows = cells(part)
        assert head == ["pair", "LVEDV", "LVEF", "LVM", "es_ms"] or set(head) == {
            "pair",
            "LVEDV",
            "LVEF",
            "LVM",
            "es_ms",
        }
        assert all(c.startswith(f"**{value:.3f}".replace("-", "−")) for c in rows[0][1:]), rows


def test_an_interval_that_holds_zero_is_told_apart_from_one_that_does_not(
    study: Callable[..., Study], tmp_path: Path
) -> None:
    results, config = study()
    path = results / "regression/differences.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for r in rows:
        if r["phenotype"] == "LVM" and r["kind"] == "difference":
            r["lo"] = -0.02
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    page = document((results, config), tmp_path)
    assert "Not told apart: R² LV myocardial mass" in section(page, "The comparisons in short")
    assert "| LVM" in page and "**0.050 (−0.020" not in page


def test_the_share_of_the_ceiling_is_the_largest_reading(page: str) -> None:
    line = next(s for s in section(page, "The comparisons in short").splitlines() if "attainable" in s)
    assert "LV myocardial mass 0.70 (0.60 to 0.80) (probe, mean over time)" in line


def test_protocols_stand_in_sections_of_their_own(page: str) -> None:
    probe, finetuned = (section(page, t) for t in (
        "What the frozen embedding tells (protocol `probe`)", "What an encoder learns from labels (protocol `finetune`)",
    ))  # fmt: skip
    methods = [row[0] for row in cells(finetuned)[2:]]
    assert "`ptacl`" in methods and "`covariates`" not in methods and "`random`" not in methods
    assert "`covariates`" in probe


def test_a_study_too_small_to_compare_is_written_as_well(study: Callable[..., Study], tmp_path: Path) -> None:
    page = document(study(splits=(70, 12, 18, 0)), tmp_path)
    assert "## What this does not show" in page


def test_images_lie_beside_the_page_and_are_the_same_every_time(both: Study, tmp_path: Path) -> None:
    page = document(both, tmp_path / "a")
    again = document(both, tmp_path / "b")
    names = re.findall(r"\]\((images/[^)]+)\)", page)
    assert page == again and len(names) == 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
