"""A few ECGs beside their cines, without names; they make the report private."""

from pathlib import Path
from typing import Any

from ptacl.report import recordings
from ptacl.report.load import Row, Study


def build_examples(study: Study, results: Path, count: int) -> list[dict[str, Any]]:
    """The first pairs of the test split in the order of their shard: ECG paper, cine, what is known."""
    rows = [p for p in study.pairs if p["split"] == "test"]
    rows = sorted(rows, key=lambda r: (r["shard"], r["ecg_row"]))[:count]
    return [_example(chr(ord("A") + i), r, results, study) for i, r in enumerate(rows)]


def _example(name: str, pair: Row, results: Path, study: Study) -> dict[str, Any]:
    subject = next(s for s in study.subjects if (s["subject_id"], s["visit"]) == (pair["subject_id"], pair["visit"]))
    return {
        "name": name,
        "strip": recordings.strip(results, pair),
        "sprite": recordings.cine(results, pair),
        "facts": _facts(pair, subject),
    }


def _facts(pair: Row, subject: Row) -> list[tuple[str, str]]:
    facts: list[tuple[str, Any, str]] = [
        ("heart rate at the ECG", pair["heart_rate_bpm"], "/min"), ("RR at the MRI", pair["rr_ms"], "ms"),
        *((name, subject.get(name), unit) for name, unit in (("LVEDV", "ml"), ("LVEF", "%"), ("LVM", "g"))),
    ]  # fmt: skip
    return [(k, f"{v:.0f} {u}") for k, v, u in facts if v is not None]
