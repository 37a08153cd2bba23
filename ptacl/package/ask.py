"""What `ptacl embed` and `ptacl predict` do."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from ptacl.artifacts import write_table
from ptacl.errors import ConfigError
from ptacl.package.card import rounded
from ptacl.package.gallery import load_gallery
from ptacl.package.model import Answer, Package, load_package

EMBEDDED, VERSION = "embedded_files", 1
# What an ECG's file may be called; of WFDB the header stands for the record.
SUFFIXES = (".xml", ".hea", ".dcm")
# A bar is for those who wait.
MANY = 20
SCHEMA = pa.schema(
    {
        "file": pa.string(), "reason": pa.string(), "flags": pa.list_(pa.string()), "heart_rate_bpm": pa.float32(),
        "ecg_feature": pa.list_(pa.float32()), "ecg_proj": pa.list_(pa.float32()),
    }
)  # fmt: skip


def listed(names: Sequence[str]) -> list[str]:
    """The files, with a folder replaced by the ECG files in it and below, sorted, and `@LIST` by those named in LIST.

    Raises ConfigError where a folder holds none, or a list can't be read.
    """
    found: list[str] = []
    for name in names:
        if name.startswith("@") and os.path.isfile(name[1:]):
            found += listed(_lines(Path(name[1:])))
            continue
        if not os.path.isdir(name):
            found.append(name)
            continue
        inside = sorted(str(p) for p in Path(name).rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise ConfigError(f"{name}: no {', '.join(SUFFIXES)} file in this folder")
        found += inside
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"@{path}: no text of file names, one a line") from None
    return [line.strip() for line in lines if line.strip()]


def embed_files(model: Path, files: Sequence[str], out: Path, device: str) -> int:
    """Writes the table of `ptacl embed`; returns how many files were refused. Raises ArtifactError, ConfigError."""
    if out.suffix != ".parquet":
        raise ConfigError(f"{out.name}: the name of the table ends with .parquet")
    package = load_package(model, device)
    rows = [
        {
            "file": r.file, "reason": r.reason, "flags": list(r.flags), "heart_rate_bpm": r.heart_rate_bpm,
            "ecg_feature": r.feature, "ecg_proj": r.projection,
        }
        for r in package.read(files, progress=_bar(files))
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    about = {k: package.about[k] for k in ("method", "seed", "encoder", "scale_mv", "ecg", "source")}
    write_table(out, table, kind=EMBEDDED, version=VERSION, settings=about)
    return table["reason"].length() - table["reason"].null_count


def predict_files(model: Path, files: Sequence[str], gallery: Path | None, device: str, as_json: bool) -> int:
    """Prints what `ptacl predict` finds, file by file; returns how many were refused. Raises ArtifactError."""
    package = load_package(model, device)
    people = None if gallery is None else load_gallery(gallery)
    refused = 0
    for reading in package.read(files, progress=_bar(files)):
        answer = package.answer(reading, people)
        refused += answer.reason is not None
        print(json.dumps(answer.as_dict()) if as_json else "\n".join([*_as_text(answer, package), ""]))
    return refused


def _bar(files: Sequence[str]) -> bool:
    return len(files) >= MANY and sys.stderr.isatty()


def _as_text(answer: Answer, package: Package) -> Iterator[str]:
    yield answer.file
    if answer.reason is not None:
        yield f"  refused: {answer.reason}" + (f" ({answer.detail})" if answer.detail else "")
        return
    if answer.heart_rate_bpm is not None:
        yield f"  heart rate {answer.heart_rate_bpm:.0f}/min" + "".join(
            f", {f.replace('_', ' ')}" for f in answer.flags
        )
    near = (answer.neighbours or {}).get("phenotypes", {})
    coverage = f"{100 * package.about['coverage']:.0f} % interval"
    nearest = f"{answer.neighbours['k']} nearest: median (quartiles)" if answer.neighbours else ""
    yield f"  {'':<26}{'value':>8}  {coverage:<20}{'seen in training':<20}{nearest}".rstrip()
    for name, x in answer.phenotypes.items():
        title = f"{name} ({x.unit})" if x.unit else name
        # As many digits as the interval has to say.
        spread = x.hi - x.lo if x.lo is not None and x.hi is not None else abs(x.value)
        value, interval, seen = (
            _between(spread, *ends) for ends in ((x.value,), (x.lo, x.hi), (x.range_lo, x.range_hi))
        )
        line = f"  {title:<26}{value:>8}  {interval or 'not calibrated':<20}{seen or 'too few to tell':<20}"
        if n := near.get(name):
            line += f"{_between(spread, n['median'])} ({_between(spread, n['lower_quartile'], n['upper_quartile'])})"
        yield line.rstrip()
    yield from (f"  ! {w}" for w in answer.warnings)


def _between(spread: float, *ends: float | None) -> str:
    """Numbers of one size, joined by "to"; empty where one is missing."""
    known = [e for e in ends if e is not None]
    return " to ".join(rounded(e, spread) for e in known) if len(known) == len(ends) else ""
