"""What may leave: counts nobody is found by, and a check that finds what was planted."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ptacl.artifacts import write_tensors
from ptacl.cli import main
from ptacl.counts import LEAST, Rounded, shareable
from ptacl.errors import ConfigError
from ptacl.model.build import ecg_encoder
from ptacl.package.card import card
from ptacl.publish import publish, publish_model

IDS = ["9000017", "S-2041", "P01", "men", "17"]
PAGE = """<html><head><style>p {{ color: red }}</style></head><body>
<table><thead><tr><th>group</th><th>visits</th><th>R²</th></tr></thead>
<tbody><tr><th>everybody</th><td>1,260</td><td>0.43 (0.31 to 0.52)</td></tr>
<tr><th>women</th><td>{women}</td><td>0.40</td></tr></tbody></table>
<table><tbody><tr><th>usable for the local loss</th><td>{share}</td></tr></tbody></table>
<svg><text>no CMR: {excluded}</text></svg>{more}</body></html>
"""
CSV = "method,metric,value,n,seeds\nptacl,r2,0.4312345,175,3\nptacl,r2,0.2,{n},3\n"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder as the report leaves it, with something planted."""

    def make(
        women: str = "640", share: str = "1,200 (95 %)", excluded: str = "fewer than 5", more: str = "", n: str = "170"
    ) -> Path:
        (tmp_path / "shareable/report").mkdir(parents=True)
        (tmp_path / "shareable/tables").mkdir()
        page = PAGE.format(women=women, share=share, excluded=excluded, more=more)
        (tmp_path / "shareable/report/index.html").write_text(page)
        (tmp_path / "shareable/tables/regression_probe.csv").write_text(CSV.format(n=n))
        return tmp_path / "shareable"

    return make


def test_what_names_nobody_is_copied_as_it_is(folder, tmp_path: Path) -> None:
    source = folder()
    assert publish(source, tmp_path / "out", IDS) == []
    for path in source.rglob("*.*"):
        assert (tmp_path / "out" / path.relative_to(source)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ({"more": "<p>see 9000017</p>"}, "a participant's id"),
        ({"more": "<p title='S-2041'>x</p>"}, "a participant's id"),
        ({"more": "<p>P01 was read twice</p>"}, "a participant's id"),
        ({"more": f"<p>{2 * 10**6 + 345}_20209_2_0.zip</p>"}, None),
        ({"more": f"<p>{2 * 10**6 + 345}</p>"}, "a participant's id"),
        ({"women": "3"}, "fewer than 5 people"),
        ({"women": "638"}, "not rounded"),
        ({"share": "4 (2 %)"}, "fewer than 5 people"),
        ({"excluded": "3"}, "fewer than 5 people"),
        ({"n": "3"}, "fewer than 5 people"),
        ({"n": "171"}, "not rounded"),
        ({"more": '<img src="a.png" alt="x">'}, "image"),
        ({"more": '<div style="background-image:url(data:image/png;base64,AA)"></div>'}, "image"),
        ({"more": "<svg><image href='#a'/></svg>"}, "image"),
        ({"more": "<svg><metadata>2026</metadata></svg>"}, "metadata"),
        ({"more": "<!-- made by me -->"}, "metadata"),
        ({"more": "<p>/home/somebody/ukb/results</p>"}, "a path of this machine"),
        ({"more": "<table><tr><td>cell</td><td>2</td></tr></table>"}, "fewer than 5 people"),
        ({"more": "<p>found in 3 of 20</p>"}, "fewer than 5 people"),
        ({"more": "<p>some (n=3) are</p>"}, "fewer than 5 people"),
        ({"more": "<p>S-2041_2.xml</p>"}, "a participant's id"),
        ({"more": "<p>s&#45;2041</p>"}, "a participant's id"),
        ({"more": "<p>//server/share is \\\\server\\share</p>"}, "a path of this machine"),
        ({"more": "<p>/nfs/ukb/x</p>"}, "a path of this machine"),
        ({"more": "<p>nul \0</p>"}, "no text"),
        ({"n": "3.0"}, "no whole number"),
    ],
)  # fmt: skip
def test_what_is_planted_is_caught_and_nothing_copied(folder, tmp_path: Path, planted: dict, what: str | None) -> None:
    found = publish(folder(**planted), tmp_path / "out", IDS)
    if what is None:  # part of a longer word: a file name, which the next test is about
        return
    assert [f for f in found if what in f.what], found
    assert not (tmp_path / "out").exists()
    assert not any(i in f.place + f.what for f in found for i in IDS[:3])


