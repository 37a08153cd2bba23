"""Nothing that looks like a participant id reaches a log."""

import logging
import sys
from pathlib import Path

import pytest

from ptacl.errors import ConfigError
from ptacl.logs import mask_ids, stage_log


def test_numbers_of_seven_digits_are_masked_and_others_are_not() -> None:
    assert mask_ids("9000001_20205_2_0.xml of 123456 and 12345678") == "<id>_20205_2_0.xml of 123456 and 12345678"


def test_prints_warnings_and_tracebacks_go_to_the_log_masked(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop, stage_log(tmp_path / "x.log"):
        print("read 90000", end="")
        print("01 by halves")
        print("75 %\r80 %\r", file=sys.stderr)
        logging.getLogger("ptacl").warning("subject %s", 9_000_002)
        subject = "9000003"
        raise KeyError(subject)
    text = (tmp_path / "x.log").read_text()
    assert stop.value.code == 1
    assert "KeyError" in text and "Traceback" in text and "80 %" in text
    assert text.count("<id>") == 3 and "900000" not in text


def test_an_error_of_ours_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(SystemExit), stage_log(tmp_path / "x.log"):
        raise ConfigError("cohort.root: not there")
    assert (tmp_path / "x.log").read_text() == "ERROR cohort.root: not there\n"


def test_a_name_that_is_not_utf8_reaches_the_log_and_no_other_place(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit), stage_log(tmp_path / "x.log"):
        raise KeyError("9000001 caf\udce9")
    assert "<id> caf" in (tmp_path / "x.log").read_text()
    assert capsys.readouterr() == ("", "")
