"""Readers beside their peers and their floors, all in one run: CPU time of one process, median of several runs.

python benchmarks/readers.py [--json FILE]

ECG: the baseline against asymmetric least squares by a general sparse solver, as published; a CardioSoft file to its
cleaned strip. Cine: a realistic zip of 550 files, to the whole stack and to three slices, against inflating its members by
`zipfile` and against pydicom on every member; peak memory; and both stages' shards in one and in two processes.
"""

import argparse
import concurrent.futures
import io
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from realistic import realistic_zip
from scipy import sparse
from scipy.sparse.linalg import spsolve

from ptacl.cmr import read_cine
from ptacl.cmr.readers.dicom import read_frames
from ptacl.cmr.tensor import choose_slices
from ptacl.ecg import read_ecg
from ptacl.ecg.baseline import ASYMMETRY, ITERATIONS, baseline
from ptacl.ecg.clean import clean_ecg
from ptacl.synthetic.cardiosoft import write_xml
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import simulate_trace

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}
PUBLISHED_SMOOTHING = 1e7
MIB = 2**20

Row = dict[str, object]


def core_ms(work: Callable[[], object], runs: int = 7) -> float:
    """Median CPU time of `work` in ms, after one run to warm up."""
    times = []
    for _ in range(runs + 1):
        start = time.process_time()
        work()
        times.append((time.process_time() - start) * 1000)
    return statistics.median(times[1:])


def row(name: str, value: float, unit: str, peer: str, target: float | None = None, least: bool = False) -> Row:
    """One line of the table; `target` is an upper bound, or the `least` value wanted."""
    met = None if target is None else bool(value >= target if least else value <= target)
    return {"name": name, "value": round(value, 3), "unit": unit, "peer": peer, "target": target, "met": met}


def general_sparse_baseline(signal: np.ndarray, smoothing: float) -> np.ndarray:
    """Asymmetric least squares as the predecessor publishes it: one general sparse LU per lead and re-weighting."""
    n = signal.shape[1]
    d = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(n - 2, n))
    penalty = smoothing * d.T @ d
    result = np.empty_like(signal)
    for k, y in enumerate(signal):
        weight = np.ones(n)
        for _ in range(ITERATIONS):
            result[k] = spsolve((sparse.diags(weight) + penalty).tocsc(), weight * y)
            weight = np.where(y > result[k], ASYMMETRY, 1 - ASYMMETRY)
    return result


def ecg_rows(folder: Path) -> list[Row]:
    """The baseline and the whole way from file to strip."""
    rng = np.random.default_rng(0)
    subject = draw_subject(2026, 0)
    xml = folder / "ecg.xml"
    xml.write_bytes(write_xml("9000001", subject, simulate_trace(subject, rng), rng))
    strip = read_ecg(xml).signal.astype(np.float64)
    ours, theirs = baseline(strip, PUBLISHED_SMOOTHING), general_sparse_baseline(strip, PUBLISHED_SMOOTHING)
    fast = core_ms(lambda: baseline(strip, PUBLISHED_SMOOTHING))
    slow = core_ms(lambda: general_sparse_baseline(strip, PUBLISHED_SMOOTHING), runs=3)
    whole = core_ms(lambda: clean_ecg(read_ecg(xml), SETTINGS, "ukb"), runs=25)
    return [
        row("ECG baseline, speed-up", slow / fast, "ratio", f"general sparse solve {slow:.0f} core-ms", 50, least=True),
        row("ECG baseline, largest difference", np.abs(ours - theirs).max() * 1000, "µV", "general sparse solve", 1e-3),
        row("ECG file to cleaned strip", whole, "core-ms", f"baseline {fast:.1f} core-ms of it", 8),
    ]


def inflate(path: Path) -> list[bytes]:
    """Every member of a zip, by the standard library."""
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def pydicom_stack(path: Path) -> dict[tuple[str, int], np.ndarray]:
    """Every image by pydicom alone, by series and instance."""
    images = {}
    for data in inflate(path):
        if data[128:132] == b"DICM":
            dataset = pydicom.dcmread(io.BytesIO(data))
            images[dataset.SeriesInstanceUID, int(dataset.InstanceNumber)] = dataset.pixel_array
    return images