@pytest.mark.parametrize(
    "name", ["tables/9000017.csv", "P01/notes.txt", "report/heart.png", "report/weights.npy", "results.parquet"]
)
def test_files_that_do_not_belong_are_caught(folder, tmp_path: Path, name: str) -> None:
    path = folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"0.5\n")
    found = publish(next(p for p in path.parents if p.name == "shareable"), tmp_path / "out", IDS)
    assert any("does not belong" in f.what for f in found)
    assert not any("9000017" in f.place or "P01" in f.place for f in found)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "truth,prediction\n153.2,149.8\n",
        "method;n\nptacl;3\n",
        "method,n\nptacl,175,9\n",
        "\ufeffmethod,n\nptacl,175\n",
    ],
)
def test_a_table_of_something_else_is_caught(folder, tmp_path: Path, text: str) -> None:
    source = folder()
    (source / "tables/retrieval.csv").write_text(text)
    assert [f.place for f in publish(source, tmp_path / "out", IDS)] and not (tmp_path / "out").exists()


def test_a_page_in_another_encoding_is_caught(folder, tmp_path: Path) -> None:
    source = folder()
    page = source / "report/index.html"
    page.write_text(page.read_text(), encoding="utf-16")
    assert [f.what for f in publish(source, tmp_path / "out", IDS)] == ["no text"]


def test_a_link_is_not_followed(folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n")
    source = folder()
    (source / "tables/link.csv").symlink_to(secret)
    assert [f.what for f in publish(source, tmp_path / "out", IDS)] == ["a link, which may lead anywhere"]


def test_a_folder_with_something_in_it_is_not_overwritten(folder, tmp_path: Path) -> None:
    source = folder()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="something already"):
        publish(source, tmp_path / "out", IDS)


# Counts


@given(st.integers(0, 10**6))
def test_a_shown_count_is_one_of_five_or_is_not_told(n: int) -> None:
    text = Rounded().text(n)
    if n == 0:
        assert text == "0"
    elif n < LEAST:
        assert text == "fewer than 5"
    else:
        assert abs(int(text.replace(",", "")) - n) <= 2 and int(text.replace(",", "")) % 5 == 0


@pytest.mark.parametrize(("count", "most"), [(1, 30), (2, 30), (3, 22)])
def test_subtraction_finds_no_small_count(count: int, most: int) -> None:
    """Going by all that is shown, sum and rules included, a part that is not told could be another number.

    Of three parts with the two larger alike, at the edge of their rounding, and the sum at the opposite edge, it can not.
    """
    alike: dict[tuple, list[tuple[int, ...]]] = {}
    for parts in itertools.product(range(most + 15), repeat=count):
        alike.setdefault((*Rounded().texts(parts), Rounded().text(sum(parts))), []).append(parts)
    found = {
        parts for same in alike.values() for parts in same if max(parts) <= most
        for i, n in enumerate(parts) if 0 < n < LEAST and len({other[i] for other in same}) < 2
    }  # fmt: skip
    assert found == set() if count < 3 else found <= {(17, 17, 4), (22, 22, 4)}


@given(st.lists(st.booleans(), max_size=40))
def test_a_share_is_told_only_where_neither_side_is_small(flags: Sequence[bool]) -> None:
    n, k = len(flags), sum(flags)
    told = Rounded().share(flags) != "not told"
    assert told == (n >= 10 and not 0 < k < 5 and not 0 < n - k < 5)


def test_scores_of_few_people_are_left_out() -> None:
    rows = [
        {"n": n, "gallery": None, "value": 0.1, "note": f"only {n}" if n < 20 else None} for n in (3, 4, 5, 17, 173)
    ]
    found = shareable(rows)
    assert [r["n"] for r in found] == [5, 15, 175]
    assert "17" not in repr([r["note"] for r in found])


@pytest.mark.parametrize(
    ("cases", "told"), [(0, True), (3, False), (4, False), (5, True), (166, True), (169, False), (171, True)]
)
def test_the_share_of_a_few_people_is_not_told(cases: int, told: bool) -> None:
    row = {"metric": "prevalence", "value": cases / 171, "n": 171}
    assert bool(shareable([row])) == told
    assert shareable([row | {"metric": "auroc"}])


