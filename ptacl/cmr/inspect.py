"""What the readers understand of one cine, for people."""

from pathlib import Path
from typing import Any

import numpy as np

from ptacl.cmr import quality
from ptacl.cmr.readers import read_cine
from ptacl.errors import UnusableCine


def describe(path: Path) -> dict[str, Any]:
    """Geometry, timing, order and usability of a file or folder; slices count from the base. Raises UnreadableCine."""
    cine = read_cine(path).decoded()
    reason = None
    try:
        quality.check(cine, source="table")
        quality.check_contrast(np.array([f(s.pixels) for s in cine.slices for f in (np.min, np.max)]))
    except UnusableCine as e:
        reason = str(e)
    first = cine.slices[0]
    return {
        "kind": "cine",
        "format": cine.format,
        "n_slices": len(cine.slices),
        "n_frames": cine.n_frames,
        "rows": first.shape[1],
        "columns": first.shape[2],
        "spacing_mm": [round(x, 6) for x in first.spacing_mm],
        "slice_step_mm": round(cine.slice_step_mm, 4),
        "rr_ms": round(cine.rr_ms, 2) if cine.rr_ms is not None else None,
        "frame_order": cine.frame_order,
        "flags": sorted(cine.flags),
        "usable": reason is None,
        "reason": reason,
    }
