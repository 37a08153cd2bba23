"""Who has withdrawn leaves every artifact, in whatever form the lists come; a list that may be wrong stops the study."""

import datetime
import gzip
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ptacl.cohort.stage import build_cohort
from ptacl.cohort.verify import TokenFinder, verify_withdrawals
from ptacl.cohort.withdrawals import parse_withdrawals, read_withdrawals, refuse_withdrawn
from ptacl.errors import ArtifactError, ConfigError, PtaclError

GONE, HERE = "9000001", "9000002"
SPELLINGS = [
    "9000001\n", '\ufeff"9000001"\r\n\r\n', "eid\n9000001", "9000001,\n", "9000001.0\r\n", "  '9000001'  \n",
    '\n"Participant ID"\n"9000001"\n-1\nW000017\n', "f.eid\n9000001\n",
]  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> dict:
    """Settings of two people with files, phenotypes, diagnoses and an extra table, one of them to be withdrawn."""
    root = tmp_path / "raw"
    root.mkdir()
    for eid in (GONE, HERE):
        (root / f"{eid}_20205_2_0.xml").write_text(f"<ecg>{eid}</ecg>")
        (root / f"{eid}_20209_2_0.zip").write_text(f"cine of {eid}")
    (tmp_path / "p.csv").write_text(f'eid,p24103_i2,p41270\n"{GONE}",41.25,I251\n{HERE}.0,60,I10\n')
    (tmp_path / "e.csv").write_text(f"eid,instance,es_ms\n{GONE},2,333.25\n{HERE},2,300\n")
    return {
        "source": "ukb", "root": str(root), "folders": [], "table": str(tmp_path / "p.csv"), "icd10": {"cad": ["I25"]},
        "extra_tables": [str(tmp_path / "e.csv")], "withdrawals": [str(tmp_path / "w*.csv")], "hash_key": "ptacl",
        "fingerprint": "size", "shards": 3,
    }  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_withdrawn_person_vanishes_in_every_spelling_of_the_list(study: dict, tmp_path: Path, text: str) -> None:
    (tmp_path / "w1_20240101.csv").write_text("")
    (tmp_path / "w1_20250101.csv").write_text(text, encoding="utf-8")
    build_cohort(study, tmp_path / "out")
    assert '"withdrawn": 1' in (tmp_path / "out/excluded_counts.json").read_text()
    subjects = pq.read_table(tmp_path / "out/subjects.parquet")
    assert subjects["subject_id"].to_pylist() == [HERE]
    for column in subjects.columns:
        assert not {GONE, 41.25, 333.25} & {
            str(v) if isinstance(v, str) else v for v in map(_hashable, column.to_pylist())
        }
    for path in (tmp_path / "out").iterdir():
        assert GONE.encode() not in path.read_bytes()
    assert verify_withdrawals(tmp_path / "out", {GONE}) == []


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def kept_of_own_table(tmp_path: Path) -> list[str]:
    """The people whom the cohort keeps of the table t.csv with the list w.csv."""
    settings = {
        "source": "table", "root": str(tmp_path), "folders": [], "table": str(tmp_path / "t.csv"), "extra_tables": [],
        "withdrawals": str(tmp_path / "w.csv"), "icd10": {}, "hash_key": "ptacl", "fingerprint": "size", "shards": 1,
    }  # fmt: skip
    build_cohort(settings, tmp_path / "out")
    return pq.read_table(tmp_path / "out/subjects.parquet")["subject_id"].to_pylist()


@pytest.mark.parametrize("spelled", [GONE, f" {GONE} ", f'"{GONE}"', f"{GONE}.0", f"\ufeff{GONE}"])
def test_the_id_may_be_spelled_otherwise_in_a_users_table(tmp_path: Path, spelled: str) -> None:
    quoted = '"' + spelled.replace('"', '""') + '"'
    (tmp_path / "t.csv").write_text(
        f"subject_id,ecg_path,cmr_path,LVEF\n{quoted},a.xml,a.zip,41\n{HERE},b.xml,b.zip,60\n"
    )
    (tmp_path / "w.csv").write_text(GONE)
    assert kept_of_own_table(tmp_path) == [HERE]


