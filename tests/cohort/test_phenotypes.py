"""Values: the right field, visit and person; special codes per field; errors left out, oddities flagged."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.cohort.checks import phenotype_flags
from ptacl.cohort.fields import CATEGORIES, COVARIATES, PHENOTYPES, QUANTITIES
from ptacl.cohort.stage import build_cohort
from ptacl.cohort.tables import extra_columns, ukb_columns
from ptacl.cohort.text import normal_id, normal_ids, numbers
from ptacl.errors import ConfigError

TABLES = {
    "ukbconv csv": '"eid","31-0.0","24103-2.0","24103-3.0","4080-2.0","4080-2.1","50-0.0","24157-2.0","99999-2.0"',
    "ukbconv r": "f.eid,f.31.0.0,f.24103.2.0,f.24103.3.0,f.4080.2.0,f.4080.2.1,f.50.0.0,f.24157.2.0,f.99999.2.0",
    "Stata": "n_eid,n_31_0_0,n_24103_2_0,n_24103_3_0,n_4080_2_0,n_4080_2_1,n_50_0_0,n_24157_2_0,s_99999_2_0",
    "RAP": "eid,p31,p24103_i2,p24103_i3,p4080_i2_a0,p4080_i2_a1,p50_i0,p24157_i2,p99999_i2",
    "RAP, entity": "participant.eid,participant.p31,participant.p24103_i2,participant.p24103_i3,"
    "participant.p4080_i2_a0,participant.p4080_i2_a1,participant.p50_i0,participant.p24157_i2,participant.p99999_i2",
    "RAP with titles": "Participant ID,Sex,LV ejection fraction | Instance 2,LV ejection fraction | Instance 3,"
    '"Systolic blood pressure, automated reading | Instance 2 | Array 0",'
    '"Systolic blood pressure, automated reading | Instance 2 | Array 1",Standing height | Instance 0,'
    "LV circumferential strain global | Instance 2,Hair colour | Instance 0",
}


def read(path: Path, *rows: tuple[str, int], errors: Counter | None = None) -> dict[str, list]:
    columns, _ = ukb_columns(
        path, pa.array([s for s, _ in rows]), np.array([v for _, v in rows], np.int8), {},
        Counter() if errors is None else errors,
    )  # fmt: skip
    return {k: [None if np.isnan(x) else x for x in v.tolist()] for k, v in columns.items()}


@pytest.mark.parametrize("dialect", TABLES)
def test_the_same_values_are_read_from_every_dialect(tmp_path: Path, dialect: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        TABLES[dialect]
        + '\n"9000001","1","58.5","NA","140","150","176","-2","x"\n9000002,,-1,61,abc,,,,\n9000003,0,50,,,,,,\n'
    )
    found = read(path, ("9000002", 3), ("9000001", 2), ("9000001", 3), ("9000009", 2))
    assert found == {
        "sex": [None, 1, 1, None], "height_cm": [None, 176, 176, None], "systolic_bp": [None, 145, None, None],
        "LVEF": [61, 58.5, None, None], "Ecc": [None, -2, None, None],
    }  # fmt: skip


def test_special_codes_are_missing_only_in_fields_whose_coding_has_them(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        "eid,p20116_i2,p2443_i2,p21000_i0,p24181_i2\n9000001,-3,-1,-3,-3\n9000002,2,1,4003,-18\n9000003,0,-2,6,-1\n"
    )
    errors: Counter[str] = Counter()
    found = read(path, *((str(i), 2) for i in range(9000001, 9000004)), errors=errors)
    assert found == {
        "smoking": [None, 2, 0], "diabetes": [None, 1, None], "ethnicity": [None, 4, 6], "Ell": [-3, -18, -1],
    }  # fmt: skip
    assert errors == {"diabetes": 1}  # -2 is no code of that field, and no answer either


def test_words_in_place_of_codes_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        "eid,p31,p20116_i2,p2443_i2,p21000_i0\n9000001,Female,Previous,Yes,Any other white background\n"
        "9000002,Male,Prefer not to answer,Do not know,Chinese\n"
    )
    assert read(path, ("9000001", 2), ("9000002", 2)) == {
        "sex": [0, 1], "smoking": [1, None], "diabetes": [1, None], "ethnicity": [1, 5],
    }  # fmt: skip


def test_a_parquet_table_with_numbers_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"eid": [9000001.0, 9000002.0], "p24103_i2": [58.5, None], "p31": [1, 0]}), path)
    assert read(path, ("9000001", 2), ("9000002", 2)) == {"LVEF": [58.5, None], "sex": [1, 0]}


def test_impossible_readings_are_left_out_and_counted_before_the_mean(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("eid,p24103_i2,p4080_i2_a0,p4080_i2_a1\n9000001,158,0,140\n9000002,60,120,130\n")
    errors: Counter[str] = Counter()
    found = read(path, ("9000001", 2), ("9000002", 2), errors=errors)
    assert found == {"LVEF": [None, 60], "systolic_bp": [140, 125]}
    assert errors == {"LVEF": 1, "systolic_bp": 1}


def test_a_person_with_two_rows_stops_the_study(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("eid,p31\n9000001,1\n9000002,0\n9000001,0\n")
    with pytest.raises(ConfigError, match="1 rows repeat a person"):
        read(path, ("9000001", 2))
    assert read(path, ("9000002", 2)) == {"sex": [0]}


def test_extra_tables_join_on_subject_and_visit(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("eid,instance,es_ms,LVEF,note\n9000001,2,310,60,x\n9000001,3,320,200,y\n9000002,2,,,z\n")
    errors: Counter[str] = Counter()
    found = extra_columns(path, pa.array(["9000001", "9000001", "9000002"]), np.array([3, 2, 2], np.int8), errors)
    assert set(found) == {"es_ms", "LVEF"}
    np.testing.assert_array_equal(found["es_ms"], [320, 310, np.nan])
    np.testing.assert_array_equal(found["LVEF"], [np.nan, 60, np.nan])
    assert errors == {"LVEF": 1}
    path.write_text("eid,instance,es_ms\n9000001,2,310\n9000001,2,311\n")
    with pytest.raises(ConfigError, match="repeat a subject and visit"):
        extra_columns(path, pa.array(["9000001"]), np.array([2], np.int8), errors)
    path.write_text("person,es_ms\n9000001,310\n")
    with pytest.raises(ConfigError, match="no column subject_id or eid; found person, es_ms"):
        extra_columns(path, pa.array(["9000001"]), np.array([2], np.int8), errors)


@given(st.lists(st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=8)), max_size=30))
def test_numbers_are_those_python_reads_and_never_infinite(cells: list) -> None:
    def expected(text: str | None) -> float:
        if (text or "").strip().lower() in ("true", "false"):
            return float(text.strip().lower() == "true")
        try:
            value = float(text or "")
        except ValueError:
            return np.nan
        # Python alone takes underscores and the digits of other scripts.
        return value if np.isfinite(value) and text.strip().isascii() and "_" not in text else np.nan

    text = [None if c is None else str(c) for c in cells]
    found = numbers(pa.array(text, pa.string()))
    np.testing.assert_array_equal(found, np.array([expected(t) for t in text], float))


@given(
    st.integers(9_000_001, 9_999_999),
    st.sampled_from(["{}", " {} ", '"{}"', "{}.0", '\ufeff"{}" ', "'{}'", "\u00a0{}.00"]),
)
def test_an_id_is_the_same_in_every_spelling(number: int, spelling: str) -> None:
    assert normal_id(spelling.format(number)) == str(number)
    assert normal_ids(pa.array([float(number)])).to_pylist() == [str(number)]


def flags_of(**values: float) -> list[str]:
    return phenotype_flags({k: np.array([v]) for k, v in values.items()}, 1).to_pylist()[0]


def test_odd_values_are_flagged_and_kept() -> None:
    assert flags_of(LVEF=60) == []
    assert flags_of(LVEF=8, LVEDV=520, LVM=np.nan) == ["LVEDV_implausible", "LVEF_implausible"]
    assert flags_of(LVEDV=150, LVESV=60, LVSV=91.9, LVEF=61.2) == []
    assert flags_of(LVEDV=150, LVESV=60, LVSV=92.5, LVEF=60) == ["LVEF_inconsistent", "LVSV_inconsistent"]
    assert flags_of(LVSV=100, RVSV=80) == []
    assert flags_of(LVSV=100, RVSV=70) == ["LVSV_RVSV_differ"]
    assert flags_of(LVSV=100, RVSV=np.nan) == []


def test_flags_stand_beside_their_own_row() -> None:
    found = phenotype_flags({"LVEF": np.array([60.0, 8, np.nan, 95]), "LVM": np.array([9.0, 9, 80, 80])}, 4).to_pylist()
    low = "LVM_implausible"
    assert found == [[low], ["LVEF_implausible", low], [], ["LVEF_implausible"]]
    assert phenotype_flags({}, 3).to_pylist() == [[], [], []]


def test_the_plausible_range_lies_within_the_possible_one() -> None:
    for name, q in QUANTITIES.items():
        assert q.possible[0] < q.possible[1], name
        if q.plausible != (float("-inf"), float("inf")):
            assert q.possible[0] <= q.plausible[0] < q.plausible[1] <= q.possible[1], name
    assert list(QUANTITIES) == [*COVARIATES, *CATEGORIES, *PHENOTYPES]
    fields = [f for q in QUANTITIES.values() for f in q.fields]
    assert len(fields) == len(set(fields))
    assert set(range(24100, 24124)) | {24140, 24157, 24174, 24181} <= set(fields)


def test_the_cohort_table_has_values_flags_body_surface_and_the_count_of_errors(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    for eid in (9000001, 9000002):
        (root / f"{eid}_20205_2_0.xml").write_text(str(eid))
    (tmp_path / "p.csv").write_text(
        "eid,p12144_i2,p21002_i2,p24103_i2,p41270\n9000001,170,70,8,I251|I10\n9000002,170,,999,\n"
    )
    settings = {
        "source": "ukb", "root": str(root), "folders": [], "table": str(tmp_path / "p.csv"), "extra_tables": [],
        "withdrawals": "none", "icd10": {"cad": ["I25"]}, "hash_key": "ptacl", "fingerprint": "size", "shards": 1,
    }  # fmt: skip
    build_cohort(settings, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/subjects.parquet").to_pylist()
    assert rows[0]["bsa"] == pytest.approx(1.81, abs=0.005) and rows[1]["bsa"] is None
    assert [r["LVEF"] for r in rows] == [8, None]
    assert [r["phenotype_flags"] for r in rows] == [["LVEF_implausible"], []]
    assert [r["cad"] for r in rows] == [1, 0]
    assert '"LVEF": 1' in (tmp_path / "out/excluded_counts.json").read_text()
    for wrong, message in (({"LVEF_mean": ["I25"], "sex": ["I1"]}, "sex is the name"), ({"shard": ["I1"]}, "shard is")):
        with pytest.raises(ConfigError, match=message):
            build_cohort(settings | {"icd10": wrong}, tmp_path / "out")
    (tmp_path / "p.csv").write_text("eid,p31\n9000001,1\n")
    with pytest.raises(ConfigError, match="cohort.icd10: p.csv has no field 41270"):
        build_cohort(settings, tmp_path / "out")


ONE = pa.array(["9000001"]), np.array([2], np.int8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eid,p24103_i2\n9000009,60\n", "nobody in t.csv has a file in this study"),
        ("eid,p24103_i2\n9e+06,60\n9000001,60\n", "numbers such as 9e\\+06"),
        ('eid,p24103_i2\n9000001,"58,5"\n', "field 24103 holds text and no number"),
        ("eid,participant.eid,p24103_i2\n,9000001,60\n", "two columns of ids"),
    ],
)
def test_a_table_that_would_give_nobody_a_value_stops_the_study(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        ukb_columns(tmp_path / "t.csv", *ONE, {}, Counter())
    assert "9000001" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eid,instance,es_ms\n9000009,2,310\n", "none of its 1 rows belongs to this study at all"),
        ("eid,es_ms\n9000001,310\n", "without a column visit or instance"),
        ("eid,visit,es_ms\n9000001,3,310\n", "at these visits"),
        ("eid,visit,instance,es_ms\n9000001,2,2,310\n", "visit and instance mean the same"),
        ("eid,subject_id,es_ms\n9000001,P1,310\n", "eid and subject_id mean the same"),
        ("eid,visit,LVEF\n9000001,2,high\n", "column LVEF of t.csv holds text and no number"),
    ],
)
def test_an_extra_table_that_joins_nobody_stops_the_study(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        extra_columns(tmp_path / "t.csv", *ONE, Counter())


def test_words_and_truth_values_of_a_users_table_are_understood(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("EID,Visit,sex,smoking,diabetes,mine,notes\n9000001,2,Male,Never,TRUE,false,tall\n")
    found = extra_columns(tmp_path / "t.csv", *ONE, Counter())
    assert {k: v.tolist() for k, v in found.items()} == {"sex": [1], "smoking": [0], "diabetes": [1], "mine": [0]}


@pytest.mark.parametrize("cell", ["Prefer not to answer", "", " ", "NA"])
def test_no_answer_in_every_cell_is_no_value_and_no_error(tmp_path: Path, cell: str) -> None:
    (tmp_path / "t.csv").write_text(f"eid,p2443_i2,p31\n9000001,{cell},Female\n")
    columns, _ = ukb_columns(tmp_path / "t.csv", *ONE, {}, Counter())
    assert {k: v.tolist() for k, v in columns.items()} == {"sex": [0]}


def test_what_a_table_holds_of_other_visits_only_is_noted(tmp_path: Path, capsys) -> None:
    (tmp_path / "t.csv").write_text("eid,24103-0.0,24100-2.0\n9000001,60,150\n")
    columns, _ = ukb_columns(tmp_path / "t.csv", *ONE, {}, Counter())
    assert list(columns) == ["LVEDV"]
    assert "has columns for LVEF, and no possible value at a visit of this study" in capsys.readouterr().out


def test_titles_that_the_scanners_own_fields_share_are_noted(tmp_path: Path, capsys) -> None:
    (tmp_path / "t.csv").write_text("Participant ID,LV ejection fraction | Instance 2\n9000001,60\n")
    ukb_columns(tmp_path / "t.csv", *ONE, {}, Counter())
    assert "the scanner's own fields" in capsys.readouterr().out


def test_regional_values_centre_and_the_output_at_the_mri_are_read_and_checked(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "eid,24124-2.0,24156-2.0,24180-2.0,54-2.0,24104-2.0,24102-2.0,22426-2.0\n9000001,6.1,-22,-18,11025,9,80,60\n"
    )
    columns, _ = ukb_columns(tmp_path / "t.csv", *ONE, {}, Counter())
    assert columns["LV_wall_thickness_AHA1"] == 6.1 and columns["Ecc_AHA16"] == -22 and columns["Ell_segment6"] == -18
    assert columns["centre"] == 11025
    assert phenotype_flags(columns, 1).to_pylist() == [["LVCO_inconsistent"]]
