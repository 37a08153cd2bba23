"""The tables of the synthetic cohort: phenotypes in the ukbconv dialect, timings, withdrawals, expectations, truth."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from ptacl.artifacts import write_bytes, write_table
from ptacl.synthetic.ceiling import VISIBLE, expected_phenotypes, measured
from ptacl.synthetic.latents import Subject

EXPECTED, TRUTH, VERSION = "reference_predictions", "synthetic_truth", 1
FIELDS = {
    "LVEDV": 24100, "LVESV": 24101, "LVSV": 24102, "LVEF": 24103, "LVCO": 24104, "LVM": 24105,
    "RVEDV": 24106, "RVESV": 24107, "RVSV": 24108, "RVEF": 24109,
}  # fmt: skip
TIMINGS = (
    "es_ms", "atrial_fraction", "septal_lateral_ms", "atrial_kick_phase", "mitral_opening_ms", "peak_filling_rate",
)  # fmt: skip
_ICD10 = {"DCM": "I420", "HCM": "I421", "MI": "I219"}
MISSING_SHARE = 0.03


@dataclass
class Visit:
    """One person's visit and what was written for it. `phenotypes` and `timings` are empty without a cine."""

    eid: str
    index: int
    visit: int
    subject: Subject
    fault: str | None
    has_ecg: bool
    has_cine: bool
    r_ms: list[float] = field(default_factory=list)
    phenotypes: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    centre_mm: tuple[float, ...] = ()
    es_frame: int | None = None


def write_phenotypes(path: Path, seed: int, visits: Sequence[Visit]) -> None:
    """The wide csv: one row per person, one column per field, instance and array."""
    columns: list[str] = ["eid", "31-0.0", "50-0.0"]
    for i in (2, 3):
        columns += [f"{f}-{i}.0" for f in (21003, 12144, 21002, 21001, 4080, 4079)] + [f"4080-{i}.1", f"4079-{i}.1"]
        columns += [f"{f}-{i}.0" for f in FIELDS.values()]
    columns += ["41270-0.0", "41270-0.1"]
    people: dict[str, dict[str, str]] = {}
    for v in visits:
        people.setdefault(v.eid, {"eid": v.eid}).update(_person_columns(v, seed))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writeheader()
    writer.writerows(people[eid] for eid in sorted(people))
    write_bytes(path, text.getvalue().encode())


def _person_columns(v: Visit, seed: int) -> dict[str, str]:
    rng = np.random.default_rng([seed, v.index, 5, v.visit])
    s, i = v.subject, v.visit
    columns = {
        "31-0.0": "1" if s.sex == "M" else "0", "50-0.0": f"{s.height_cm:.1f}",
        f"21003-{i}.0": f"{s.age_years:.0f}", f"12144-{i}.0": f"{s.height_cm:.1f}",
        f"21002-{i}.0": f"{s.weight_kg:.1f}", f"21001-{i}.0": f"{s.bmi:.2f}",
    }  # fmt: skip
    for array in (0, 1):
        columns[f"4080-{i}.{array}"] = f"{s.systolic_bp + rng.normal(0, 3):.0f}"
        columns[f"4079-{i}.{array}"] = f"{0.45 * s.systolic_bp + 20 + rng.normal(0, 4):.0f}"
    for name, number in FIELDS.items():
        if name in v.phenotypes and rng.random() >= MISSING_SHARE:
            columns[f"{number}-{i}.0"] = f"{v.phenotypes[name]:.4f}"
    codes = [c for c in (_ICD10.get(s.disease), "I480" if s.rhythm == "AF" else None) if c]
    return columns | {f"41270-0.{k}": code for k, code in enumerate(codes)}


def write_timings(path: Path, visits: Sequence[Visit]) -> None:
    """timings.csv: eid, instance and the six timings of the rendered heart."""
    lines = [",".join(("eid", "instance", *TIMINGS))]
    for v in visits:
        if v.timings:
            values = ["" if np.isnan(v.timings[t]) else f"{v.timings[t]:.5f}" for t in TIMINGS]
            lines.append(",".join((v.eid, str(v.visit), *values)))
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def write_withdrawals(folder: Path, visits: Sequence[Visit]) -> None:
    """Two lists as they are sent: one plain, one with byte-order mark, quotes and CRLF; one person is on both."""
    gone = sorted({v.eid for v in visits if v.fault == "withdrawn"})
    write_bytes(folder / "w00001_20240101.csv", "".join(f"{e}\n" for e in gone[: (len(gone) + 1) // 2]).encode())
    second = "".join(f'"{e}"\r\n' for e in gone[len(gone) // 2 :])
    write_bytes(folder / "w00001_20250101.csv", b"\xef\xbb\xbf" + second.encode())


def write_expected(path: Path, seed: int, visits: Sequence[Visit]) -> None:
    """Posterior means of every phenotype and timing: clean, meas, meas_covariates. No row where a rhythm has none."""
    subjects = [v.subject for v in visits]
    exact = [{n: s[n] for n in VISIBLE} for s in subjects]
    noisy = [measured(v.subject, np.random.default_rng([seed, v.index, 6, v.visit])) for v in visits]
    tables = []
    for reference, seen, is_noisy, covariates in (
        ("clean", exact, False, False), ("meas", noisy, True, False), ("meas_covariates", noisy, True, True),
    ):  # fmt: skip
        for name, values in sorted(expected_phenotypes(subjects, seen, is_noisy, covariates).items()):
            found = [(v, x) for v, x in zip(visits, values, strict=True) if not np.isnan(x)]
            tables.append(
                pa.table(
                    {
                        "subject_id": pa.array([v.eid for v, _ in found], pa.string()),
                        "visit": pa.array([v.visit for v, _ in found], pa.int8()),
                        "phenotype": pa.array([name] * len(found), pa.string()),
                        "reference": pa.array([reference] * len(found), pa.string()),
                        "value": pa.array([x for _, x in found], pa.float64()),
                    }
                )
            )
    write_table(path, pa.concat_tables(tables), kind=EXPECTED, version=VERSION, settings={"seed": seed})


def write_truth(path: Path, settings: dict, visits: Sequence[Visit]) -> None:
    """truth.parquet, for tests only: latents, classes, planted fault, R times, LV centre, ES frame."""
    rows = [
        {
            "subject_id": v.eid, "visit": v.visit, "sex": v.subject.sex, "disease": v.subject.disease,
            "rhythm": v.subject.rhythm, "faults": [v.fault] if v.fault else [], "has_ecg": v.has_ecg,
            "has_cine": v.has_cine, "r_ms": v.r_ms, "centre_mm": list(v.centre_mm), "es_frame": v.es_frame,
            **{f"latent_{k}": x for k, x in v.subject.latents.items()},
            **{k: v.phenotypes.get(k) for k in FIELDS}, **{k: v.timings.get(k) for k in TIMINGS},
        }
        for v in visits
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows)
    visit = table.schema.get_field_index("visit")
    table = table.set_column(visit, "visit", table["visit"].cast(pa.int8()))
    faults = table.schema.get_field_index("faults")
    table = table.set_column(faults, "faults", table["faults"].cast(pa.list_(pa.string())))
    write_table(path, table, kind=TRUTH, version=VERSION, settings=settings)
