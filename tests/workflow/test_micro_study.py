"""The whole workflow on the miniature study: what it leaves, what it says, and that nobody is lost."""

import json
import re
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ptacl.artifacts import table_metadata

# The ids of the miniature study. A wider pattern also matches names of machines, checksums and fractions.
ID = re.compile(r"(?<![0-9A-Za-z.])9000\d{3}(?![0-9A-Za-z.])")


@pytest.fixture(scope="module")
def results(micro) -> Path:
    return micro.folder / "results" / "micro"


def test_every_named_artifact_is_there(results: Path) -> None:
    expected = [
        "cohort/subjects.parquet", "cohort/0000.parquet", "cohort/0001.parquet", "cohort/excluded_counts.json",
        "ecg/0000.safetensors", "ecg/0000.parquet", "cmr/0001.safetensors", "cmr/0001.parquet",
        "pairs/pairs.parquet", "pairs/excluded.parquet", "pairs/flow.json",
        *(f"models/{m}/seed{s}/{f}" for m in ("random", "mae", "global", "ptacl") for s in (0, 1)
          for f in ("model.safetensors", "config.yaml", "history.parquet")),
        *(f"embeddings/{m}/seed{s}.parquet" for m in ("random", "mae", "global", "ptacl") for s in (0, 1)),
        *(f"{k}/{m}/seed{s}.parquet" for k in ("regression", "retrieval", "predictions")
          for m in ("random", "mae", "global", "ptacl", "cmr") for s in (0, 1)),
        "regression/references.parquet", "report/index.html", "gallery/index.html", "quality/index.html", "quality/0001.html",
        "cmr/0001_views.safetensors", "tables/regression_probe.csv", "tables/retrieval.csv",
    ]  # fmt: skip
    assert [name for name in expected if not (results / name).is_file()] == []
    assert list(results.rglob("last.ckpt")) == []
    assert list(results.rglob("*.tmp")) == []


def test_the_flow_adds_up_and_every_row_is_named_once(results: Path) -> None:
    flow = json.loads((results / "pairs/flow.json").read_text())
    assert flow["subjects"] == flow["pairs"] + sum(flow["excluded"].values())
    pairs = pq.read_table(results / "pairs/pairs.parquet")
    excluded = pq.read_table(results / "pairs/excluded.parquet")
    assert pairs.num_rows == flow["pairs"]
    assert excluded.num_rows + flow["excluded"].get("withdrawn", 0) == sum(flow["excluded"].values())
    rows = [(r["subject_id"], r["visit"]) for t in (pairs, excluded) for r in t.to_pylist()]
    duplicates = sum(r["reason"] == "duplicate" for r in excluded.to_pylist())
    assert len(set(rows)) == len(rows) - duplicates


def test_the_planted_faults_are_found_each_with_a_reason(results: Path) -> None:
    truth = pq.read_table(results / "synthetic/truth.parquet").to_pylist()
    fatal = {"truncated_xml", "exercise_type", "truncated_zip", "withdrawn"}
    planted = {(r["subject_id"], r["visit"]) for r in truth if fatal & set(_faults(r))}
    assert planted
    pairs = {(r["subject_id"], r["visit"]) for r in pq.read_table(results / "pairs/pairs.parquet").to_pylist()}
    assert not planted & pairs


def _faults(row: dict) -> list[str]:
    value = row.get("faults") or []
    return value.split(";") if isinstance(value, str) else value


def test_withdrawn_participants_are_counted_and_named_nowhere(results: Path) -> None:
    withdrawn = {
        line.strip('\ufeff \r\n"')
        for path in (results / "synthetic/withdrawals").glob("*.csv")
        for line in path.read_text(encoding="utf-8-sig").splitlines()
    } - {""}
    withdrawn = {w for w in withdrawn if w.isdigit()}
    present = {re.match(r"\d+", p.name)[0] for k in ("ecg", "cmr") for p in (results / "synthetic" / k).rglob("9*")}
    assert withdrawn & present
    for path in results.rglob("*.parquet"):
        if "synthetic" not in path.parts and "subject_id" in (table := pq.read_table(path)).column_names:
            assert not withdrawn & set(table["subject_id"].to_pylist()), path.name
    counts = json.loads((results / "cohort/excluded_counts.json").read_text())
    assert counts["withdrawn"] > 0


def test_no_id_reaches_a_log_the_report_a_table_for_reading_or_a_file_name(micro, results: Path) -> None:
    """Everything the run left or printed, but raw files, private tables and tensors, and what Snakemake keeps of inputs."""
    raw = [p.name for p in (results / "synthetic").rglob("9*")]
    assert raw and all(ID.match(name) for name in raw)
    seen = 0
    for path in [p for p in micro.folder.rglob("*") if results / "synthetic" not in (p, *p.parents)]:
        name = path.relative_to(micro.folder)
        assert not re.search(r"9000\d{3}", path.name), name
        if path.is_file() and path.suffix not in (".parquet", ".safetensors"):
            assert not ID.search(path.read_bytes().decode("latin-1")), name
            seen += 1
    assert seen > 100
    assert len(list(micro.folder.glob(".snakemake/log/*.log"))) >= 1
    assert not ID.search(micro.printed)


def test_artifacts_carry_the_digest_of_their_settings(results: Path) -> None:
    for path in results.rglob("*.parquet"):
        assert table_metadata(pq.read_table(path)).get("ptacl.settings"), path.name


def test_the_report_opens_offline(results: Path) -> None:
    page = (results / "report/index.html").read_text()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "independent implementation" in page


def test_snakemakes_own_report_holds_ours_and_how_it_came_about(micro, tmp_path: Path) -> None:
    done = micro.run("--report", str(tmp_path / "provenance.zip"))
    assert done.returncode == 0, done.stdout[-3000:]
    with zipfile.ZipFile(tmp_path / "provenance.zip") as archive:
        texts = {n: archive.read(n).decode("utf-8", "replace") for n in archive.namelist() if n.endswith(".html")}
    ours = (micro.folder / "results/micro/report/index.html").read_text()
    assert ours in texts.values() and len(texts) == 2
    (provenance,) = [t for t in texts.values() if t != ours]
    assert "ecg_shard" in provenance and not ID.search(provenance)
