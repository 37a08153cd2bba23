"""A packaged model, copied away from its study, on the study's own files."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ptacl.artifacts import read_tensors
from ptacl.cli import main
from ptacl.errors import ArtifactError
from ptacl.package.gallery import load_gallery
from ptacl.package.model import Package, load_package

ID = re.compile(rb"9000\d{3}")


@pytest.fixture(scope="module")
def results(micro) -> Path:
    return micro.folder / "results/micro"


@pytest.fixture(scope="module")
def elsewhere(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(results / "packages/ptacl/seed0", tmp_path_factory.mktemp("other_machine") / "model")


@pytest.fixture(scope="module")
def package(elsewhere: Path) -> Package:
    return load_package(elsewhere)


@pytest.fixture(scope="module")
def files(results: Path) -> dict[tuple[str, int], str]:
    """Every ECG of the study, by person and visit."""
    rows = pq.read_table(results / "cohort/subjects.parquet").to_pylist()
    root = results / "synthetic"
    return {(r["subject_id"], r["visit"]): str(root / r["ecg_path"]) for r in rows if r["ecg_path"]}


def test_files_become_the_embeddings_of_the_study(package: Package, files, results: Path) -> None:
    table = pq.read_table(results / "embeddings/ptacl/seed0.parquet").to_pylist()
    known = {(r["subject_id"], r["visit"]): r for r in table}
    found = dict(zip(files, package.read(list(files.values())), strict=True))
    assert known.keys() <= found.keys() and len(known) > 30
    for key, row in known.items():
        np.testing.assert_allclose(found[key].feature, row["ecg_feature"], atol=1e-5)
        np.testing.assert_allclose(found[key].projection, row["ecg_proj"], atol=1e-5)


def test_a_refused_file_has_the_reason_of_the_study(package: Package, files, results: Path) -> None:
    tables = [pq.read_table(p).to_pylist() for p in sorted((results / "ecg").glob("*.parquet"))]
    reasons = {(r["subject_id"], r["visit"]): r["reason"] for t in tables for r in t}
    found = dict(zip(files, package.read(list(files.values())), strict=True))
    assert {k: r.reason for k, r in found.items()} == {k: reasons[k] for k in files}
    refused = [r for r in found.values() if r.reason]
    assert refused and all(r.feature is None for r in refused)


def test_predictions_are_those_of_the_study(package: Package, files, results: Path) -> None:
    rows = pq.read_table(results / "predictions/ptacl/seed0.parquet").to_pylist()
    wanted = [r for r in rows if (r["protocol"], r["inputs"], r["label_fraction"]) == ("probe", "ecg", 1.0)]
    names = {p["name"] for p in package.about["phenotypes"]}
    wanted = [r for r in wanted if r["phenotype"] in names]
    assert len({r["phenotype"] for r in wanted}) > 10
    answers = {key: package.predict([files[key]])[0] for key in {(r["subject_id"], r["visit"]) for r in wanted}}
    for r in wanted:
        value = answers[r["subject_id"], r["visit"]].phenotypes[r["phenotype"]].value
        assert value == pytest.approx(r["prediction"], rel=1e-3, abs=1e-3)


def test_a_package_names_nobody_and_holds_no_row_per_person(elsewhere: Path, results: Path) -> None:
    assert sorted(p.name for p in elsewhere.iterdir()) == ["README.md", "model.safetensors", "package.yaml"]
    for path in elsewhere.iterdir():
        assert not ID.search(path.read_bytes()), path.name
    tensors = read_tensors(elsewhere / "model.safetensors", kind="package", version=1)
    own = {k: v for k, v in tensors.items() if not k.startswith(("ecg.", "ecg_head."))}
    d, k = 64, len(yaml.safe_load((elsewhere / "package.yaml").read_text())["phenotypes"])
    assert {n: v.shape for n, v in own.items()} == {
        "probe.weight": (d, k), "probe.intercept": (k,), "typical.mean": (d,), "typical.whiten": (d, d),
    }  # fmt: skip
    gallery = pq.read_table(results / "galleries/ptacl/seed0.parquet")
    assert {"vector", "LVEF"} <= set(gallery.column_names) and "subject_id" not in gallery.column_names


def test_the_card_says_what_the_scores_say(elsewhere: Path, results: Path) -> None:
    rows = pq.read_table(results / "regression/ptacl/seed0.parquet").to_pylist()
    (r2,) = (
        r
        for r in rows
        if (r["protocol"], r["inputs"], r["phenotype"], r["metric"], r["label_fraction"], r["subgroup"])
        == ("probe", "ecg", "LVEF", "r2", 1.0, "all")
    )
    (line,) = (x for x in (elsewhere / "README.md").read_text().splitlines() if x.startswith("| LVEF |"))
    assert f"| {r2['value']:.2f}".replace("-", "−") in line
    assert "No medical device" in (elsewhere / "README.md").read_text()


def test_the_command_line_answers_in_words_and_in_json(elsewhere: Path, files, results: Path, capsys, tmp_path) -> None:
    good = [files[k] for k in list(files)[:5]]
    listing = tmp_path / "list.txt"
    listing.write_text("\n".join(good) + "\n")
    gallery = ["--gallery", str(results / "galleries/ptacl/seed0.parquet")]
    code = main(["predict", str(elsewhere), f"@{listing}", __file__, "--json", *gallery])
    lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
    assert code == 3 and [x["file"] for x in lines] == [*good, __file__]
    assert lines[-1]["reason"] == "not_an_ecg" and lines[-1]["phenotypes"] == {}
    answered = next(x for x in lines if x["reason"] is None)
    assert answered["phenotypes"]["LVEF"]["unit"] == "%"
    assert answered["neighbours"]["k"] == 10 and answered["neighbours"]["phenotypes"]["LVEF"]["n"] > 0
    code = main(["predict", str(elsewhere), answered["file"], *gallery])
    text = capsys.readouterr().out
    assert code == 0 and "LVEF (%)" in text and "not calibrated" in text and "10 nearest" in text


def test_embeddings_of_a_folder_become_a_table(elsewhere: Path, files, results: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "embeddings.parquet", results / "synthetic/ecg"
    command = [sys.executable, "-m", "ptacl", "embed", str(elsewhere), str(folder), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3 and done.stderr == ""
    table = pq.read_table(out)
    assert table.num_rows == len(list(folder.rglob("*.xml"))) and 0 < table["reason"].null_count < table.num_rows
    assert {len(v) for v in table["ecg_proj"].to_pylist() if v} == {128}


def test_a_method_without_cines_is_packed_as_well(results: Path, files) -> None:
    package = load_package(results / "packages/mae/seed1")
    gallery = load_gallery(results / "galleries/mae/seed1.parquet")
    answers = package.predict(list(files.values())[:8], gallery)
    assert package.head is None and gallery.of == "ecg"
    assert any(a.neighbours and a.neighbours["of"] == "ecg" for a in answers)
    with pytest.raises(ArtifactError, match="take the gallery of the same method"):
        package.predict(list(files.values())[:8], load_gallery(results / "galleries/ptacl/seed1.parquet"))


def _no_file(folder: Path) -> None:
    (folder / "package.yaml").unlink()


def _another_version(folder: Path) -> None:
    path = folder / "package.yaml"
    path.write_text(path.read_text().replace("ptacl_package: 1", "ptacl_package: 7"))


def _cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])


def _another_encoder(folder: Path) -> None:
    path = folder / "package.yaml"
    path.write_text(path.read_text().replace("size: tiny", "size: small"))


def _a_phenotype_less(folder: Path) -> None:
    path = folder / "package.yaml"
    about = yaml.safe_load(path.read_text())
    about["phenotypes"].pop()
    path.write_text(yaml.safe_dump(about))


@pytest.mark.parametrize("damage", [_no_file, _another_version, _cut_off, _another_encoder, _a_phenotype_less])
def test_a_damaged_package_is_refused_in_one_line(
    elsewhere: Path, tmp_path: Path, damage: Callable[[Path], None], capsys
) -> None:
    shutil.copytree(elsewhere, tmp_path / "model")
    damage(tmp_path / "model")
    assert main(["predict", str(tmp_path / "model"), "a.xml"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.strip().splitlines()) == 1