def three_slices(path: Path) -> object:
    """The three slices of the default study, without a manifest."""
    cine = read_cine(path, "ukb")
    return cine.decoded(choose_slices(cine.positions_mm, 3))


def cine_rows(path: Path) -> list[Row]:
    """Whole stack and three slices against floor and peer; the same pixels as pydicom's."""
    floor, peer = core_ms(lambda: inflate(path)), core_ms(lambda: pydicom_stack(path), runs=3)
    stack, three = core_ms(lambda: read_cine(path, "ukb").decoded()), core_ms(lambda: three_slices(path))
    heads = core_ms(lambda: read_frames(path))
    images = pydicom_stack(path)
    frames, _ = read_frames(path)
    different = sum(not np.array_equal(f.load(), images[f.series, f.instance]) for f in frames)
    zip_mib, array_mib = path.stat().st_size / MIB, sum(i.nbytes for i in images.values()) / MIB
    imports, peak = (_peak_mib(path, read) for read in (False, True))
    return [
        row("cine: whole stack / inflating", stack / floor, "ratio", f"zipfile {floor:.0f} core-ms", 1.5),
        row("cine: whole stack, speed-up", peer / stack, "ratio", f"pydicom on every file {peer:.0f} core-ms", 3, least=True),
        row("cine: three slices, speed-up", peer / three, "ratio", f"pydicom on every file {peer:.0f} core-ms", 8, least=True),
        row("cine: three slices", three, "core-ms", f"heads of all files {heads:.0f} core-ms of it"),
        row("cine: images unlike pydicom's", different, "of 550", "pydicom", 0),
        row(
            "cine: peak memory", peak, "MiB",
            f"imports {imports:.0f} + zip {zip_mib:.0f} + twice the array {array_mib:.0f}",
            imports + zip_mib + 2 * array_mib,
        ),
    ]  # fmt: skip


def _peak_mib(path: Path, read: bool) -> float:
    """Peak resident memory of a fresh process that imports the reader, and reads the whole stack where asked."""
    # Not ru_maxrss: a child process begins with its parent's.
    code = (
        "from pathlib import Path; from ptacl.cmr import read_cine\n"
        + (f"read_cine(Path({str(path)!r}), 'ukb').decoded()\n" if read else "")
        + "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def _ecg_work(paths: list[Path]) -> float:
    start = time.process_time()
    for path in paths:
        clean_ecg(read_ecg(path), SETTINGS, "ukb")
    return time.process_time() - start


def _cine_work(paths: list[Path]) -> float:
    start = time.process_time()
    for path in paths:
        three_slices(path)
    return time.process_time() - start


def scaling_rows(xml: Path, cine: Path) -> list[Row]:
    """CPU time for twice the subjects, and wall time in two processes over that in one."""
    rows = []
    for name, work, path, n in (("ECG", _ecg_work, xml, 200), ("cine", _cine_work, cine, 30)):
        work([path] * 3)
        once, twice = work([path] * n), work([path] * 2 * n)
        rows.append(row(f"{name}: CPU time of twice the subjects", twice / once, "ratio", "linear is 2", 2.2))
        walls = []
        for processes in (1, 2):
            with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
                list(pool.map(work, [[path]] * processes))
                start = time.perf_counter()
                list(pool.map(work, [[path] * (2 * n // processes)] * processes))
                walls.append(time.perf_counter() - start)
        rows.append(
            row(f"{name}: speed-up by a second process", walls[0] / walls[1], "ratio", "ideal is 2", 1.6, least=True)
        )
    return rows


def main() -> None:
    """Prints the table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cine = realistic_zip(folder)
        rows = [*ecg_rows(folder), *cine_rows(cine), *scaling_rows(folder / "ecg.xml", cine)]
    for r in rows:
        verdict = "" if r["met"] is None else ("met" if r["met"] else "MISSED")
        target = "" if r["target"] is None else f"{r['target']:.4g}"
        print(f"{r['name']:<38} {r['value']:>9} {r['unit']:<8} target {target:<7} {verdict:<7} {r['peer']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
