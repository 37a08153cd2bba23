"""Cohort and pairs: everyone is accounted for, once, and the same way for ever."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptacl.artifacts import write_table
from ptacl.cohort import stage
from ptacl.cohort.identity import SPLITS, shard_of, split_of
from ptacl.cohort.listing import listing_digest
from ptacl.cohort.stage import build_cohort
from ptacl.errors import ConfigError, PtaclError
from ptacl.store.pairs import build_pairs
from ptacl.store.schema import VERSION as schema_versions

DEFAULTS = {
    "source": "ukb", "folders": [], "table": None, "extra_tables": [], "withdrawals": "none", "icd10": {},
    "hash_key": "ptacl", "fingerprint": "size_mtime", "shards": 4,
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


def test_a_new_subject_changes_one_manifest_only(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, *range(9000001, 9000025))
    before = build(root, tmp_path / "out")["manifests"]
    ukb(root, 9000099)
    after = build(root, tmp_path / "out")["manifests"]
    assert [i for i in before if before[i] != after[i]] == shard_of(["9000099"], "ptacl", 4).tolist()


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
    splits = split_of(ids, "ptacl")
    shares = [(splits == part).mean() for part in range(len(SPLITS))]
    assert shares == pytest.approx([0.60, 0.10, 0.15, 0.15], abs=0.01)
    assert (split_of(ids[:500], "ptacl") == splits[:500]).all()
    assert (split_of(ids, "another key") != splits).any()
    # Written down here, since they may never change: a person must not move from one part to another.
    assert splits[:8].tolist() == [3, 0, 0, 0, 0, 1, 1, 0]
    assert shard_of(ids[:8], "ptacl", 110).tolist() == [47, 3, 37, 57, 105, 71, 14, 40]


@pytest.mark.parametrize("n", range(4, 20))
def test_a_small_study_has_every_split(n: int) -> None:
    found = split_of([f"S{i}" for i in range(n)], "ptacl").tolist()
    assert set(found) == set(range(len(SPLITS)))
    assert found.count(0) >= n - 3 - n // 3


def test_a_users_table_brings_paths_phenotypes_and_covariates(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "subject_id,ecg_path,cmr_path,LVEDV,age,site\nP1,a.hea,a.zip,150,61,x\nP2,b.hea,,,57,x\nP/3,c.hea,c.zip,1,2,x\n"
    )
    found = build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))
    assert found["subjects"][0] | {"split": 0, "shard": 0} == {
        "subject_id": "P1", "visit": 0, "ecg_path": "a.hea", "cmr_path": "a.zip", "lax_path": None, "split": 0,
        "shard": 0, "LVEDV": 150.0, "age": 61.0, "phenotype_flags": [],
    }  # fmt: skip
    assert found["subjects"][1]["LVEDV"] is None
    assert found["excluded"] == [{"subject_id": "P/3", "visit": 0, "reason": "invalid_id"}]
    (tmp_path / "t.csv").write_text("subject_id,ecg\nP1,a.hea\n")
    with pytest.raises(ConfigError, match="no column ecg_path"):
        build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))


def test_of_a_row_twice_in_a_users_table_path_and_values_stay_together(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("subject_id,ecg_path,cmr_path,LVEDV\nP1,b.xml,b.zip,200\n P1 ,a.xml,a.zip,100\n")
    found = build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))
    assert [(r["ecg_path"], r["LVEDV"]) for r in found["subjects"]] == [("a.xml", 100.0)]
    assert [r["reason"] for r in found["excluded"]] == ["duplicate"]


def test_absolute_paths_below_the_root_become_relative(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"subject_id,ecg_path,cmr_path\nP1,{tmp_path}/a.xml,/elsewhere/a.zip\n")
    found = build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))
    assert (found["subjects"][0]["ecg_path"], found["subjects"][0]["cmr_path"]) == ("a.xml", "/elsewhere/a.zip")


def test_a_table_may_not_overwrite_the_cohorts_own_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("subject_id,ecg_path,cmr_path,shard\nP1,a.xml,a.zip,3\n")
    with pytest.raises(ConfigError, match="column shard"):
        build(tmp_path, tmp_path / "out", source="table", table=str(tmp_path / "t.csv"))


def test_manifests_hold_each_shards_rows_in_order_with_size_and_time(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    ukb(root, *range(9000001, 9000031))
    build(root, tmp_path / "out")
    seen = []
    for i in range(4):
        table = pq.read_table(tmp_path / "out" / f"{i:04d}.parquet")
        rows = table.to_pylist()
        assert rows == sorted(rows, key=lambda r: r["subject_id"])
        for r in rows:
            stat = (root / r["ecg_path"]).stat()
            assert (r["ecg_size"], r["ecg_mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
            assert r["lax_path"] is None and r["lax_size"] is None
            assert shard_of([r["subject_id"]], "ptacl", 4).tolist() == [i]
        seen += [r["subject_id"] for r in rows]
    assert sorted(seen) == [str(i) for i in range(9000001, 9000031)]
    build(root, tmp_path / "out", fingerprint="size")
    assert pq.read_table(tmp_path / "out/0000.parquet")["ecg_mtime_ns"].null_count > 0


def test_the_stage_and_the_store_agree_on_versions() -> None:
    assert schema_versions[stage.SUBJECTS] == stage.SUBJECTS_VERSION
    assert schema_versions[stage.EXCLUDED] == stage.EXCLUDED_VERSION


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
