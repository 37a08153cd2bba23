"""Who is scored: rows of a study with their targets, covariates, and the groups they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table
from ptacl.errors import ArtifactError

_SUBJECTS, _SUBJECTS_VERSION = "cohort_subjects", 2
_ECG_TABLE, _ECG_VERSION = "ecg_table", 2
# Years; the imaging visits of UK Biobank are those of people between 44 and 85.
AGE_BANDS = (("age_under_60", 0, 60), ("age_60_to_69", 60, 70), ("age_from_70", 70, 200))
EVERYBODY = "all"


@dataclass(frozen=True)
class Targets:
    """What is predicted: names, and values float64 [rows, names], NaN where unknown. missing: asked for, known of nobody."""

    names: list[str]
    values: np.ndarray
    missing: list[str]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[:, self.names.index(name)]


class Rows:
    """The (subject, visit) rows of a study, in the order of `keys`."""

    def __init__(
        self, keys: Sequence[tuple[str, int]], split: Sequence[str], subjects: Path, ecg_tables: Sequence[Path]
    ) -> None:
        self.keys, self.split = list(keys), np.asarray(split, dtype=str)
        self.subjects = [s for s, _ in self.keys]
        self._cohort = read_table(subjects, kind=_SUBJECTS, version=_SUBJECTS_VERSION)
        self._place = places(self.keys, self._cohort, "the cohort's subjects.parquet")
        columns = ["subject_id", "visit", "flags", "heart_rate_bpm", "noise_ratio"]
        self._ecg = pa.concat_tables(
            [read_table(p, kind=_ECG_TABLE, version=_ECG_VERSION, columns=columns) for p in ecg_tables]
        )
        self._ecg_place = places(self.keys, self._ecg, "the ECG shards")

    def __len__(self) -> int:
        return len(self.keys)

    def of_split(self, name: str) -> np.ndarray:
        """Numbers of the rows of a split."""
        return np.flatnonzero(self.split == name)

    def column(self, name: str) -> np.ndarray:
        """A column of the cohort table, float64; all NaN where there is no such column."""
        if name not in self._cohort.column_names:
            return np.full(len(self), np.nan)
        return self._cohort[name].to_numpy(zero_copy_only=False).astype(np.float64)[self._place]

    def of_ecg(self, name: str) -> np.ndarray:
        """A measurement of the ECG, float64."""
        return self._ecg[name].to_numpy(zero_copy_only=False).astype(np.float64)[self._ecg_place]

    def flagged(self, flag: str) -> np.ndarray:
        """Bool: whose ECG carries a flag."""
        flags = self._ecg["flags"].to_pylist()
        return np.array([flag in (flags[i] or ()) for i in self._ecg_place], bool)

    def covariates(self, names: Sequence[str]) -> np.ndarray:
        """Float64 [rows, names]."""
        return np.array([self.column(n) for n in names]).reshape(-1, len(self)).T

    def targets(self, settings: Mapping[str, Any]) -> Targets:
        """Targets of the settings `targets`, `indexed` (those over body surface area, `LVEDVi`) and `extra_targets`."""
        indexed = {f"{n}i": n for n in settings["indexed"]}
        columns = {n: self.column(n) for n in settings["targets"]}
        columns |= {i: self.column(n) / self.column("bsa") for i, n in indexed.items()}
        columns |= {n: self.column(n) for n in settings["extra_targets"]}
        known = [n for n, v in columns.items() if np.isfinite(v).any()]
        values = np.stack([columns[n] for n in known], 1) if known else np.zeros((len(self), 0))
        return Targets(known, values, [n for n in settings["targets"] if n not in known])

    def subgroups(self) -> dict[str, np.ndarray]:
        """Bool by name: everybody, women and men, bands of age, rhythm, first and later visits; a row may be in none."""
        sex, age, af = self.column("sex"), self.column("age"), self.flagged("atrial_fibrillation")
        first: dict[str, int] = {}
        for s, v in self.keys:
            first[s] = min(v, first.get(s, v))
        is_first = np.array([v == first[s] for s, v in self.keys], bool)
        groups = {EVERYBODY: np.ones(len(self), bool), "women": sex == 0, "men": sex == 1}
        groups |= {name: (age >= low) & (age < high) for name, low, high in AGE_BANDS}
        return groups | {
            "no_atrial_fibrillation": ~af, "atrial_fibrillation": af, "first_visit": is_first, "later_visit": ~is_first,
        }  # fmt: skip


def places(keys: Sequence[tuple[str, int]], table: pa.Table, where: str) -> list[int]:
    """Where each (subject, visit) stands in a table. Raises ArtifactError, with their number, where some do not."""
    found = zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True)
    place = {key: i for i, key in enumerate(found)}
    unknown = sum(k not in place for k in keys)
    if unknown:  # counted, not named: an id must not reach a log
        raise ArtifactError(f"{unknown} rows are not in {where}; run pairs and embed again")
    return [place[k] for k in keys]
