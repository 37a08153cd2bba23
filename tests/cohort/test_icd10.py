"""Diagnoses: every spelling of field 41270 gives the same codes, and what is no code stops the study."""

import datetime
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptacl.cohort.icd10 import diagnosis_columns, parse_codes
from ptacl.errors import ConfigError

codes = st.from_regex(r"[A-Z][0-9][0-9A-Z][0-9]?", fullmatch=True)
SPELLINGS = {
    "pipes": "|".join, "spaced pipes": " | ".join, "json": json.dumps, "python": str,
    "bare list": lambda c: f"[{', '.join(c)}]", "dots": lambda c: "|".join(f"{x[:3]}.{x[3:]}" for x in c),
    "meanings": lambda c: json.dumps([f"{x} Someone's illness, unspecified" for x in c]),
    "meanings in Python": lambda c: str([f"{x} Someone's illness, unspecified" for x in c]),
}  # fmt: skip


@given(st.lists(codes, max_size=12), st.sampled_from(sorted(SPELLINGS)))
def test_every_spelling_gives_the_codes_in_their_order(wanted: list[str], spelling: str) -> None:
    assert parse_codes(SPELLINGS[spelling](wanted)) == wanted


@given(st.text(max_size=40))
def test_any_other_text_is_codes_or_an_error_and_never_a_crash(text: str) -> None:
    try:
        found = parse_codes(text)
    except ConfigError:
        return
    assert all(c[0].isalpha() and c[1].isdigit() for c in found if c)


@pytest.mark.parametrize(
    "text",
    ["I251;I10", "I251,I10", "yes", "[1, 2", "{'I251': 1}", "I251|?", '[["I251","I10"]]', '[{"code":"I251"}]', "[1, 2]",
     "['I251' 'I10']", "['I251', 'I10"],
)  # fmt: skip
def test_a_spelling_that_is_not_understood_makes_nobody_healthy(text: str) -> None:
    with pytest.raises(ConfigError, match="41270"):
        parse_codes(text)


@pytest.mark.parametrize(
    "text", ["E11||I251", "['E11', nan, 'I251']", '["E11", null, "I251"]', "[E11, , I251]", "E11|NA|I251"]
)
def test_an_empty_item_keeps_its_place(text: str) -> None:
    assert parse_codes(text) == ["E11", "", "I251"]


WANTED = {"cad": ["I20", "I25"], "af": ["I48"]}
KNOWN = np.array([True, True, True, False])
DATES = {0: ["2001-02-03", "2010-01-01", None, None], 1: ["1999-12-31", None, None, None]}


@pytest.mark.parametrize(
    "cells",
    [
        {0: ["I251|I200", "E11", None, None]}, {0: ['["I251","I200"]', "['E11']", "[]", None]},
        {0: ["I251", "E11", None, None], 1: ["I200", None, None, None]},
    ],
)  # fmt: skip
def test_a_diagnosis_is_one_zero_or_unknown_with_its_earliest_date(cells: dict[int, list]) -> None:
    columns = {k: pa.array(v, pa.string()) for k, v in cells.items()}
    found = diagnosis_columns(columns, {k: pa.array(v, pa.string()) for k, v in DATES.items()}, WANTED, KNOWN)
    assert found["cad"].to_pylist() == [1, 0, 0, None]
    assert found["af"].to_pylist() == [0, 0, 0, None]
    assert found["cad_date"].to_pylist() == [datetime.date(1999, 12, 31), None, None, None]
    assert set(diagnosis_columns(columns, {}, WANTED, KNOWN)) == {"cad", "af"}


def test_prefixes_may_carry_a_dot() -> None:
    found = diagnosis_columns({0: pa.array(["I251", "I252"])}, {}, {"x": ["I25.1"]}, np.array([True, True]))
    assert found["x"].to_pylist() == [1, 0]


@pytest.mark.parametrize(
    "dates",
    [{0: ["2001-01-01"], 1: ["2002-01-01"], 2: ["2003-01-01T00:00:00"]}, {0: ["2001-01-01|2002-01-01|2003-01-01"]},
     {0: ['["2001-01-01", null, "2003-01-01"]']}, {0: ["2001-01-01"], 1: ["2002-01-01|2003-01-01"]}],
)  # fmt: skip
def test_a_date_belongs_to_the_code_of_its_number_in_every_spelling(dates: dict[int, list]) -> None:
    columns = {k: pa.array(v, pa.string()) for k, v in dates.items()}
    found = diagnosis_columns({0: pa.array(["E11||I251"])}, columns, WANTED, np.array([True]))
    assert found["cad_date"].to_pylist() == [datetime.date(2003, 1, 1)]


@pytest.mark.parametrize("date", ["01/02/2003", "01feb2003", "2003-2-1", "20030201x"])
def test_a_date_that_is_not_understood_stops_the_study(date: str) -> None:
    with pytest.raises(ConfigError, match="41280"):
        diagnosis_columns({0: pa.array(["I251"])}, {0: pa.array([date])}, WANTED, np.array([True]))
