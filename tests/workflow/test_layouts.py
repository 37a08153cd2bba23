"""configs/ukb.yaml and configs/rap.yaml on the miniature study's files, laid out as UK Biobank hands them out."""

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

SMALL = "shards: 2}\ncmr: {slices: 2, frames: 20, crop_mm: 166, size: 16}\n"
RAP_FOLDERS = {
    "20205": "Electrocardiogram/Resting", "20209": "Heart MRI/Short axis", "20208": "Heart MRI/Long axis",
}  # fmt: skip


def raw_files(micro) -> list[Path]:
    found = [p for p in (micro.folder / "results/micro/synthetic").rglob("*") if p.suffix in (".xml", ".zip")]
    assert len({p.name for p in found}) == len(found) > 50
    return sorted(found)


def pairs_of(results: Path) -> list[dict]:
    return pq.read_table(results / "pairs/pairs.parquet").to_pylist()


def listing(folder: Path) -> list[tuple[str, int, int]]:
    paths = [folder, *sorted(folder.rglob("*"))]
    return [(str(p), p.stat().st_size if p.is_file() else 0, p.stat().st_mtime_ns) for p in paths]


def read_only(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture
def writable_again(tmp_path: Path):
    """Lets pytest remove what a test made read-only."""
    yield
    for path in [p for p in [tmp_path, *tmp_path.rglob("*")] if p.is_dir()]:
        path.chmod(0o755)


def as_rap_table(ukbconv: Path, rap: Path) -> None:
    """The same table as the table exporter writes it: `p24103_i2`, `p31`, and one list of ICD-10 codes."""
    with ukbconv.open(newline="") as f:
        rows = list(csv.DictReader(f))
    out = []
    for row in rows:
        new = {"eid": row["eid"], "p41270": "|".join(v for k, v in row.items() if k.startswith("41270-") and v)}
        for name, value in row.items():
            if m := re.fullmatch(r"(\d+)-(\d)\.(\d)", name):
                field, visit, array = m.groups()
                if field != "41270":
                    spelling = f"p{field}" + (f"_i{visit}" if field != "31" else "")
                    new[spelling + (f"_a{array}" if field in ("4079", "4080") else "")] = value
        out.append(new)
    with rap.open("w", newline="") as f:
        writer = csv.DictWriter(f, list(out[0]))
        writer.writeheader()
        writer.writerows(out)


def check(micro, study, overlay: str, config: str, raw: Path) -> None:
    """Runs `pairs` and compares with the miniature study's, tensors included; nothing may be written to `raw`."""
    before = listing(raw)
    done = study.run("pairs", "--configfile", config, study.overlay(overlay))
    assert done.returncode == 0, done.stdout[-4000:]
    assert pairs_of(study.folder / "results/layout") == pairs_of(micro.folder / "results/micro")
    ours, theirs = (
        pq.read_table(folder / "cohort/subjects.parquet").drop(["ecg_path", "cmr_path", "lax_path"])
        for folder in (study.folder / "results/layout", micro.folder / "results/micro")
    )
    shared = [c for c in theirs.column_names if c in ours.column_names]
    assert {"LVEF", "sex", "systolic_bp", "phenotype_flags"} <= set(shared)
    assert ours.select(shared).equals(theirs.select(shared))
    assert listing(raw) == before


def test_a_local_download_gives_the_pairs_of_the_same_people(micro, new_study: Callable, tmp_path: Path) -> None:
    raw, origin = tmp_path / "download", micro.folder / "results/micro/synthetic"
    for path in raw_files(micro):
        field = path.name.split("_")[1]
        # The ECGs flat and in capitals, the cines nested.
        name = path.name.replace(".xml", ".XML") if field == "20205" else f"{path.name[:2]}/{path.name}"
        target = raw / field / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (raw / "20205" / "notes.txt").write_text("not a recording")
    shutil.copytree(origin / "withdrawals", tmp_path / "lists")
    overlay = (
        f"results: results/layout\ncohort: {{root: '{raw}', table: '{origin / 'phenotypes.csv'}',"
        f" withdrawals: ['{tmp_path}/lists/w*.csv'], {SMALL}"
    )
    (tmp_path / "study").mkdir()
    check(micro, new_study(tmp_path / "study"), overlay, "configs/ukb.yaml", raw)


def test_a_read_only_mount_gives_the_pairs_of_the_same_people(
    micro, new_study: Callable, tmp_path: Path, writable_again: None
) -> None:
    mount, origin = tmp_path / "project", micro.folder / "results/micro/synthetic"
    for path in raw_files(micro):
        target = mount / "Bulk" / RAP_FOLDERS[path.name.split("_")[1]] / path.name[:2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (mount / "Bulk/Heart MRI/Long axis").mkdir(parents=True, exist_ok=True)
    # A copy of everybody outside the folders to look into: were it walked, everyone would be there twice.
    shutil.copytree(mount / "Bulk/Electrocardiogram", mount / "Another user/ECG")
    shutil.copytree(origin / "withdrawals", mount / "ptacl/withdrawals")
    as_rap_table(origin / "phenotypes.csv", mount / "ptacl/phenotypes.csv")
    read_only(mount)
    overlay = (
        f"results: results/layout\ncohort: {{root: '{mount}', table: '{mount}/ptacl/phenotypes.csv',"
        f" withdrawals: ['{mount}/ptacl/withdrawals/w*.csv'], {SMALL}"
    )
    (tmp_path / "study").mkdir()
    check(micro, new_study(tmp_path / "study"), overlay, "configs/rap.yaml", mount)


@pytest.mark.parametrize("given", ["null", "[]"])
def test_a_study_of_uk_biobank_without_withdrawal_lists_stops_before_anything_runs(micro, given: str) -> None:
    done = micro.run(
        "--dry-run", "--configfile", "configs/ukb.yaml", micro.overlay(f"cohort: {{withdrawals: {given}}}\n")
    )
    assert done.returncode != 0
    assert "config: cohort.withdrawals: missing" in done.stdout
    assert "Traceback" not in done.stdout
