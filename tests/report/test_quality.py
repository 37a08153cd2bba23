"""The quality pages: everybody is there, in the order of the manifest, and nobody is named."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ptacl.errors import ArtifactError
from ptacl.report.quality import build_quality_index, build_quality_page
from ptacl.stages import stage_settings


def build(results: Path, config: dict, name: str = "0000") -> str:
    out = results / f"quality/{name}.html"
    build_quality_page(results, name, stage_settings(config, "quality"), out)
    return out.read_text()


def test_every_row_of_the_shard_has_a_card_in_its_order(default) -> None:
    results, config = default
    page, table = build(results, config), pq.read_table(results / "ecg/0000.parquet").to_pylist()
    assert re.findall(r'<li class="card[^"]*" id="row-(\d+)"', page) == [str(i) for i in range(len(table))]
    assert page.count('class="ecg small"') == page.count("data:image/jpeg") == sum(r["status"] == "ok" for r in table)
    assert f"{len(table)} records, {len(table) - 1} with a usable ECG and MRI" in page


def test_flags_and_reasons_stand_in_words_on_the_card_of_their_row(default) -> None:
    results, config = default
    cards = re.split(r'<li class="card', build(results, config))[1:]
    for row, card in zip(pq.read_table(results / "ecg/0000.parquet").to_pylist(), cards, strict=True):
        assert ("ECG: a flat lead" in card) == ("flat_lead" in row["flags"])
        assert ("four or more ECG leads flat" in card) == (row["status"] == "excluded")


def test_nobody_is_named(default) -> None:
    assert not re.search(r"(?<!\d)9000\d{3}(?!\d)", build(*default) + build(*default, name="0001"))


def test_pages_lead_to_their_neighbours_and_no_further(default) -> None:
    first, last = build(*default), build(*default, name="0001")
    assert 'href="0001.html"' in first and "Shard before" not in first
    assert 'href="0000.html"' in last and "Shard after" not in last


def test_the_list_counts_what_is_in_the_shards(default) -> None:
    results, _ = default
    build_quality_index(results, ["0000", "0001"], results / "quality/index.html")
    page = (results / "quality/index.html").read_text()
    rows = re.findall(r"<tr><th scope=\"row\"><a href=\"\d{4}.html\">(\d{4})</a></th>" + r"<td>(\d+)</td>" * 4, page)
    found = []
    for name in ("0000", "0001"):
        ecg, cmr = (pq.read_table(results / f"{k}/{name}.parquet").to_pylist() for k in ("ecg", "cmr"))
        usable = sum(e["status"] == c["status"] == "ok" for e, c in zip(ecg, cmr, strict=True))
        flagged = sum(bool(e["flags"] or c["flags"]) for e, c in zip(ecg, cmr, strict=True))
        found.append((name, *map(str, (len(ecg), usable, flagged, len(ecg) - usable))))
    assert rows == found
    assert re.search(r"no CMR</th><td>2</td>", page)


def test_the_page_of_a_shard_that_is_no_longer_there_is_deleted(study) -> None:
    results, config = study()
    for name in ("0000", "0001"):
        build(results, config, name)
    build_quality_index(results, ["0000"], results / "quality/index.html")
    assert sorted(p.name for p in (results / "quality").iterdir()) == ["0000.html", "index.html"]


def test_a_shard_without_views_says_which_stage_is_missing(study) -> None:
    results, config = study()
    (results / "cmr/0000_views.safetensors").unlink()
    with pytest.raises(ArtifactError, match="0000_views.safetensors: not there; run the stage"):
        build(results, config)