@pytest.mark.parametrize("given", [None, [], ""])
def test_uk_biobank_without_lists_does_not_start(study: dict, tmp_path: Path, given: object) -> None:
    with pytest.raises(ConfigError, match="cohort.withdrawals: missing; give the lists .* or write `none`"):
        build_cohort(study | {"withdrawals": given}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert read_withdrawals("none", "ukb") == read_withdrawals(None, "table") == set()


@pytest.mark.parametrize(
    "data",
    ["٩٠٠٠٠٠١\n".encode(), b"9000001;9000002\n",
     b"9000001,9000002\n", b"eid\neid\n", b"9.000001e+06\n", b"9.0e6", b"\xff\xfe9\x00", b"9000001 x",
     b"<html>", b"w9000001_20240101", b"9000001\nP1\n", b"9000001.5", b"90000019000002000"],
)  # fmt: skip
def test_a_list_that_cannot_be_understood_stops_the_study_and_names_nobody(data: bytes) -> None:
    with pytest.raises(ConfigError, match="cohort.withdrawals") as error:
        parse_withdrawals(data, "ukb")
    assert "9000001" not in str(error.value)


@pytest.mark.parametrize(("written", "listed"), [("0012", "12"), ("12", "0012"), ("09000003", "9000003")])
def test_zeros_in_front_keep_nobody(tmp_path: Path, written: str, listed: str) -> None:
    (tmp_path / "t.csv").write_text(f"subject_id,ecg_path,cmr_path\n{written},a.xml,a.zip\nP,b.xml,b.zip\n")
    (tmp_path / "w.csv").write_text(listed)
    assert kept_of_own_table(tmp_path) == ["P"]


def test_who_shares_a_file_with_a_withdrawn_person_does_not_come_back(study: dict, tmp_path: Path) -> None:
    root = Path(study["root"])
    (root / f"{HERE}_20209_2_0.zip").write_bytes((root / f"{GONE}_20209_2_0.zip").read_bytes())
    other = "9000004"
    (root / f"{other}_20205_2_0.xml").write_text(f"<ecg>{other}</ecg>")
    (tmp_path / "p.csv").write_text(f"eid,p24103_i2,p41270\n{other},60,I10\n")
    (tmp_path / "e.csv").write_text(f"eid,instance,es_ms\n{other},2,300\n")
    (tmp_path / "w.csv").write_text(GONE)
    build_cohort(study, tmp_path / "out")
    assert pq.read_table(tmp_path / "out/subjects.parquet")["subject_id"].to_pylist() == [other]
    excluded = pq.read_table(tmp_path / "out/excluded.parquet").to_pylist()
    assert [(r["subject_id"], r["reason"]) for r in excluded] == [(HERE, "shared_file")]


def test_a_pattern_without_a_file_stops_the_study(study: dict, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="matches no file"):
        build_cohort(study, tmp_path / "out")


def test_ids_that_are_no_numbers_belong_to_tables_only() -> None:
    assert parse_withdrawals(b"P1\nW000017\n-5\n9000001.0\n", "table") == {"P1", "W000017", GONE}
    assert parse_withdrawals(b"W000017\n-5\n9000001\n", "ukb") == {GONE}


@given(
    st.lists(st.integers(9_000_001, 9_999_999), max_size=20), st.sampled_from(["\n", "\r\n", "\n\n"]),
    st.sampled_from(["{}", '"{}"', "{}.0", " {},"]), st.sampled_from(["", "\ufeff", "eid\n", '\ufeff"eid"\r\n']),
)  # fmt: skip
def test_lists_hold_what_was_written(ids: list[int], newline: str, spelling: str, start: str) -> None:
    text = start + newline.join(spelling.format(i) for i in ids)
    assert parse_withdrawals(text.encode(), "ukb") == {str(i) for i in ids}


def test_the_search_finds_ids_in_tables_texts_and_names_and_prints_none(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (results / "cohort").mkdir(parents=True)
    (results / "synthetic").mkdir()
    (results / "synthetic" / f"{GONE}_20205_2_0.xml").write_text(GONE)
    ids = pa.table({"subject_id": [GONE, HERE, GONE, "9000003"]})
    pq.write_table(ids, results / "cohort/a.parquet", row_group_size=2)
    pq.write_table(pa.table({"eid": [9000001.0, 9000003.0]}), results / "cohort/b.parquet")
    pq.write_table(pa.table({"value": [9000001]}), results / "cohort/clean.parquet")
    texts = {
        "a.csv": f"x,{GONE},y", "b.json": f'{{"a": "{GONE}"}}', "c.html": f"<p>{GONE}</p>", "d.log": f"at {GONE}.",
        "e.tsv": f"x\t{GONE}.0\t", "f.yaml": f"path: 90/{GONE}_20205_2_0.xml", "clean.log": "", "g.TXT": GONE,
        "h": f"no suffix: {GONE}", "clean.bin": f"{HERE}",
        "clean.csv": f"1{GONE},{GONE}5,0.{GONE},{GONE}.5,a{GONE}",
    }  # fmt: skip
    for name, text in texts.items():
        (results / name).write_text(text)
    (results / f"{GONE}_x.png").write_text("")
    (results / f"{HERE}.md").write_text(GONE)
    paths = pa.table({"ecg_path": [f"90/{GONE}_20205_2_0.xml"], "flags": [["a", GONE]]})
    pq.write_table(paths.select(["ecg_path"]), results / "cohort/p.parquet")
    pq.write_table(paths.select(["flags"]), results / "cohort/q.parquet")
    save_file({"x": np.zeros(9)}, results / "t.safetensors", metadata={"who": GONE})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.csv").write_text(GONE)
    (results / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/round").symlink_to(results)
    found = verify_withdrawals(results, {GONE, "9000003"}, skip="synthetic")
    assert found == [
        ("<id>.md", 1), ("<id>_x.png", 1), ("a.csv", 1), ("b.json", 1), ("c.html", 1), ("cohort/a.parquet", 2),
        ("cohort/b.parquet", 2), ("cohort/p.parquet", 1), ("cohort/q.parquet", 1), ("d.log", 1), ("e.tsv", 1),
        ("f.yaml", 1), ("g.TXT", 1), ("h", 1), ("linked/a.csv", 1), ("t.safetensors", 1),
    ]  # fmt: skip
    assert verify_withdrawals(results, set()) == verify_withdrawals(results, {"9000004"}) == []
    assert ("synthetic/<id>_20205_2_0.xml", 1) in verify_withdrawals(results, {GONE})


def test_a_table_that_cannot_be_searched_is_not_called_clean(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("half a file")
    with pytest.raises(ArtifactError, match="a.parquet: can't be searched"):
        verify_withdrawals(tmp_path, {GONE})


ID = int(GONE)
COLUMNS = {
    "ID": [ID], "EID": [float(ID)], "f.eid": [GONE], "participant.eid": [ID], "__index_level_0__": [ID],
    "large list": pa.array([[GONE]], pa.large_list(pa.string())), "nested": [[["x", f"{GONE}_a"]]], "struct": [{"a": {"b": GONE}}],
    "bytes": [GONE.encode()], "view": pa.array([GONE], pa.string_view()), "words": pa.array([GONE]).dictionary_encode(),
    "map": pa.array([[(GONE, 1)]], pa.map_(pa.string(), pa.int8())), "zeros": [f"00{GONE}"],
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_of_any_layout_is_searched(tmp_path: Path, name: str) -> None:
    pq.write_table(
        pa.table({name: COLUMNS[name], "size": [ID], "when": [datetime.date(2020, 1, 1)]}), tmp_path / "a.parquet"
    )
    assert verify_withdrawals(tmp_path, {GONE}) == [("a.parquet", 1)]
    assert verify_withdrawals(tmp_path, {HERE}) == []


def test_packed_files_and_names_of_folders_are_searched(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(f"x,{GONE}\n".encode()))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.txt", f"at {GONE}")
    (tmp_path / "c.csv").write_text(f"x\t{GONE}\n", encoding="utf-16")
    (tmp_path / "d" / GONE).mkdir(parents=True)
    found = [("a.csv.gz", 1), ("b.zip", 1), ("c.csv", 1), ("d/<id>", 1)]
    assert verify_withdrawals(tmp_path, {GONE}) == found
    assert verify_withdrawals(tmp_path, {f"0{GONE}"}) == found
    (tmp_path / "e.gz").write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(ArtifactError, match="e.gz: can't be searched"):
        verify_withdrawals(tmp_path, {GONE})
    (tmp_path / "e.gz").unlink()
    locked = bytearray((tmp_path / "b.zip").read_bytes())
    locked[locked.index(b"PK\1\2") + 8] |= 1  # encrypted, says the directory
    (tmp_path / "b.zip").write_bytes(locked)
    with pytest.raises(ArtifactError, match="b.zip: can't be searched"):
        verify_withdrawals(tmp_path, {GONE})


@pytest.mark.parametrize("pattern", ["w*.csv", "*/w*.csv", "**/w*.csv"])
def test_a_folder_of_lists_that_cannot_be_listed_stops_the_study(tmp_path: Path, monkeypatch, pattern: str) -> None:
    for folder in ("open", "locked"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w1.csv").write_text(GONE)
    (tmp_path / "w0.csv").write_text(HERE)
    locked = tmp_path if pattern == "w*.csv" else tmp_path / "locked"
    real = os.scandir

    def refuse(path):
        if os.fspath(path) == os.fspath(locked):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match="can't be listed"):
        read_withdrawals([str(tmp_path / pattern)], "ukb")


@given(
    st.sampled_from(["P1", "P1-b", "A.b_c-9", "x"]),
    st.text("aP1-b._ ,/\n", max_size=12),
    st.text("aP1-b._ ,/\n", max_size=12),
)
def test_ids_with_several_pieces_are_found_where_they_stand_alone(name: str, before: str, after: str) -> None:
    found = TokenFinder({name}).ids((before + name + after).encode())
    alone = not (before[-1:].isalnum() or after[:1].isalnum())
    assert found == {name.encode()} if alone else True
    assert TokenFinder({"Q7"}).ids((before + name + after).encode()) == set()


def test_a_stage_that_a_new_list_overtakes_stops_and_names_nobody(study: dict, tmp_path: Path) -> None:
    (tmp_path / "w1.csv").write_text("")
    build_cohort(study, tmp_path / "out")
    refuse_withdrawn(tmp_path / "out/subjects.parquet", study)
    (tmp_path / "w2.csv").write_text(f"{GONE}\n")
    with pytest.raises(PtaclError, match="1 of the participants in subjects.parquet have withdrawn") as error:
        refuse_withdrawn(tmp_path / "out/subjects.parquet", study)
    assert GONE not in str(error.value)
    refuse_withdrawn(tmp_path / "out/subjects.parquet", study | {"withdrawals": "none"})
    with pytest.raises(ConfigError, match="cohort.withdrawals: missing"):
        refuse_withdrawn(tmp_path / "out/subjects.parquet", study | {"withdrawals": None})
