"""The cohort at scale: a table of many subjects to shards and to pairs, folders of many files, the search for withdrawn ids.

python benchmarks/cohort.py [--json FILE] [--subjects N] [--files N]

Each measurement is a process of its own on inputs made here: its CPU time and peak memory. The peer of the table is
pyarrow reading it once as text, that of the folders is `os.walk` with one `os.stat` per file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from ptacl.artifacts import write_table
from ptacl.cmr.stage import SCHEMA as CMR
from ptacl.cmr.stage import TABLE as CMR_TABLE
from ptacl.cmr.stage import TABLE_VERSION as CMR_VERSION
from ptacl.ecg.stage import SCHEMA as ECG
from ptacl.ecg.stage import TABLE as ECG_TABLE
from ptacl.ecg.stage import TABLE_VERSION as ECG_VERSION

PHENOTYPES = ("LVEDV", "LVESV", "LVSV", "LVEF", "LVM", "RVEDV", "RVESV", "RVSV", "RVEF", "age")
MEANS = (145, 60, 85, 60, 90, 150, 65, 85, 57, 62)
FIRST_ID = 9_000_001
SETTINGS = {
    "source": "table", "table": None, "extra_tables": [], "withdrawals": "none", "hash_key": "ptacl", "folders": [],
    "fingerprint": "size_mtime", "icd10": {},
}  # fmt: skip

Row = dict[str, object]
BUILD = (
    "import json, pathlib, sys; from ptacl.cohort.stage import build_cohort;"
    "build_cohort(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]))"
)
PAIRS = (
    "import pathlib, sys; from ptacl.store.pairs import build_pairs; p = pathlib.Path(sys.argv[1]);"
    "ecg, cmr = (sorted((p / kind).glob('*.parquet')) for kind in ('ecg', 'cmr'));"
    "build_pairs(p / 'cohort', ecg, cmr, {}, p / 'pairs')"
)
READ = "import pathlib, sys; from ptacl.cohort.text import read_text_table; read_text_table(pathlib.Path(sys.argv[1]))"
WALK = "import os, sys; [os.stat(os.path.join(d, n)) for d, _, names in os.walk(sys.argv[1]) for n in names]"
VERIFY = (
    "import pathlib, sys; from ptacl.cohort.verify import verify_withdrawals;"
    "ids = {str(9_000_001 + i) for i in range(0, 100_000, 1000)} | {'8999999'};"
    "found = verify_withdrawals(pathlib.Path(sys.argv[1]), ids);"
    "assert dict(found)['subjects.parquet'] == 100"
)


def measure(program: str, *arguments: str) -> tuple[float, float]:
    """CPU seconds and peak memory in GiB of a Python process. Raises CalledProcessError when it fails."""
    # The kernel's high-water mark of the process itself: getrusage would count the memory of this one too, from which
    # the process was forked.
    report = ";print(*(l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", program + report, *arguments], stdout=subprocess.PIPE, check=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, int(done.stdout.split()[-1]) / 2**20


def table(folder: Path, subjects: int) -> list[Row]:
    """A table with two paths (of files that are not there) and ten phenotypes per subject, to subjects and manifests."""
    rng = np.random.default_rng(0)
    ids = [str(FIRST_ID + i) for i in range(subjects)]
    columns = {
        "subject_id": ids, "ecg_path": [f"ecg/{i}.xml" for i in ids], "cmr_path": [f"cmr/{i}.zip" for i in ids],
        **{p: np.round(rng.normal(m, 0.1 * m, subjects), 2) for p, m in zip(PHENOTYPES, MEANS, strict=True)},
    }  # fmt: skip
    path = folder / "cohort.csv"
    pyarrow.csv.write_csv(pa.table(columns), path)
    settings = SETTINGS | {"table": str(path), "root": str(folder), "shards": min(9999, max(1, subjects // 256))}
    out = folder / "cohort"
    cpu, memory = measure(BUILD, json.dumps(settings), str(out))
    floor, _ = measure(READ, str(path))
    search, search_memory = measure(VERIFY, str(out))
    what = f"table of {subjects:,} subjects"
    return [
        row(f"{what}: CPU", cpu, "s", f"reading the table as text alone {floor:.1f} s", 120),
        row(f"{what}: peak memory", memory, "GiB", "", 8),
        row(f"{what}: search for 101 withdrawn ids, CPU", search, "s", "", 60),
        row(f"{what}: search, peak memory", search_memory, "GiB", "", 2),
    ]


def pairs(folder: Path, subjects: int) -> list[Row]:
    """The cohort that `table` left in `folder`, with shards of which every tenth ECG and every ninth cine is unusable."""
    for path in sorted((folder / "cohort").glob("[0-9]*.parquet")):
        who = pyarrow.parquet.read_table(path, columns=["subject_id", "visit"])
        for kind, columns, table, version, every in (
            ("ecg", ECG, ECG_TABLE, ECG_VERSION, 10), ("cmr", CMR, CMR_TABLE, CMR_VERSION, 9)
        ):  # fmt: skip
            bad = np.arange(who.num_rows) % every == 0
            values = {
                "subject_id": who["subject_id"], "visit": who["visit"], "status": np.where(bad, "excluded", "ok"),
                "reason": pa.array(np.full(who.num_rows, "truncated"), mask=~bad),
                "tensor_row": pa.array(np.cumsum(~bad) - 1, pa.int32(), mask=bad), "phase_ok": ~bad,
                "r_peaks": [[100.0 + 500 * k for k in range(10)]] * who.num_rows,
                "lead_mask": [[True] * 12] * who.num_rows,
            }  # fmt: skip
            rows = pa.table({f.name: values.get(f.name, pa.nulls(who.num_rows, f.type)) for f in columns}, columns)
            write_table(
                folder / kind / path.name, rows, kind=table, version=version, settings={}, extra={"ptacl.tensors": "0"}
            )
    cpu, memory = measure(PAIRS, str(folder))
    what = f"pairs of {subjects:,} subjects"
    return [row(f"{what}: CPU", cpu, "s", "", 120), row(f"{what}: peak memory", memory, "GiB", "", 8)]


def wide(folder: Path, people: int, fields: int) -> list[Row]:
    """A wide table of which thirty columns are known, beside ECGs that name the people."""
    rng = np.random.default_rng(0)
    root, ids = folder / "raw", [str(FIRST_ID + i) for i in range(people)]
    root.mkdir()
    for eid in ids:
        (root / f"{eid}_20205_2_0.xml").write_text(eid)
    known = [f"{f}-2.0" for f in (*range(24100, 24124), 24140, 24157, 24174, 24181, 21003, 21002)]
    values = np.char.mod("%.2f", rng.normal(60, 5, (64, people)))
    columns = {f"{30_000 + i}-2.0": values[i % 64] for i in range(fields)}
    columns = {"eid": ids, **columns, **{name: values[i] for i, name in enumerate(known)}}
    path = folder / "main.csv"
    pyarrow.csv.write_csv(pa.table(columns), path)
    settings = SETTINGS | {"source": "ukb", "table": str(path), "root": str(root), "shards": 110}
    cpu, memory = measure(BUILD, json.dumps(settings), str(folder / "cohort"))
    every, every_memory = measure(READ, str(path))
    what = f"{people:,} people in a table of {fields:,} columns, {path.stat().st_size / 1e9:.1f} GB"
    return [
        row(f"{what}: CPU", cpu, "s", f"reading every column as text {every:.1f} s", 120),
        row(f"{what}: peak memory", memory, "GiB", f"every column {every_memory:.1f} GiB", 8),
    ]


def folders(folder: Path, files: int, content: Callable[[str], bytes], what: str, target: float) -> list[Row]:
    """Folders of two files per subject, by the first two digits of the id, to subjects and manifests."""
    root = folder / "raw"
    for i in range(files // 2):
        eid = str(FIRST_ID + i)
        nest = root / f"{i % 97:02d}"
        if i < 97:
            nest.mkdir(parents=True)
        (nest / f"{eid}_20205_2_0.xml").write_bytes(content(eid))
        (nest / f"{eid}_20209_2_0.zip").write_bytes(content(eid) + b"cine")
    settings = SETTINGS | {"source": "ukb", "root": str(root), "shards": 110}
    cpu, memory = measure(BUILD, json.dumps(settings), str(folder / "cohort"))
    floor, _ = measure(WALK, str(root))
    name = f"{files:,} files {what}"
    return [
        row(f"{name}: CPU", cpu, "s", f"os.walk and os.stat alone {floor:.1f} s", target),
        row(f"{name}: peak memory", memory, "GiB", "", 8),
    ]


def row(name: str, value: float, unit: str, peer: str, target: float) -> Row:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "peer": peer,
        "target": target,
        "met": value <= target,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--subjects", type=int, default=10**6)
    parser.add_argument("--files", type=int, default=300_000)
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        rows += table(Path(name), arguments.subjects)
        rows += pairs(Path(name), arguments.subjects)
    with tempfile.TemporaryDirectory() as name:
        rows += folders(
            Path(name), arguments.files, lambda eid: b"x" * (int(eid) % 4096) + eid.encode(), "in 97 folders", 60
        )
    with tempfile.TemporaryDirectory() as name:
        rows += wide(Path(name), max(1, arguments.subjects // 20), 3000)
    with tempfile.TemporaryDirectory() as name:
        # The worst case of the search for shared files: every file has the size of every other.
        rows += folders(Path(name), arguments.files // 3, lambda eid: eid.encode() * 2000, "of one size, 14 kB", 120)
    for r in rows:
        print(f"{r['name']}: {r['value']} {r['unit']} (target {r['target']}, met: {r['met']}; {r['peer']})")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
