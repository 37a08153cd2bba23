"""Slices into a stack: base to apex, RR interval and the phase of the first frame."""

import numpy as np

from ptacl.cmr.record import Cine, Slice, has_gap
from ptacl.errors import UnreadableCine

# Orientation cosines that agree better than this are the same orientation (some headers differ by rounding).
PARALLEL = 0.999
# The heart's apex points to the patient's left, front and feet: LPS +x, -y, -z.
TOWARDS_APEX = np.array([1.0, -1.0, -1.0]) / np.sqrt(3)
# Heart beats from 20 to 200 per minute.
RR_MS = (300, 3000)
# A header's RR interval that is further than this from what the frames fill is another beat's, or none.
RR_DISAGREES = 0.2


def order_stack(kind: str, slices: list[Slice], rr_ms: float | None, n_repeats: int, flags: set[str]) -> Cine:
    """Orders slices along their common normal, from base to apex. Raises UnreadableCine(`bad_geometry`).

    `rr_ms` is the header's RR interval, where there is one. Every slice is seen from the apex, as scanners store them: one
    that is stored as seen from the base is mirrored.
    """
    slices = [s.mirrored() if s.normal @ TOWARDS_APEX > 0 else s for s in slices]
    normal = slices[0].normal
    if any(abs(s.normal @ normal) < PARALLEL for s in slices):
        raise UnreadableCine("bad_geometry", "slices are not parallel")
    if normal @ TOWARDS_APEX < 0:
        normal = -normal
    place = np.array([s.origin_mm @ normal for s in slices])
    order = np.argsort(place, kind="stable")
    slices, place = [slices[i] for i in order], place[order]
    steps = np.diff(place)
    step = float(np.median(steps)) if len(steps) else 0.0
    if len(steps) and (step <= 0.5 or step > 50):
        raise UnreadableCine("bad_geometry", "an implausible distance between slices")
    if has_gap(place, step):
        flags.add("slice_gap")
    filled_ms = _rr_of_triggers(slices)
    if rr_ms is None:
        rr_ms = filled_ms
    elif filled_ms is not None and abs(rr_ms - filled_ms) > RR_DISAGREES * filled_ms:
        rr_ms = filled_ms
        flags.add("rr_disagrees")
    if rr_ms is None:
        flags.add("no_timing")
    return Cine(
        format=kind,
        slices=slices,
        positions_mm=place - place[0],
        slice_step_mm=step,
        rr_ms=rr_ms,
        phase_0=_first_phase(slices, rr_ms),
        n_repeats=n_repeats,
        flags=flags,
    )


def _rr_of_triggers(slices: list[Slice]) -> float | None:
    """n frames at equal distances fill one RR interval."""
    triggers = [s.trigger_ms for s in slices if len(s.trigger_ms) > 1 and np.isfinite(s.trigger_ms).all()]
    values = [float(t[-1] - t[0]) * len(t) / (len(t) - 1) for t in triggers]
    rr = float(np.median(values)) if values else 0.0
    return rr if RR_MS[0] <= rr <= RR_MS[1] else None


def _first_phase(slices: list[Slice], rr_ms: float | None) -> float:
    """The first frame's trigger time over RR, median over slices; 0 without timing."""
    first = [s.trigger_ms[0] for s in slices if len(s.trigger_ms) and np.isfinite(s.trigger_ms[0])]
    return float(np.median(first) / rr_ms % 1) if rr_ms and first else 0.0