# Packages


def package(folder: Path, **changes: object) -> Path:
    about = {
        "ptacl_package": 1, "made_by": "ptacl", "method": "ptacl", "seed": 0,
        "encoder": {"size": "tiny", "tokens": "time"}, "projects": False,
        "scale_mv": 0.5, "ecg": {"corner_hz": 0.6}, "source": "ukb", "coverage": 0.9, "typical_distance": None,
        "people": {"train": 700, "val": 120, "calibration": 175, "test": 175},
        "phenotypes": [{"name": "LVEF", "unit": "%", "half_width": 9.0, "range": [45.0, 70.0],
                        "labels": {"train": 700, "calibration": 175}, "test": {"n": 175, "covered": 0.9}}],
    } | changes  # fmt: skip
    folder.mkdir()
    own = {f"ecg.{k}": v.numpy() for k, v in ecg_encoder(about["encoder"]).state_dict().items()}
    tensors = {
        **own, "probe.weight": np.zeros((64, 1)), "probe.intercept": np.zeros(1), "typical.mean": np.zeros(64),
        "typical.whiten": np.zeros((64, 64)), **changes.pop("tensors", {}),
    }  # fmt: skip
    about.pop("tensors", None)
    write_tensors(folder / "model.safetensors", tensors, kind="package", version=1, settings={})
    (folder / "package.yaml").write_text(yaml.safe_dump(about))
    (folder / "README.md").write_text(card(about) if isinstance(about["people"], dict) else "")
    return folder


def test_a_package_is_copied_whole(tmp_path: Path) -> None:
    source = package(tmp_path / "a")
    assert publish_model(source, tmp_path / "out", IDS) == []
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in source.iterdir())


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda p: (p / "embeddings.parquet").write_bytes(b"PAR1"), "does not belong"),
        (lambda p: (p / "README.md").write_text("learnt from 9000017"), "a participant's id"),
        (lambda p: shutil.rmtree(p) or package(p, tensors={"memory": np.zeros((700, 8))}), "no weight of the model"),
        (lambda p: shutil.rmtree(p) or package(p, tensors={"9000017": np.zeros(2)}), "a participant's id"),
        (
            lambda p: shutil.rmtree(p) or package(p, tensors={"ecg.memory": np.zeros((700, 8))}),
            "what they hold is not known",
        ),
        (lambda p: shutil.rmtree(p) or package(p, people={"train": 703}), "not rounded"),
        (lambda p: shutil.rmtree(p) or package(p, people=7), "damaged"),
        (lambda p: (p / "model.safetensors").write_bytes(b"?"), "no readable weights"),
    ],
)
def test_what_is_planted_in_a_package_is_caught(tmp_path: Path, spoil: Callable[[Path], object], what: str) -> None:
    source = package(tmp_path / "a")
    spoil(source)
    found = publish_model(source, tmp_path / "out", IDS)
    assert [f for f in found if what in f.what], found
    assert not (tmp_path / "out").exists()


# The command


def test_the_command_looks_for_the_ids_of_its_study(folder, tmp_path: Path, capsys, monkeypatch) -> None:
    results = folder(more="<p>S-2041</p>").parent
    (results / "cohort").mkdir()
    for name, ids in (("subjects", ["P01", "S-2041"]), ("excluded", ["P02"])):
        pq.write_table(pa.table({"subject_id": ids}), results / f"cohort/{name}.parquet")
    (tmp_path / "study.yaml").write_text(
        "synthetic: null\ncohort: {source: table, table: a.csv, root: ., withdrawals: []}\n"
    )
    command = [
        "publish",
        str(tmp_path / "out"),
        "--results",
        str(results),
        "--configfile",
        str(tmp_path / "study.yaml"),
    ]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "report/index.html, line 6: a participant's id" in printed and "S-2041" not in printed
    page = results / "shareable/report/index.html"
    page.write_text(page.read_text().replace("<p>S-2041</p>", ""))
    assert main(command) == 0
    assert (tmp_path / "out/report/index.html").is_file()
    assert main([*command[:2], "--results", str(tmp_path / "nothing"), *command[4:]]) == 2
