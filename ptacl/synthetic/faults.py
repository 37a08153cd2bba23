"""Which visit carries which planted fault: decided by the seed alone."""

import numpy as np

ECG_FAULTS = ("missing_lead", "flat_lead", "trailing_comma", "truncated_xml", "exercise_type", "pacemaker_text")
CINE_FAULTS = (
    "truncated_zip", "missing_slice", "duplicate_series", "inlinevf_series", "frame_count", "instance_from_51",
    "manifest_csv",
)  # fmt: skip
KINDS = ("withdrawn", "truncated_zip", "truncated_xml", "exercise_type", *(
    k for k in (*ECG_FAULTS, *CINE_FAULTS) if k not in ("truncated_zip", "truncated_xml", "exercise_type")
))  # fmt: skip


def plan_faults(seed: int, subjects: int, rate: float) -> dict[int, str]:
    """Fault of each faulty person's first visit, by index: about `rate` of the people, kinds in turn.

    Every kind occurs where there are people enough; atrial fibrillation is part of the population itself.
    """
    n = min(subjects, max(round(rate * subjects), min(len(KINDS), subjects // 15) if rate > 0 else 0))
    rng = np.random.default_rng([seed, 7])
    people = rng.permutation(subjects)[:n]
    return {int(p): KINDS[i % len(KINDS)] for i, p in enumerate(people)}
