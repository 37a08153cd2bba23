"""The command line: what it prints, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ptacl.cli import main

CINE_KEYS = {
    "kind", "format", "n_slices", "n_frames", "rows", "columns", "spacing_mm", "slice_step_mm", "rr_ms", "frame_order",
    "flags", "usable", "reason",
}  # fmt: skip
ECG_KEYS = {
    "kind", "format", "leads", "rate_hz", "n_samples", "heart_rate_bpm", "n_beats", "r_peaks", "flags", "usable", "reason",
}  # fmt: skip


def inspected(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, dict]:
    code = main(["inspect", str(path), "--json"])
    return code, json.loads(capsys.readouterr().out or "{}")


def test_an_ecg_is_described_with_the_agreed_keys(shared_data, capsys) -> None:
    for name in ("ecgprocess-cardiosoft/example-XML1.xml", "challenge2021-wfdb/E07506.hea"):
        code, found = inspected(capsys, shared_data(name.split("/")[0]) / name.split("/")[1])
        assert code == 0 and found.keys() == ECG_KEYS and found["kind"] == "ecg" and len(found["leads"]) == 12


def test_a_cine_is_described_with_the_agreed_keys(shared_data, capsys) -> None:
    folder = shared_data("sunnybrook-scd")
    for path in (folder / "SCD0000301_sax.zip", folder / "nifti_derived" / "SCD0000301_sax_4d.nii.gz"):
        code, found = inspected(capsys, path)
        assert code == 0 and found.keys() == CINE_KEYS and found["kind"] == "cine"
        assert [len(order) for order in found["frame_order"]] == [20] * 10


def test_a_file_that_is_read_but_not_usable_exits_with_3(shared_data, capsys) -> None:
    code, found = inspected(capsys, shared_data("biv-me-siemens") / "patient1_lax.zip")
    assert code == 3 and not found["usable"] and found["reason"].startswith("too_few_slices")


@pytest.mark.parametrize(
    "name", ["nothing.xml", "empty.xml", "noise.zip", "noise.bin", "noise.nii.gz", "noise.hea", "folder"]
)
def test_an_unreadable_file_exits_with_2_and_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name != "nothing.xml":
        path.write_bytes(b"" if name == "empty.xml" else bytes(range(256)))
    done = subprocess.run(
        [sys.executable, "-m", "ptacl", "inspect", str(path)], capture_output=True, text=True,
        cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1 and done.stderr.startswith("ptacl inspect: ")


def test_the_plain_text_is_for_people(shared_data, capsys) -> None:
    assert main(["inspect", str(shared_data("challenge2021-wfdb") / "E07506.hea")]) == 0
    text = capsys.readouterr().out
    assert "heart_rate_bpm  67.7" in text and "usable          yes" in text


@pytest.mark.parametrize(
    "command",
    ["", "inspect", "check", "plan", "verify-withdrawals", "export-encoder", "publish", "embed", "predict"],
)
def test_every_command_explains_itself(command: str, capsys) -> None:
    with pytest.raises(SystemExit) as done:
        main([*command.split(), "--help"])
    assert done.value.code == 0
    assert "usage: ptacl" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As `ptacl ... | head` ends."""
    plan = [sys.executable, "-m", "ptacl", "plan", "--visits", "1000"]
    process = subprocess.Popen(plan, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 141
