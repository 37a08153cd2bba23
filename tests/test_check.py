"""`ptacl check` and `ptacl verify-withdrawals`: what they find in a study's inputs and results, and that they name nobody."""

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from snakemake.utils import update_config

from ptacl.check import SAMPLED, check_study
from ptacl.cli import main
from ptacl.cohort.stage import build_cohort
from ptacl.config import load_config
from ptacl.errors import ConfigError
from ptacl.stages import REPOSITORY
from ptacl.synthetic.stage import build_synthetic_cohort

ID = re.compile(r"(?<!\d)9\d{6}(?!\d)")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic cohort of 40 people on disk, a few files of it damaged."""
    folder = tmp_path_factory.mktemp("origin")
    settings = {"subjects": 40, "seed": 11, "size": "small", "fault_rate": 0.2}
    build_synthetic_cohort(settings, folder, processes=2)
    return folder


@pytest.fixture
def study(origin: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes an overlay for a study of that cohort, with changes to its `cohort` section, and returns its path."""

    def write(**cohort: object) -> Path:
        overlay = {
            "results": str(tmp_path / "results"), "synthetic": None,
            "cohort": {
                "source": "ukb", "root": str(origin), "table": str(origin / "phenotypes.csv"),
                "extra_tables": [str(origin / "timings.csv")], "withdrawals": [str(origin / "withdrawals/*.csv")],
                "shards": 2, **cohort,
            },
            "evaluate": {"reference_predictions": str(origin / "expected.parquet")},
        }  # fmt: skip
        (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        return tmp_path / "overlay.yaml"

    return write


def checked(capsys: pytest.CaptureFixture[str], overlay: Path) -> tuple[int, dict, str]:
    code = main(["check", "--configfile", str(overlay), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert main(["check", "--configfile", str(overlay)]) == code
    text = capsys.readouterr().out
    assert not ID.search(text) and not ID.search(json.dumps(found))
    return code, found, text


def test_a_sound_study_is_counted_as_the_cohort_stage_will_count_it(study, origin, tmp_path, capsys) -> None:
    overlay = study()
    code, found, text = checked(capsys, overlay)
    assert (code, found["stops"], found["odd"]) == (0, [], [])
    assert text.endswith("nothing stands in the way\n")
    assert not (tmp_path / "results").exists()

    build_cohort(load_config([overlay])["cohort"], tmp_path / "cohort")
    rows = pq.read_table(tmp_path / "cohort/subjects.parquet").to_pylist()
    withdrawn = json.loads((tmp_path / "cohort/excluded_counts.json").read_text())["withdrawn"]
    both = sum(bool(r["ecg_path"] and r["cmr_path"]) for r in rows)
    assert found["rows"] == {
        "found": len(rows) + withdrawn, "people": len({r["subject_id"] for r in rows}), "with ECG and cine": both,
        "with an ECG only": sum(not r["cmr_path"] for r in rows), "with a cine only": sum(not r["ecg_path"] for r in rows),
    }  # fmt: skip
    losses = {loss["reason"]: loss["rows"] for loss in found["losses"] if loss["exact"]}
    assert losses == Counter(
        withdrawn=withdrawn, no_cmr=found["rows"]["with an ECG only"], no_ecg=found["rows"]["with a cine only"]
    )
    assert found["formats"]["ecg"] == {".xml": sum(bool(r["ecg_path"]) for r in rows)}
    assert found["formats"]["lax"] == {".zip": sum(bool(r["lax_path"]) for r in rows)}
    assert "ukbconv csv dialect" in found["inputs"]["cohort.table"]


def test_files_are_really_read(study, origin, tmp_path, capsys) -> None:
    root = tmp_path / "raw"
    shutil.copytree(origin, root)
    overlay = study(root=str(root))
    _, before, _ = checked(capsys, overlay)
    for kind in ("ecg", "cmr"):
        sample = before["samples"][kind]
        assert sample["read"] == SAMPLED and sample["usable"] + sum(sample["reasons"].values()) == SAMPLED
    for path in root.rglob("*_20205_*.xml"):
        path.write_bytes(path.read_bytes()[:5000])
    code, found, text = checked(capsys, overlay)
    assert code == 1
    assert found["samples"]["ecg"] == {"read": 10, "usable": 0, "reasons": {"truncated": 10}, "flags": {}}
    assert found["samples"]["cmr"] == before["samples"]["cmr"]
    assert found["losses"][0] == {
        "reason": "ecg_truncated",
        "rows": sum(found["formats"]["ecg"].values()),
        "exact": False,
    }
    assert "stop: cohort: none of 10 sampled ECGs is usable: truncated" in text
    assert "ecg_truncated (about, by the sample)" in text


def test_everything_missing_is_said_at_once(study, tmp_path, capsys) -> None:
    overlay = study(
        root=str(tmp_path / "no"), table=str(tmp_path / "t.csv"), extra_tables=[str(tmp_path / "e.csv")],
        withdrawals=[str(tmp_path / "w*.csv")],
    )  # fmt: skip
    code, found, text = checked(capsys, overlay)
    assert code == 1 and text.count("stop: ") == 4
    keys = [re.match(r"[\w.\[\]]+", stop)[0] for stop in found["stops"]]
    assert keys == ["cohort.withdrawals", "cohort.root", "cohort.table", "cohort.extra_tables[0]"]


def test_a_table_of_another_application_is_a_stop(study, origin, tmp_path, capsys) -> None:
    with (origin / "phenotypes.csv").open(newline="") as f:
        rows = list(csv.reader(f))
    other = [[str(int(row[0]) + 900_000), *row[1:]] for row in rows[1:]]
    with (tmp_path / "p.csv").open("w", newline="") as f:
        csv.writer(f).writerows([rows[0], *other])
    code, found, text = checked(capsys, study(table=str(tmp_path / "p.csv")))
    assert code == 1 and [stop.split(":")[0] for stop in found["stops"]] == ["cohort.table"]
    assert "another application" in text
    with pytest.raises(ConfigError, match="another application"):
        build_cohort(load_config([tmp_path / "overlay.yaml"])["cohort"], tmp_path / "cohort")


def test_values_are_counted_at_the_visits_of_the_study(study, origin, tmp_path, capsys) -> None:
    people = sorted(
        {p.name[:7] for p in origin.rglob("*_20209_2_0.zip")} & {p.name[:7] for p in origin.rglob("*_20205_2_0.xml")}
    )
    lines = [f"{eid},60,1,{90 if i < 3 else ''}" for i, eid in enumerate(people)]
    (tmp_path / "p.csv").write_text("\n".join(["eid,24103-0.0,31-0.0,24105-2.0", *lines]))
    code, found, text = checked(capsys, study(table=str(tmp_path / "p.csv"), extra_tables=[]))
    assert code == 0 and found["values"]["LVEF"] == 0 and found["values"]["LVM"] <= 3 < found["values"]["sex"]
    assert any("has columns for LVEF" in odd for odd in found["odd"])
    assert re.search(r"odd: evaluate: few of \d+ rows with ECG and cine have a value: LVEDV 0, ", text)


def test_the_beginning_of_a_large_table_is_looked_at(study, origin, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("ptacl.check.READ_BYTES", 0)
    code, found, _ = checked(capsys, study())
    assert code == 0 and re.search(
        r"too large to be read here; of its first \d+ people \d+ have files", found["inputs"]["cohort.table"]
    )
    (tmp_path / "p.csv").write_text("eid,24103-2.0\n9900001,60\n")
    code, found, _ = checked(capsys, study(table=str(tmp_path / "p.csv")))
    assert code == 0 and "another application" in found["odd"][0]


WRONG_TABLES = {
    "a person twice": "eid,24103-2.0\n{0},60\n{0},61\n", "a decimal comma": 'eid,24103-2.0\n{0},"58,5"\n',
    "an ICD-10 cell": "eid,24103-2.0,41270-0.0\n{0},60,I25;I10\n", "a ragged row": "eid,24103-2.0\n{0},60,1\n",
    "another application": "eid,24103-2.0\n9900001,60\n", "other visits": "eid,24103-0.0\n{0},60\n",
    "scientific ids": "eid,24103-2.0\n9e+06,60\n", "no dialect": "person,LVEF\n{0},60\n",
}  # fmt: skip
EXTRA_TABLES = {
    "none of these people": "eid,visit,es_ms\n9900001,2,310\n", "no visit": "eid,es_ms\n{0},310\n", "no ids": "es_ms\n310\n",
    "text": "eid,visit,LVEF\n{0},2,high\n", "EID": "EID,Visit,es_ms\n{0},2,310\n",
}  # fmt: skip


@pytest.mark.parametrize("name", [*WRONG_TABLES, *EXTRA_TABLES])
def test_the_check_stops_where_the_cohort_stage_stops(study, origin, tmp_path, capsys, name: str) -> None:
    eid = sorted(origin.rglob("*_20205_2_0.xml"))[0].name[:7]
    (tmp_path / "t.csv").write_text({**WRONG_TABLES, **EXTRA_TABLES}[name].format(eid))
    tables = {"table": str(tmp_path / "t.csv"), "extra_tables": [], "icd10": {"cad": ["I25"]} if "ICD" in name else {}}
    overlay = study(**(tables if name in WRONG_TABLES else {"extra_tables": [str(tmp_path / "t.csv")]}))
    code, found, _ = checked(capsys, overlay)
    assert code == (0 if name == "EID" else 1)
    try:
        build_cohort(load_config([overlay])["cohort"], tmp_path / "cohort")
    except ConfigError as e:
        assert str(e) in found["stops"][0]
    else:
        assert name == "EID"


def test_lists_of_other_people_are_odd(study, tmp_path, capsys) -> None:
    (tmp_path / "w1.csv").write_text("9900001\n")
    _, found, _ = checked(capsys, study(withdrawals=[str(tmp_path / "w*.csv")]))
    assert found["odd"] == ["cohort.withdrawals: nobody on the lists is among the rows; are they of this application?"]


def test_nobody_with_both_is_a_stop_and_few_people_are_odd(study, origin, tmp_path, capsys) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    for path in sorted(origin.rglob("*_20205_2_0.xml"))[:3]:
        shutil.copy(path, root)
    code, found, _ = checked(capsys, study(root=str(root)))
    assert code == 1 and found["stops"] == ["cohort: nobody has both an ECG and a cine of the same visit"]
    assert any("too few for numbers" in odd for odd in found["odd"])


def test_a_users_table_with_absent_files_says_how_many(study, origin, tmp_path, capsys) -> None:
    ecgs, cines = (sorted(origin.rglob(f"*_{field}_2_0.*"))[:30] for field in (20205, 20209))
    lines = [f"P{i},{e},{c}" for i, (e, c) in enumerate(zip(ecgs, cines, strict=True))]
    lines += ["Q1,no.xml,no.zip", "Q2,a\0.hea,no.nii.gz", "Q2,twice.hea,", "Q/3,x.xml,y.zip"]
    (tmp_path / "t.csv").write_text("subject_id,ecg_path,cmr_path\n" + "\n".join(lines))
    (tmp_path / "empty.xml").write_text("")
    overlay = study(
        source="table", root=str(tmp_path), table=str(tmp_path / "t.csv"), extra_tables=[], withdrawals="none"
    )
    code, found, _ = checked(capsys, overlay)
    assert code == 0
    losses = {loss["reason"]: loss["rows"] for loss in found["losses"] if loss["exact"]}
    assert losses == {"ecg_missing_file": 2, "cmr_missing_file": 2, "duplicate": 1, "invalid_id": 1}
    assert found["formats"]["cmr"] == {".zip": 31, ".nii.gz": 1}


def test_a_missing_table_that_names_the_rows_is_said_once(study, tmp_path, capsys) -> None:
    overlay = study(source="table", table=str(tmp_path / "t.csv"), extra_tables=[], withdrawals="none")
    code, found, _ = checked(capsys, overlay)
    assert code == 1 and len(found["stops"]) == 1 and "t.csv: no such table" in found["stops"][0]


def test_a_wrong_config_is_one_line(study, tmp_path, capsys) -> None:
    overlay = study(shards=0)
    assert main(["check", "--configfile", str(overlay)]) == 2
    assert capsys.readouterr().err == "ptacl check: cohort.shards: 0 is not at least 1\n"
    for text in ("a: [", "- a", ""):
        (tmp_path / "x.yaml").write_text(text)
        assert main(["verify-withdrawals", "--configfile", str(tmp_path / "x.yaml")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def holds(found: object, value: object) -> bool:
    """Whether `found` is `value`, but for further keys (the schema's defaults) at any level."""
    if isinstance(value, dict) and isinstance(found, dict):
        return all(k in found and holds(found[k], v) for k, v in value.items())
    return found == value


def test_overlays_are_merged_as_snakemake_merges_them() -> None:
    names = ("config.yaml", "configs/micro.yaml", "configs/public.yaml")
    expected: dict = {}
    for name in names:
        update_config(expected, yaml.safe_load((REPOSITORY / name).read_text()))
    found = load_config([REPOSITORY / name for name in names[1:]])
    for section, value in expected.items():
        if section not in ("cohort", "evaluate"):  # these have {results} in paths
            assert holds(found[section], value), section
    assert found["cohort"]["withdrawals"] == "none" and found["seeds"] == [0, 1]


def test_the_generated_cohort_is_not_there_yet(tmp_path, capsys) -> None:
    (tmp_path / "x.yaml").write_text(f"results: {tmp_path / 'none'}\n")
    assert main(["check", "--configfile", str(tmp_path / "x.yaml")]) == 0
    assert "generated by the workflow" in capsys.readouterr().out


def test_verify_withdrawals_tells_files_and_counts_but_no_ids(study, origin, tmp_path, capsys) -> None:
    overlay, results = study(), tmp_path / "results"
    command = ["verify-withdrawals", "--configfile", str(overlay)]
    assert main(command) == 2  # there are no results yet
    build_cohort(load_config([overlay])["cohort"], results / "cohort")
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("that name any of them: 0\n")

    present = pq.read_table(results / "cohort/subjects.parquet")["subject_id"].to_pylist()
    gone = tmp_path / "w9_20270101.csv"
    gone.write_text("\n".join(present[:3]))
    (results / "notes.csv").write_text(f"x\n{present[1]}\n")
    overlay = study(withdrawals=[str(origin / "withdrawals/*.csv"), str(gone)])
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "     3  cohort/subjects.parquet\n" in out and "     1  notes.csv\n" in out
    assert not ID.search(out)

    (results / "cohort/0000.parquet").write_text("half")
    assert main(command) == 1
    assert "can't be searched" in capsys.readouterr().err
    gone.write_text("9000001 and others")
    assert main(command) == 2
    assert not ID.search(capsys.readouterr().err)


def test_a_config_that_is_no_file_is_an_error(tmp_path) -> None:
    with pytest.raises(ConfigError, match="nothing.yaml: can't be read"):
        check_study(load_config([tmp_path / "nothing.yaml"]))
