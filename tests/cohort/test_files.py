"""Finding files in folders, what is known about them, and files that serve two people."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ptacl.cohort import files as module
from ptacl.cohort import listing
from ptacl.cohort.files import facts, shared
from ptacl.cohort.inventory import take_inventory
from ptacl.cohort.listing import listing_digest
from ptacl.cohort.sources import ukb_rows, walk
from ptacl.errors import ConfigError

BIG = 3 * 2**16


def rows_of(*rows: tuple[str, str | None, str | None]) -> pa.Table:
    """Rows (subject, ecg_path, cmr_path), one visit."""
    subjects, ecg, cmr = zip(*rows, strict=True)
    return pa.table(
        {
            "subject_id": pa.array(subjects), "visit": pa.array([2] * len(rows), pa.int8()),
            "ecg_path": pa.array(ecg, pa.string()), "cmr_path": pa.array(cmr, pa.string()),
            "lax_path": pa.nulls(len(rows), pa.string()),
        }
    )  # fmt: skip


def who_shares(root: Path, rows: pa.Table) -> set[str]:
    mask = shared(rows, facts(rows, root, {}))
    return {s for s, m in zip(rows["subject_id"].to_pylist(), mask, strict=True) if m}


def test_the_same_path_link_or_content_under_two_people_is_found(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / name).write_bytes(name.encode() * BIG)
    os.link(tmp_path / "b", tmp_path / "b2")
    (tmp_path / "c2").write_bytes(b"c" * BIG)
    (tmp_path / "d2").symlink_to("d")
    rows = rows_of(
        ("P1", "a", None), ("P2", None, "a"), ("P3", "b", None), ("P4", "b2", None), ("P5", "c", "e"), ("P6", "c2", None),
        ("P7", "d", None), ("P8", "d2", None), ("P9", "missing", None), ("P10", "also missing", None),
    )  # fmt: skip
    assert who_shares(tmp_path, rows) == {f"P{i}" for i in range(1, 9)}


@pytest.mark.parametrize("place", [0, 2**12, 2**16 + 5, BIG // 2, BIG - 1])
def test_files_of_one_size_that_differ_anywhere_are_two_files(tmp_path: Path, place: int) -> None:
    data = bytearray(BIG)
    (tmp_path / "a").write_bytes(data)
    data[place] = 1
    (tmp_path / "b").write_bytes(data)
    assert who_shares(tmp_path, rows_of(("P1", "a", None), ("P2", "b", None))) == set()


def test_one_person_may_hold_the_same_content_twice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 100)
    assert who_shares(tmp_path, rows_of(("P1", "a", "b"), ("P1", "b", None), ("P2", None, None))) == set()


def test_a_folder_or_a_record_in_capitals_under_two_people_is_found(tmp_path: Path) -> None:
    for name, content in (("d1", "abc"), ("d2", "cab"), ("d3", "abd")):
        (tmp_path / name).mkdir()
        for i, letter in enumerate(content):
            (tmp_path / name / f"{i}").write_text(letter * BIG)
    for name in ("R", "S", "T"):
        (tmp_path / f"{name}.HEA").write_text(name)
        (tmp_path / f"{name}.MAT").write_bytes((b"t" if name == "T" else b"r") * BIG)
    rows = rows_of(
        ("P1", "R.HEA", "d1"), ("P2", "S.HEA", None), ("P3", "T.HEA", "d3"), ("P4", None, "d2"), ("P5", None, "d3/"),
        ("P6", None, None),
    )  # fmt: skip
    assert who_shares(tmp_path, rows) == {"P1", "P2", "P3", "P4", "P5"}
    (tmp_path / "d3/2").write_text("x" * BIG)
    assert who_shares(tmp_path, rows_of(("P1", None, "d1"), ("P3", None, "d3"))) == set()


def test_empty_files_are_nobodys_shared_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    assert who_shares(tmp_path, rows_of(("P1", "a", None), ("P2", "b", None))) == set()


def test_only_files_of_one_size_are_opened_and_read_in_full_only_where_both_ends_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int | None]] = []
    real = module._digest
    monkeypatch.setattr(module, "_digest", lambda p, reach: (read.append((Path(p).name, reach)), real(p, reach))[1])
    (tmp_path / "alone").write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"a" * BIG)
    (tmp_path / "b").write_bytes(b"b" * BIG)
    middle = bytearray(b"a" * BIG)
    middle[BIG // 2] = 0
    (tmp_path / "c").write_bytes(middle)
    rows = rows_of(("P1", "alone", None), ("P2", "a", None), ("P3", "b", None), ("P4", "c", None))
    assert who_shares(tmp_path, rows) == set()
    assert {n for n, _ in read} == {"a", "b", "c"}
    assert {n for n, reach in read if reach is None} == {"a", "c"}


def test_a_header_counts_with_its_signal_file_and_a_folder_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "r.hea").write_text("r 12")
    (tmp_path / "r.mat").write_bytes(b"x" * 50)
    (tmp_path / "s.hea").write_text("a longer header 12")
    (tmp_path / "s.mat").write_bytes(b"x" * 50)
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom/1").write_bytes(b"x" * 7)
    rows = rows_of(("P1", "r.hea", "dicom"), ("P2", "s.hea", None))
    found = facts(rows, tmp_path, {})
    sizes = dict(zip(found.paths.to_pylist(), found.size.tolist(), strict=True))
    assert sizes == {"r.hea": 54, "s.hea": 68, "dicom": 7}
    assert who_shares(tmp_path, rows) == {"P1", "P2"}


def test_every_file_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"x")
    asked: list[str] = []
    real = os.stat
    rows = rows_of(("P1", "a", "a"), ("P2", "a", "none"))
    monkeypatch.setattr(module.os, "stat", lambda p, **k: (asked.append(str(p)), real(p, **k))[1])
    facts(rows, tmp_path, {})
    facts(rows, tmp_path, {"a": real(tmp_path / "a")})
    assert asked == [str(tmp_path / "a"), str(tmp_path / "none"), str(tmp_path / "none")]


def test_files_are_found_in_any_folder_with_either_case_of_extension(tmp_path: Path) -> None:
    names = [
        "9000001_20205_2_0.xml", "90/9000001_20209_2_0.ZIP", "a/b/c/9000001_20208_2_0.Zip", "9000001_20205_3_0.XML",
        "9000002_20205_2_0.zip", "9000002_20209_2_0.xml", "9000003_20209_2_0.zip.part", "x9000003_20209_2_0.zip",
        "9000004_20208_2_0.zip", "-9000005_20205_2_0.xml", "9000006_20211_2_0.zip",
    ]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    rows, known = ukb_rows(tmp_path)
    assert rows.sort_by([("visit", "ascending")]).to_pylist() == [
        {"subject_id": "9000001", "visit": 2, "ecg_path": names[0], "cmr_path": names[1], "lax_path": names[2]},
        {"subject_id": "9000001", "visit": 3, "ecg_path": names[3], "cmr_path": None, "lax_path": None},
    ]
    assert {n: s.st_size for n, s in known.items()} == {n: len(n) for n in [*names[:4], names[8]]}


def test_arrays_and_copies_of_a_visit_are_rows_of_their_own(tmp_path: Path) -> None:
    for name in ("9000001_20205_2_0.xml", "9000001_20205_2_1.xml", "9000001_20209_2_0.zip", "z/9000001_20205_2_0.xml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    rows = ukb_rows(tmp_path)[0].to_pylist()
    assert sorted((r["ecg_path"], r["cmr_path"]) for r in rows) == [
        ("9000001_20205_2_0.xml", "9000001_20209_2_0.zip"), ("9000001_20205_2_1.xml", None),
        ("z/9000001_20205_2_0.xml", None),
    ]  # fmt: skip


def test_only_the_folders_named_are_walked_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1", "a/deep/2", "b/3", "Heart MRI/4", "0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    seen: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda p: (seen.append(os.path.relpath(p, tmp_path)), real(p))[1])
    found = [os.path.relpath(e.path, tmp_path) for e in walk(tmp_path, ["Heart MRI/", "a", "a/deep"])]
    assert found == ["Heart MRI/4", "a/1", "a/deep/2"]
    assert seen == ["Heart MRI", "a", "a/deep"]
    assert sorted(os.path.relpath(e.path, tmp_path) for e in walk(tmp_path)) == [
        "0",
        "Heart MRI/4",
        "a/1",
        "a/deep/2",
        "b/3",
    ]


def test_a_relative_root_gives_paths_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/9000001_20205_2_0.xml").touch()
    monkeypatch.chdir(tmp_path)
    for root, folders, path in ((".", [], "b/"), (".", ["b"], "b/"), ("b", [], ""), ("./b/", [], "")):
        assert ukb_rows(Path(root), folders)[0]["ecg_path"].to_pylist() == [f"{path}9000001_20205_2_0.xml"]


@pytest.mark.parametrize("folder", ["missing", "../other", "/tmp"])
def test_a_folder_that_is_not_below_the_root_stops_the_study(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigError, match=r"cohort.folders\[0\]"):
        list(walk(tmp_path, [folder]))
    with pytest.raises(ConfigError, match="cohort.root: .* is no folder"):
        list(walk(tmp_path / "missing"))


def test_a_folder_without_recordings_has_no_rows(tmp_path: Path) -> None:
    rows, known = ukb_rows(tmp_path)
    assert rows.num_rows == 0 and known == {}
    assert np.array_equal(shared(rows, facts(rows, tmp_path, {})), np.zeros(0, bool))


def test_the_digest_of_the_inputs_notices_lists_tables_and_files_by_any_kind_of_path(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "w.csv").write_text("9000001")
    (tmp_path / "p.csv").write_text("eid,p31\n9000001,1\n")
    settings = {
        "source": "ukb", "root": str(tmp_path / "raw"), "folders": [], "table": str(tmp_path / "p.csv"),
        "extra_tables": [], "withdrawals": [str(tmp_path / "w*.csv")], "fingerprint": "size",
    }  # fmt: skip

    def digest(version: int) -> str:
        return listing_digest(settings | {"version": version})  # a new key, since the answer is kept per process

    seen = [digest(0)]
    for i, name in enumerate(["w.csv", "p.csv", "w2.csv", "raw/9000001_20205_2_0.xml"], 1):
        (tmp_path / name).write_text("9000002")
        seen.append(digest(i))
    assert len(set(seen)) == len(seen) and digest(9) == seen[-1]
    with pytest.raises(ConfigError, match="cohort.withdrawals"):
        listing_digest(settings | {"withdrawals": None})


def test_a_large_table_is_known_by_size_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptacl.cohort.listing._WHOLE_BYTES", 100)
    monkeypatch.setattr("ptacl.cohort.listing._END_BYTES", 10)
    (tmp_path / "raw").mkdir()
    path = tmp_path / "p.csv"
    settings = {
        "source": "ukb", "root": str(tmp_path / "raw"), "folders": [], "table": str(path), "extra_tables": [],
        "withdrawals": "none", "fingerprint": "size",
    }  # fmt: skip
    seen = []
    for i, text in enumerate(["a" * 200, "a" * 201, "b" + "a" * 200, "a" * 200 + "b"]):
        path.write_text(text)
        seen.append(listing_digest(settings | {"version": i}))
    assert len(set(seen)) == 4


def test_a_second_file_of_a_visit_that_is_another_persons_excludes_both(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    for eid in ("9000001", "9000002", "9000003", "9000004"):
        for name in (f"{eid}_20205_2_0.xml", f"{eid}_20209_2_0.zip", f"{eid}_20208_2_0.zip"):
            (root / name).write_text(name)
    (root / "9000001_20209_2_1.zip").write_text("9000002_20209_2_0.zip")
    (root / "9000003_20208_2_1.zip").write_text("9000004_20208_2_0.zip")
    found = take_inventory({"source": "ukb", "root": str(root), "folders": []}, set())
    assert found.rows.num_rows == 0
    counts = {reason: table.num_rows for table, reason in found.excluded}
    assert counts == {"invalid_id": 0, "duplicate": 2, "shared_file": 4}


def test_a_relative_root_is_taken_off_absolute_paths_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw/raw").mkdir(parents=True)
    (tmp_path / "raw/raw/9000001_20205_2_0.xml").write_text("a")
    found = take_inventory({"source": "ukb", "root": "raw", "folders": []}, set())
    assert found.rows["ecg_path"].to_pylist() == ["raw/9000001_20205_2_0.xml"]
    assert found.files.size.tolist() == [1]


def test_odd_names_and_links_neither_stop_a_study_nor_reach_a_message(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    (root / "a").mkdir(parents=True)
    (root / "a/9000001_20205_2_0.xml").write_text("x")
    (root / "a/9000002_20205_2_0.xml").symlink_to("9000002_20205_2_0.xml")
    (root / "a/9000003_20205_2_0.xml").symlink_to("nowhere")
    os.mkfifo(root / "a/9000004_20205_2_0.xml")
    with open(os.fsencode(root) + b"/caf\xe9.txt", "w") as f:
        f.write("x")
    settings = {"root": str(root), "folders": [], "table": None, "extra_tables": [], "withdrawals": "none",
                "source": "ukb", "fingerprint": "size"}  # fmt: skip
    assert len(listing_digest(settings)) == 16
    rows, _ = ukb_rows(root)
    assert rows["subject_id"].to_pylist() == ["9000001"]
    folder = os.fsencode(root) + b"/caf\xe9"
    os.mkdir(folder)
    with open(folder + b"/9000005_20205_2_0.xml", "w") as f:
        f.write("x")
    with pytest.raises(ConfigError, match="is not UTF-8; rename it") as error:
        ukb_rows(root)
    assert "900000" not in str(error.value)


def test_a_folder_that_cannot_be_listed_stops_the_study_and_is_not_named(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "9000001").mkdir()
    real = os.scandir

    def refuse(path):
        if str(path).endswith("9000001"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ConfigError, match="can't be listed") as error:
        list(walk(tmp_path))
    assert "9000001" not in str(error.value).replace(str(tmp_path), "")


def test_results_below_the_root_and_other_files_do_not_count_as_raw_files(tmp_path: Path) -> None:
    (tmp_path / "9000001_20205_2_0.xml").write_text("a")
    (tmp_path / "a.hea").write_text("a")
    (tmp_path / "t.csv").write_text("subject_id,ecg_path,cmr_path\nP1,a.hea,\n")
    common = {"root": str(tmp_path), "folders": [], "extra_tables": [], "withdrawals": "none", "fingerprint": "size"}
    ukb, table = ({**common, "source": s, "table": t} for s, t in (("ukb", None), ("table", str(tmp_path / "t.csv"))))
    before = [listing_digest(ukb), listing_digest(table)]
    (tmp_path / "results").mkdir()
    (tmp_path / "results/subjects.parquet").write_text("x")
    listing._digest.cache_clear()
    assert [listing_digest(ukb), listing_digest(table)] == before
    for name, changed in (("9000002_20209_2_0.zip", ukb), ("a.dat", table)):
        (tmp_path / name).write_text("b")
        listing._digest.cache_clear()
        assert listing_digest(changed) not in before
