"""The report: one page that asks for nothing, names nobody, and stays honest in small studies."""

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ptacl.artifacts import write_json
from ptacl.counts import Exact
from ptacl.errors import ArtifactError
from ptacl.publish import publish
from ptacl.report.stage import build_report
from ptacl.report.tables import _mean_sd


class Page(HTMLParser):
    """Tags with attributes, and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def build(results: Path, config: dict) -> str:
    build_report(results, config)
    return built(results)


def built(results: Path) -> str:
    return (results / "report/index.html").read_text()


@pytest.fixture(scope="module")
def page(default) -> str:
    return built(default[0])


def test_the_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert not [
        a for _, attributes in Page(page).tags for k, a in attributes.items()
        if k in ("src", "href", "xlink:href", "action", "data") and a
        and not a.startswith(("#", "data:", "../gallery/", "../quality/"))
    ]  # fmt: skip
    assert not re.search(r"url\((?!#|['\"]?data:)|@import|fetch\(|XMLHttpRequest", page)


def test_nobody_is_named_on_the_page_or_in_the_tables(both) -> None:
    results, _ = both
    text = built(results) + "".join(p.read_text() for p in (results / "tables").glob("*.csv"))
    assert not re.search(r"(?<!\d)9000\d{3}(?!\d)", text)


def test_absolute_paths_stay_off_the_page(default, page: str) -> None:
    assert str(default[0].parent) not in page


def test_every_figure_has_words_for_those_who_can_not_see_it(page: str) -> None:
    images = [a for tag, a in Page(page).tags if tag in ("svg", "img") or "sprite" in (a.get("class") or "").split()]
    assert len(images) >= 6
    assert all(a.get("role") == "img" and a.get("aria-label") for a in images)


def test_every_table_has_a_caption(page: str) -> None:
    tags = [tag for tag, _ in Page(page).tags]
    assert tags.count("table") == tags.count("caption") > 5


def test_a_hostile_title_and_note_are_text(study) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=y>"
    page = build(*study(lambda c: c.update(methods=["mae"], report=c["report"] | {"title": hostile, "note": hostile})))
    assert "<script>alert" not in page and "<img src=x" not in page
    assert "&lt;script&gt;alert" in page


def test_the_same_study_gives_the_same_bytes_wherever_it_lies(study, default, page: str) -> None:
    results, config = study()

    def text(page: str) -> str:
        return re.sub(r"digest [0-9a-f]{16}", "", page)  # of the config, which says where

    assert text(build(results, config)) == text(page)
    for table in (results / "tables").glob("*.csv"):
        assert table.read_bytes() == (default[0] / "tables" / table.name).read_bytes()


def test_title_note_and_origin_stand_before_the_answer(default, page: str) -> None:
    head, settings = page[page.index("<body") : page.index('id="answer"')], default[1]["report"]
    assert settings["title"] in head and settings["note"] in head and "independent implementation" in head


def test_a_flow_that_does_not_add_up_is_refused(study) -> None:
    results, config = study()
    flow = json.loads((results / "pairs/flow.json").read_text())
    write_json(results / "pairs/flow.json", flow | {"subjects": flow["subjects"] + 1})
    with pytest.raises(ArtifactError, match="add up"):
        build(results, config)


def test_the_flow_shows_every_reason_with_its_count(page: str) -> None:
    flow = page[page.index('class="flow"') : page.index("</svg>", page.index('class="flow"'))]
    assert "n = 131" in flow and "n = 120" in flow
    for reason in ("withdrew consent: 3", "no CMR: 5", "ECG file breaks off: 2", "too few short-axis slices: 1"):
        assert reason in flow, reason


def test_scores_over_seeds_are_means_with_their_spread(study) -> None:
    results, config = study(lambda c: c.update(seeds=[0, 1, 2]))
    build(results, config)
    rows = list(csv.DictReader((results / "tables/regression_probe.csv").open()))
    headline = {"metric": "r2", "inputs": "ecg", "subgroup": "all", "label_fraction": "1.0"}
    rows = [r for r in rows if all(r[k] == v for k, v in headline.items())]
    ours = [r for r in rows if r["method"] == "ptacl" and r["phenotype"] == "LVM"]
    reference = [r for r in rows if r["method"] == "median_beat"]
    assert len(ours) == 1 and ours[0]["seeds"] == "3" and float(ours[0]["seed_sd"]) > 0
    assert reference and all(r["seed_sd"] == "" for r in reference)


def test_one_seed_is_said_to_be_one(page: str) -> None:
    assert "one training seed" in page


@pytest.mark.parametrize("splits", [(10, 2, 2, 0), (6, 1, 1, 2), (14, 0, 0, 3), (0, 0, 0, 1)])
def test_small_studies_get_a_page_with_notes(study, splits: tuple[int, int, int, int]) -> None:
    page = build(*study(splits=splits))
    assert "nan" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).lower().split()
    assert "too small" in page or "No phenotype could be scored" in page


def test_examples_come_from_the_test_split_or_not_at_all(study) -> None:
    assert "Example A" not in build(*study(splits=(10, 2, 2, 0)))


def test_a_study_without_phenotypes_gets_a_page(study) -> None:
    page = build(*study(phenotypes=False))
    assert "No phenotype could be scored" in page
    assert "R@10" in page


def test_a_study_of_one_method_without_examples_gets_a_page(study) -> None:
    def change(config: dict) -> None:
        config["methods"], config["report"]["examples"] = ["mae"], 0

    page = build(*study(change))
    assert "No method of this study aligns ECG and CMR" in page
    assert 'id="examples"' not in page


def test_the_standard_deviation_of_the_cohort_is_that_of_a_sample() -> None:
    assert _mean_sd([1.0, 3.0], Exact()) == "2.00 (1.41)"


def csv_of(results: Path, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader((results / f"tables/{table}.csv").open()))


def test_protocols_are_never_mixed_in_one_table(both) -> None:
    results, _ = both
    expected = {
        "regression_probe": "probe", "regression_finetune": "finetune", "nuisances": "nuisance",
        "differences_probe": "probe", "differences_finetune": "finetune", "differences_retrieval": "",
    }  # fmt: skip
    assert {p.stem for p in (results / "tables").glob("*.csv")} == {*expected, "retrieval"}
    for table, protocol in expected.items():
        assert {r["protocol"] for r in csv_of(results, table)} == {protocol}, table
    assert {r["method"] for r in csv_of(results, "regression_finetune")} == {"mae", "global", "ptacl", "ptacl_shuffled"}


def test_without_fine_tuning_there_is_no_table_of_it(default) -> None:
    results, _ = default
    assert not list((results / "tables").glob("*finetune*"))


@pytest.mark.parametrize("table", ["regression_probe", "regression_finetune"])
def test_every_result_stands_beside_the_ceiling_of_the_same_inputs_quantity_and_people(both, table: str) -> None:
    results, _ = both
    best = {
        (r["method"], r["phenotype"], r["metric"], r["subgroup"]): r["value"]
        for r in csv_of(results, "regression_probe")
        if r["label_fraction"] == "1.0"
    }
    ceiling = {"ecg": "ceiling_meas", "ecg_phase": "ceiling_meas", "covariates_ecg": "ceiling_meas_covariates"}
    rows = [r for r in csv_of(results, table) if r["method"] == "ptacl"]
    assert rows
    for r in rows:
        assert r["ceiling"] and r["ceiling"] == best[ceiling[r["inputs"]], r["phenotype"], r["metric"], r["subgroup"]]
    known = {r["ceiling"] for r in rows}
    assert len(known) > len(ceiling)


def test_what_may_be_shared_passes_the_check_and_the_private_page_does_not(both, tmp_path: Path) -> None:
    results, _ = both
    ids = [str(9_000_001 + i) for i in range(120)]
    assert publish(results / "shareable", tmp_path / "out", ids) == []
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.*")) == sorted(
        p.name for p in [results / "report/index.html", *(results / "tables").glob("*.csv")]
    )
    private = shutil.copytree(results / "shareable", tmp_path / "private")
    shutil.copy(results / "report/index.html", private / "report/index.html")
    assert publish(private, tmp_path / "again", ids)


@pytest.mark.parametrize("splits", [(70, 12, 3, 4), (20, 2, 2, 2)])
def test_what_a_small_study_shares_passes_the_check(study, tmp_path: Path, splits: tuple[int, int, int, int]) -> None:
    results, config = study(splits=splits)
    build(results, config)
    assert publish(results / "shareable", tmp_path / "out", []) == []
