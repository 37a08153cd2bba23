"""Reading one ECG and one cine, beside the floor of what has to be done anyway.

python benchmarks/readers.py [--json FILE]

ECG: CardioSoft XML to a cleaned strip, against parsing the XML alone. Cine: a six-slice zip to a stack, against inflating
its members; and against pydicom on every member. CPU time of one process, median of several runs, on files made here.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from lxml import etree

from ptacl.cmr import read_cine
from ptacl.ecg import read_ecg
from ptacl.ecg.clean import clean_ecg
from ptacl.synthetic.cardiosoft import write_xml
from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import simulate_trace

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}


def core_ms(work: Callable[[], object], runs: int = 9) -> float:
    """Median CPU time of `work` in ms, after one run to warm up."""
    times = []
    for _ in range(runs + 1):
        start = time.process_time()
        work()
        times.append((time.process_time() - start) * 1000)
    return statistics.median(times[1:])


def inflate(path: Path) -> list[bytes]:
    """Every member of a zip."""
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def pydicom_all(path: Path) -> list[np.ndarray]:
    """Every image by pydicom alone."""
    return [pydicom.dcmread(io.BytesIO(d)).pixel_array for d in inflate(path) if d[128:132] == b"DICM"]


def measure(folder: Path) -> list[dict[str, object]]:
    """Rows of name, value, unit, peer, target, met."""
    subject, rng = draw_subject(2026, 0), np.random.default_rng(0)
    xml = folder / "ecg.xml"
    xml.write_bytes(write_xml("9000001", subject, simulate_trace(subject, rng), rng))
    write_heart_files(
        subject, eid="9000001", instance=2, rng=rng, size="small", folder=folder, faults=frozenset(), long_axis=False
    )
    cine = folder / "9000001_20209_2_0.zip"
    ecg = core_ms(lambda: clean_ecg(read_ecg(xml), SETTINGS, "ukb"))
    parse = core_ms(lambda: etree.fromstring(xml.read_bytes()))
    stack, floor, peer = (core_ms(lambda f=f: f(cine)) for f in (lambda p: read_cine(p, "ukb"), inflate, pydicom_all))

    def row(name: str, value: float, unit: str, against: str, target: float | None) -> dict[str, object]:
        met = None if target is None else value <= target
        return {"name": name, "value": round(value, 2), "unit": unit, "peer": against, "target": target, "met": met}

    return [
        row("ECG XML to cleaned strip", ecg, "core-ms", f"parsing the XML alone {parse:.1f} core-ms", None),
        row("cine zip to stack", stack, "core-ms", f"inflating alone {floor:.1f} core-ms", None),
        row("cine zip to stack / inflating", stack / floor, "ratio", "zipfile, all members", 2.5),
        row("cine zip to stack / pydicom", stack / peer, "ratio", f"pydicom on all members {peer:.0f} core-ms", 0.5),
    ]


def main() -> None:
    """Prints the table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder))
    for r in rows:
        print(f"{r['name']:<32} {r['value']:>8} {r['unit']:<8} {r['peer']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
