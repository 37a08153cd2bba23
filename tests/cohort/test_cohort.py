"""Cohort and pairs: everyone is accounted for, once, and the same way for ever."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.artifacts import write_table
from ptacl.cohort.identity import SPLITS, assign_splits, shard_of
from ptacl.cohort.listing import listing_digest
from ptacl.cohort.stage import build_cohort
from ptacl.cohort.tables import read_ukb_table
from ptacl.cohort.withdrawals import parse_withdrawals
from ptacl.errors import ConfigError, PtaclError
from ptacl.store.pairs import build_pairs
from ptacl.store.schema import VERSION as schema_versions

DEFAULTS = {
    "source": "ukb", "table": None, "extra_tables": [], "withdrawals": None, "hash_key": "ptacl",
    "fingerprint": "size_mtime", "shards": 4,
}  # fmt: skip


def ukb(root: Path, *eids: int, instance: int = 2, sub: str = "") -> None:
    (root / sub).mkdir(parents=True, exist_ok=True)
    for eid in eids:
        (root / sub / f"{eid}_20205_{instance}_0.xml").write_text(f"<ecg>{eid} {instance}</ecg>")
        (root / sub / f"{eid}_20209_{instance}_0.zip").write_text(f"cine of {eid} {instance}")


def build(root: Path, out: Path, **changes) -> dict:
    build_cohort(DEFAULTS | {"root": str(root)} | changes, out)
    return {
        "subjects": pq.read_table(out / "subjects.parquet").to_pylist(),
        "excluded": pq.read_table(out / "excluded.parquet").to_pylist(),
        "withdrawn": json.loads((out / "excluded_counts.json").read_text())["withdrawn"],
        "manifests": {i: (out / f"{i:04d}.parquet").read_bytes() for i in range(4)},
    }


def test_files_are_paired_by_subject_and_visit_in_any_folder(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, 9000001, 9000002)
    ukb(root, 9000001, instance=3, sub="90")
    (root / "notes.txt").write_text("x")
    (root / "9000003_20205_2_0.xml").write_text("alone")
    found = build(root, tmp_path / "out")["subjects"]
    assert [(r["subject_id"], r["visit"]) for r in found] == [
        ("9000001", 2), ("9000001", 3), ("9000002", 2), ("9000003", 2),
    ]  # fmt: skip
    assert found[1]["ecg_path"] == "90/9000001_20205_3_0.xml"
    assert found[3]["cmr_path"] is None
    assert found[0]["split"] == found[1]["split"] and found[0]["shard"] == found[1]["shard"]


def test_the_same_person_under_two_paths_is_counted_once(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, 9000001, 9000002)
    ukb(root, 9000001, sub="90")
    found = build(root, tmp_path / "out")
    assert len(found["subjects"]) == 2
    assert [(r["subject_id"], r["reason"]) for r in found["excluded"]] == [("9000001", "duplicate")]


def test_the_same_file_under_two_ids_excludes_both(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, 9000001, 9000002, 9000003)
    (root / "9000002_20209_2_0.zip").write_bytes((root / "9000001_20209_2_0.zip").read_bytes())
    found = build(root, tmp_path / "out")
    assert [r["subject_id"] for r in found["subjects"]] == ["9000003"]
    assert {(r["subject_id"], r["reason"]) for r in found["excluded"]} == {
        ("9000001", "shared_file"), ("9000002", "shared_file"),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["9000001\n", '\ufeff"9000001"\r\n\r\n', "eid\n9000001", "9000001,\n"])
def test_withdrawn_people_vanish_in_every_spelling_of_the_list(tmp_path: Path, text: str) -> None:
    root = tmp_path / "raw"
    ukb(root, 9000001, 9000002)
    (tmp_path / "w.csv").write_text(text, encoding="utf-8")
    found = build(root, tmp_path / "out", withdrawals=[str(tmp_path / "w*.csv")])
    assert found["withdrawn"] == 1
    for path in (tmp_path / "out").iterdir():
        assert b"9000001" not in path.read_bytes()


def test_a_list_that_cannot_be_understood_or_found_stops_the_study(tmp_path: Path) -> None:
    ukb(tmp_path / "raw", 9000001)
    (tmp_path / "w.csv").write_text("9000001;9000002\n")
    for pattern in ("w.csv", "other*.csv"):
        with pytest.raises(ConfigError, match="withdrawals"):
            build(tmp_path / "raw", tmp_path / "out", withdrawals=[str(tmp_path / pattern)])


@given(st.lists(st.integers(9_000_001, 9_999_999), max_size=20), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_lists_hold_what_was_written(ids: list[int], newline: str, quoted: bool) -> None:
    text = newline.join(f'"{i}"' if quoted else str(i) for i in ids)
    assert parse_withdrawals(text.encode()) == {str(i) for i in ids}


def test_a_new_subject_changes_one_manifest_only(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, *range(9000001, 9000025))
    before = build(root, tmp_path / "out")["manifests"]
    ukb(root, 9000099)
    after = build(root, tmp_path / "out")["manifests"]
    assert [i for i in before if before[i] != after[i]] == [shard_of("9000099", "ptacl", 4)]


def test_a_replaced_file_is_noticed_and_the_same_cohort_is_the_same_bytes(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, 9000001, 9000002)
    settings = DEFAULTS | {"root": str(root)}
    first, digest = build(root, tmp_path / "a"), listing_digest(settings)
    assert build(root, tmp_path / "b") == first
    (root / "9000001_20205_2_0.xml").write_text("another, longer one")
    assert listing_digest(settings | {"shards": 5}) != digest
    assert build(root, tmp_path / "c")["manifests"] != first["manifests"]


def test_splits_are_stable_and_have_their_shares() -> None:
    ids = [str(9_000_001 + i) for i in range(20_000)]
    splits = assign_splits(ids, "ptacl")
    shares = [sum(s == name for s in splits.values()) / len(ids) for name in SPLITS]
    assert shares == pytest.approx([0.60, 0.10, 0.15, 0.15], abs=0.01)
    few = assign_splits(ids[:500], "ptacl")
    assert all(splits[i] == few[i] for i in ids[:500])
    assert assign_splits(ids, "another key") != splits


@pytest.mark.parametrize("n", range(4, 20))
def test_a_small_study_has_every_split(n: int) -> None:
    found = assign_splits([f"S{i}" for i in range(n)], "ptacl")
    assert set(found.values()) == set(SPLITS)
    assert sum(s == "train" for s in found.values()) >= n - 3 - n // 3


def test_the_ukbconv_table_is_read_by_field_visit_and_array(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        '"eid","31-0.0","24103-2.0","24103-3.0","4080-2.0","4080-2.1","50-0.0","99999-2.0"\n'
        '"9000001","1","58.5","NA","140","150","176","x"\n"9000002","","-1","61","abc","","",""\n'
    )
    values = read_ukb_table(path)
    assert values["9000001", 2] == {"LVEF": 58.5, "sex": 1.0, "systolic_bp": 145.0, "height_cm": 176.0}
    assert "LVEF" not in values["9000001", 3] and values["9000002", 3] == {"LVEF": 61.0}


def test_another_dialect_stops_with_the_columns_found(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("f.eid,f.31.0.0\n9000001,1\n")
    with pytest.raises(ConfigError, match="ukbconv csv dialect.*f.eid, f.31.0.0"):
        read_ukb_table(tmp_path / "p.csv")


def test_a_users_table_brings_paths_phenotypes_and_covariates(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "subject_id,ecg_path,cmr_path,LVEDV,age,site\nP1,a.hea,a.zip,150,61,x\nP2,b.hea,,,57,x\nP/3,c.hea,c.zip,1,2,x\n"
    )
    found = build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))
    assert found["subjects"][0] | {"split": 0, "shard": 0} == {
        "subject_id": "P1", "visit": 0, "ecg_path": "a.hea", "cmr_path": "a.zip", "lax_path": None, "split": 0,
        "shard": 0, "LVEDV": 150.0, "age": 61.0,
    }  # fmt: skip
    assert found["excluded"] == [{"subject_id": "P/3", "visit": 0, "reason": "invalid_id"}]
    (tmp_path / "t.csv").write_text("subject_id,ecg\nP1,a.hea\n")
    with pytest.raises(ConfigError, match="no column ecg_path"):
        build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))


def shard_tables(folder: Path, ecg: dict[str, str | None], cmr: dict[str, str | None]) -> tuple[Path, Path]:
    """Shard tables with a status per subject: None usable, `absent`, or a reason."""
    from ptacl.cmr.stage import SCHEMA as CMR
    from ptacl.ecg.stage import SCHEMA as ECG

    paths = []
    for kind, schema, states in (("ecg", ECG, ecg), ("cmr", CMR, cmr)):
        rows = [
            {
                "subject_id": s, "visit": 2, "flags": [], "status": "ok" if x is None else x if x == "absent" else "excluded",
                "reason": None if x in (None, "absent") else x, "tensor_row": 0 if x is None else None, "r_peaks": [1.0],
                "phase_ok": True, "phase_0": 0.0,
            }
            for s, x in states.items()
        ]  # fmt: skip
        path = folder / f"{kind}.parquet"
        write_table(
            path, pa.Table.from_pylist(rows, schema=schema), kind=f"{kind}_table",
            version=schema_versions[f"{kind}_table"], settings={}, extra={"ptacl.tensors": "d"},
        )  # fmt: skip
        paths.append(path)
    return paths[0], paths[1]


def test_pairs_and_reasons_add_up_to_everyone(tmp_path: Path) -> None:
    ukb(tmp_path / "raw", *range(9000001, 9000007))
    ukb(tmp_path / "raw", 9000001, sub="90")
    (tmp_path / "w.csv").write_text("9000006")
    build(tmp_path / "raw", tmp_path / "cohort", withdrawals=[str(tmp_path / "w.csv")])
    ids = [str(i) for i in range(9000001, 9000006)]
    ecg, cmr = shard_tables(
        tmp_path, dict(zip(ids, [None, "truncated", "absent", None, "truncated"], strict=True)),
        dict(zip(ids, [None, None, None, "truncated", "absent"], strict=True)),
    )  # fmt: skip
    build_pairs(tmp_path / "cohort", [ecg], [cmr], {}, tmp_path / "pairs")
    flow = json.loads((tmp_path / "pairs/flow.json").read_text())
    assert flow == {
        "subjects": 7, "pairs": 1,
        "excluded": {"duplicate": 1, "withdrawn": 1, "ecg_truncated": 2, "no_ecg": 1, "cmr_truncated": 1},
    }  # fmt: skip
    assert pq.read_table(tmp_path / "pairs/pairs.parquet")["subject_id"].to_pylist() == ["9000001"]
    excluded = pq.read_table(tmp_path / "pairs/excluded.parquet").to_pylist()
    assert "9000006" not in {r["subject_id"] for r in excluded} and len(excluded) == 5


def test_no_pair_at_all_stops_with_the_commonest_reasons(tmp_path: Path) -> None:
    ukb(tmp_path / "raw", 9000001)
    build(tmp_path / "raw", tmp_path / "cohort")
    ecg, cmr = shard_tables(tmp_path, {"9000001": "flat_leads"}, {"9000001": None})
    with pytest.raises(PtaclError, match="ecg_flat_leads 1"):
        build_pairs(tmp_path / "cohort", [ecg], [cmr], {}, tmp_path / "pairs")
