"""Every spelling of a UK Biobank column is understood, in every kind of file, and none is guessed."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.cohort.dialects import DIALECTS, Key, parse_column, parse_header
from ptacl.cohort.fields import QUANTITIES, TITLES
from ptacl.cohort.sources import table_rows
from ptacl.cohort.text import column_names, first_values, read_text_table
from ptacl.errors import ConfigError

BY_NAME = {d.name: d for d in DIALECTS}
IDS = {d.name: d.ids[-1] for d in DIALECTS}
TITLE_OF = {field: title for title, field in TITLES.items()}


def spell(dialect: str, key: Key) -> str:
    """The column of a known field in a dialect, written here a second time and independently."""
    f, i, a = key
    return {
        "ukbconv csv": f"{f}-{i}.{a}",
        "ukbconv r": f"f.{f}.{i}.{a}",
        "Stata": f"n_{f}_{i}_{a}",
        "RAP": f"p{f}_i{i}_a{a}",
        "RAP with titles": f"{TITLE_OF.get(f)} | Instance {i} | Array {a}",
    }[dialect]


keys = st.builds(Key, st.sampled_from(sorted(TITLE_OF)), st.integers(0, 5), st.integers(0, 300))


@given(keys, st.sampled_from(sorted(BY_NAME)))
def test_a_column_is_read_back_as_it_was_spelled_and_in_its_own_dialect_only(key: Key, name: str) -> None:
    column = spell(name, key)
    assert parse_column(column, BY_NAME[name]) == key
    for other in BY_NAME.values():
        assert other.name == name or parse_column(column, other) is None


@given(st.lists(keys, min_size=1, max_size=30, unique=True), st.sampled_from(sorted(BY_NAME)))
def test_a_header_gives_its_id_column_and_every_field(wanted: list[Key], name: str) -> None:
    header = ["notes", IDS[name], *(spell(name, k) for k in wanted), "another column"]
    dialect, id_column, found = parse_header(header, "t.csv")
    assert (dialect, id_column) == (name, IDS[name])
    assert list(found.values()) == wanted


@given(st.text(max_size=30))
def test_any_other_column_is_left_out_or_a_key(text: str) -> None:
    for dialect in DIALECTS:
        key = parse_column(text, dialect)
        assert key is None or min(key) >= 0


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("p31", Key(31, 0, 0)), ("p24103_i2", Key(24103, 2, 0)), ("p4080_i2_a1", Key(4080, 2, 1)),
        ("participant.p31", Key(31, 0, 0)), ("p41280_a3", Key(41280, 0, 3)), ("p31_x", None), ("xp31", None),
    ],
)  # fmt: skip
def test_the_platform_leaves_out_instance_and_array_where_there_is_one(column: str, key: Key | None) -> None:
    assert parse_column(column, BY_NAME["RAP"]) == key


@pytest.mark.parametrize(
    ("column", "key"),
    [
        ("Sex", Key(31, 0, 0)), ("LV ejection fraction | Instance 2", Key(24103, 2, 0)),
        ("Systolic blood pressure, automated reading | Instance 2 | Array 1", Key(4080, 2, 1)),
        ("Hair colour | Instance 0", None), ("LV ejection fraction (not this) | Instance 2", None),
    ],
)  # fmt: skip
def test_titles_are_those_of_the_showcase(column: str, key: Key | None) -> None:
    assert parse_column(column, BY_NAME["RAP with titles"]) == key


def test_every_known_field_but_the_scanners_own_has_a_title() -> None:
    fields = {f for q in QUANTITIES.values() for f in q.fields}
    assert fields - set(TITLES.values()) == {22420, 22421, 22422, 22423, 22424}


def test_two_columns_for_one_key_stop_the_study() -> None:
    for twice in (["p31", "p31_i0"], ["p31", "p31"], ["p31", "participant.p31"]):
        with pytest.raises(ConfigError, match="are the same"):
            parse_header(["eid", *twice], "t.csv")


def test_a_table_of_no_dialect_or_of_two_stops_with_its_first_columns() -> None:
    with pytest.raises(ConfigError, match=r"begin with id, LVEF, b, c$"):
        parse_header(["id", "LVEF", "b", "c", "d"], "t.csv")
    with pytest.raises(ConfigError, match="mixes the dialects ukbconv csv and RAP"):
        parse_header(["eid", "31-0.0", "p24103_i2"], "t.csv")


def test_a_table_without_a_header_does_not_tell_whose_first_row_it_shows() -> None:
    with pytest.raises(ConfigError) as error:
        parse_header(["9000001", "1", "58.5"], "t.csv")
    assert "9000001" not in str(error.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".tab.txt", ".parquet"])
def test_only_the_columns_asked_for_are_read_from_any_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    title = "Systolic blood pressure, automated reading | Instance 2"
    if suffix == ".parquet":
        columns = {"Participant ID": [9000001, 9000002], "x": [1, 2], title: [120.5, None]}
        pq.write_table(pa.table(columns), path)
    else:
        gap = "\t" if suffix in (".tsv", ".tab.txt") else ","
        rows = [['"Participant ID"', "x", f'"{title}"'], ['"9000001"', '"1"', '"120.5"'], ["9000002", "\xb5", "NA"]]
        # The other column holds bytes that are no UTF-8, as free text in the main table does.
        body = "\r\n".join(gap.join(r) for r in rows) + "\r\n"
        path.write_bytes(b"\xef\xbb\xbf" + body.encode("latin-1"))
    assert column_names(path) == ["Participant ID", "x", title]
    table = read_text_table(path, ["Participant ID", title])
    assert table.column_names == ["Participant ID", title]
    assert table.to_pydict() == {"Participant ID": ["9000001", "9000002"], title: ["120.5", None]}


def test_a_table_that_is_missing_broken_or_binary_stops_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("eid,p31\n9000001,1,2,3\n")
    (tmp_path / "broken.parquet").write_text("x")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00e")
    for name in ("missing.csv", "missing.parquet", "broken.csv", "broken.parquet", "binary.csv"):
        with pytest.raises(ConfigError, match=name) as error:
            read_text_table(tmp_path / name)
        assert "9000001" not in str(error.value)


def test_text_that_spans_lines_does_not_break_a_large_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    note = '"' + "a note\nof two lines, " * 50 + '"'
    with path.open("w") as f:
        f.write("eid,notes,24103-2.0\n")
        for i in range(20_000):
            f.write(f"{9_000_001 + i},{note},{i % 90}\n")
    assert path.stat().st_size > 16 * 2**20
    table = read_text_table(path, ["eid", "24103-2.0"])
    assert table["24103-2.0"].to_pylist() == [str(i % 90) for i in range(20_000)]
    assert first_values(path, "eid", 5)[:5].to_pylist() == [str(9_000_001 + i) for i in range(5)]


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_table_with_a_header_only_is_empty(tmp_path: Path, end: str) -> None:
    (tmp_path / "t.csv").write_text("eid,24103-2.0" + end)
    assert read_text_table(tmp_path / "t.csv").num_rows == 0
    assert len(first_values(tmp_path / "t.csv", "eid", 5)) == 0


@pytest.mark.parametrize("first", ["9000001;60;1", "9000001.0", "' 9000001 '", "SYN000001", "90/9000001_20205_2_0.xml"])
def test_the_first_row_of_a_table_without_header_reaches_no_message(tmp_path: Path, first: str) -> None:
    (tmp_path / "t.csv").write_text(f"{first},b\n{first},c\n")
    for read in (lambda: parse_header([first, "b"], "t.csv"), lambda: table_rows(tmp_path / "t.csv")):
        with pytest.raises(ConfigError) as error:
            read()
        assert "00001" not in str(error.value)


def test_the_columns_of_a_users_table_may_be_spelled_either_way(tmp_path: Path) -> None:
    for column in ("visit", "Visit", "instance", "Instance"):
        (tmp_path / "t.csv").write_text(f"subject_id,{column},ecg_path,cmr_path\nP1,2,a.xml,\nP1,3,b.xml,\n")
        rows, _ = table_rows(tmp_path / "t.csv")
        assert rows["visit"].to_pylist() == [2, 3]


def test_a_list_with_a_null_item_and_a_suffix_in_capitals_are_read(tmp_path: Path) -> None:
    table = pa.table({"eid": ["9000001", "9000002"], "p41270": [["I251", None], None]})
    pq.write_table(table, tmp_path / "t.PARQUET")
    assert read_text_table(tmp_path / "t.PARQUET")["p41270"].to_pylist() == ["I251|", None]
