"""Flags on phenotypes: values that are possible but not plausible, and values that contradict each other."""

import numpy as np
import pyarrow as pa

from ptacl.cohort.fields import QUANTITIES
from ptacl.cohort.tables import Columns

VOLUME_ML, FRACTION_POINTS, STROKE_SHARE, OUTPUT_SHARE = 2.0, 1.0, 0.30, 0.15
# Largest and smallest volume, stroke volume and ejection fraction of each chamber.
CHAMBERS = (
    ("LVEDV", "LVESV", "LVSV", "LVEF"), ("RVEDV", "RVESV", "RVSV", "RVEF"),
    ("LAVmax", "LAVmin", "LASV", "LAEF"), ("RAVmax", "RAVmin", "RASV", "RAEF"),
    ("LVEDV_inline", "LVESV_inline", "LVSV_inline", "LVEF_inline"),
)  # fmt: skip


def phenotype_flags(columns: Columns, n: int) -> pa.Array:
    """The flags of each row, list<string> [n], sorted; no flag where a value is missing.

    `{name}_implausible`: outside the plausible range. `{stroke volume}_inconsistent`: more than 2 ml from the difference of
    the volumes. `{ejection fraction}_inconsistent`: more than 1 percentage point from stroke volume over volume.
    `LVSV_RVSV_differ`: the two ventricles' stroke volumes differ by more than 30 % of their mean. `{output}_inconsistent`:
    more than 15 % from stroke volume times the heart rate at the MRI.
    """
    masks: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        if name in QUANTITIES:
            low, high = QUANTITIES[name].plausible
            masks[f"{name}_implausible"] = (column < low) | (column > high)
    for largest, smallest, stroke, fraction in CHAMBERS:
        if {largest, smallest, stroke} <= columns.keys():
            difference = columns[largest] - columns[smallest]
            masks[f"{stroke}_inconsistent"] = np.abs(columns[stroke] - difference) > VOLUME_ML
        if {largest, stroke, fraction} <= columns.keys():
            share = 100 * columns[stroke] / columns[largest]
            masks[f"{fraction}_inconsistent"] = np.abs(columns[fraction] - share) > FRACTION_POINTS
    for output, stroke in (("LVCO", "LVSV"), ("LVCO_inline", "LVSV_inline")):
        if {output, stroke, "heart_rate_inline"} <= columns.keys():
            expected = columns[stroke] * columns["heart_rate_inline"] / 1000
            masks[f"{output}_inconsistent"] = np.abs(columns[output] - expected) > OUTPUT_SHARE * expected
    if {"LVSV", "RVSV"} <= columns.keys():
        left, right = columns["LVSV"], columns["RVSV"]
        masks["LVSV_RVSV_differ"] = np.abs(left - right) > STROKE_SHARE * (left + right) / 2
    names = sorted(name for name, mask in masks.items() if mask.any())
    raised = np.stack([masks[name] for name in names], 1) if names else np.zeros((n, 0), bool)
    ends = np.concatenate([[0], np.cumsum(raised.sum(1))]).astype(np.int32)
    values = pa.array(names, pa.string()).take(pa.array(np.nonzero(raised)[1]))
    return pa.ListArray.from_arrays(pa.array(ends), values)
