"""Short-axis cine as a zip or a folder of DICOM files; the manifest in the zip is not needed and not read.

In two stages: the heads of all files say which image lies where and when; then only the slices that are used are decoded.
"""

import re
from pathlib import Path

import numpy as np

from ptacl.cmr.acquisitions import MIN_FRAMES, Acquisition, acquisitions
from ptacl.cmr.container import FolderMember, members_of
from ptacl.cmr.cycle import cycle_of, slice_of
from ptacl.cmr.frame import RESULT, Frame
from ptacl.cmr.header import FrameReader
from ptacl.cmr.record import Cine
from ptacl.cmr.stack import PARALLEL, RR_MS, order_stack
from ptacl.errors import UnreadableCine

SAME_PLACE_MM, SAME_PLACE_STEPS = 1.0, 0.35
FEW_SLICES = 3

_SHORT_AXIS = re.compile(r"CINE_segmented_SAX(_b\d+)?", re.IGNORECASE)


def read_dicom(path: Path, source: str) -> Cine:
    """Reads the headers of one short-axis stack; slices are decoded when asked for. Raises UnreadableCine."""
    frames, flags = read_frames(path)
    wanted = [f for f in frames if _is_cine(f, source)]
    if any(RESULT.search(f.description) for f in frames):
        flags.add("inlinevf_series")
    found = acquisitions(wanted) if wanted else []
    if not found:
        raise UnreadableCine("no_cine_series", f"no slice of a short-axis cine has {MIN_FRAMES} frames")
    stack, others = _largest_parallel_set(found)
    places = _by_place(stack)
    n_repeats = sum(len(place) - 1 + sum(a.fragments for a in place) for place in places)
    flags |= _left_out(others, stack)
    cycle = cycle_of(stack)
    slices, used = [], []
    for place in places:
        complete = sorted(filter(cycle.accepts, place), key=cycle.rank, reverse=True)
        if complete:
            first, *repeats = (slice_of(a, cycle, refuse_overlay=source == "ukb") for a in complete)
            first.alternatives = repeats
            slices.append(first)
            used += complete[0].frames
            flags |= first.flags
        else:
            flags.add("slice_dropped")
    if not slices:
        raise UnreadableCine("incomplete_cycle", f"every slice has less than nine tenths of its {cycle.frames} frames")
    if n_repeats:
        flags.add("repeated_slice")
    return order_stack("dicom", slices, _nominal_rr(used), n_repeats, flags)


def read_frames(path: Path) -> tuple[list[Frame], set[str]]:
    """The headers of every image of a zip or folder, sorted by series and instance; and flags. Raises UnreadableCine."""
    members, left_out = members_of(path)
    reader, frames = FrameReader(), []
    flags = {"corrupt_file"} if left_out else set()
    for member in members:
        try:
            frames += reader.read(member)
        except ValueError:
            flags.add("corrupt_file")
    if not frames:
        if flags or reader.absurd:
            raise UnreadableCine("truncated" if flags else "bad_geometry", "no image that is whole and makes sense")
        if reader.others:
            raise UnreadableCine("no_cine_series", "images in colour or without a place in the patient only")
        is_zip = not path.is_dir() and not any(isinstance(m, FolderMember) for m in members)
        raise UnreadableCine("empty_zip" if is_zip else "not_a_cine", "no DICOM image inside")
    return sorted(frames, key=lambda f: (f.series, f.instance)), flags


def _is_cine(frame: Frame, source: str) -> bool:
    if RESULT.search(frame.description) or (frame.derived and np.isnan(frame.trigger_ms)):
        return False
    return source != "ukb" or _SHORT_AXIS.fullmatch(frame.description) is not None


def _largest_parallel_set(found: list[Acquisition]) -> tuple[list[Acquisition], list[Acquisition]]:
    """The acquisitions of one orientation that lie at the most places, and the others.

    Of equally many places those with trigger times, then the later ones: a stack is planned anew where the first was wrong.
    """
    axes = np.array([np.concatenate([a.plane.row_axis, a.plane.column_axis]) for a in found])
    parallel = (axes[:, :3] @ axes[:, :3].T > PARALLEL) & (axes[:, 3:] @ axes[:, 3:].T > PARALLEL)
    places = [round(float(a.plane.origin_mm @ a.plane.normal)) for a in found]
    sets = {row.tobytes(): np.flatnonzero(row) for row in parallel}
    best = max(
        sets.values(),
        key=lambda members: (
            len({places[j] for j in members}),
            any(found[j].timed for j in members),
            max(found[j].frames[0].acquisition_time for j in members),
        ),
    )
    chosen = set(best.tolist())
    return [found[j] for j in best], [a for j, a in enumerate(found) if j not in chosen]


def _left_out(others: list[Acquisition], stack: list[Acquisition]) -> set[str]:
    """Flags for what lies otherwise: another stack of a few slices, and slices in the stack's plane but turned in it."""
    flags: set[str] = set()
    if not others:
        return flags
    normal = stack[0].plane.normal
    if len(_by_place(_largest_parallel_set(others)[0])) >= FEW_SLICES:
        flags.add("other_orientation")
    there = np.array([a.plane.origin_mm @ normal for a in stack])
    turned = [float(a.plane.origin_mm @ normal) for a in others if abs(a.plane.normal @ normal) > PARALLEL]
    if any(np.abs(there - place).min() > SAME_PLACE_MM for place in turned):
        flags.add("slice_dropped")
    return flags


def _by_place(stack: list[Acquisition]) -> list[list[Acquisition]]:
    """Acquisitions of the same slice together, along the stack's normal; a repeat may have moved by a part of a step."""
    normal = stack[0].plane.normal
    along = {id(a): float(a.plane.origin_mm @ normal) for a in stack}
    stack = sorted(stack, key=lambda a: along[id(a)])
    places = _within(stack, along, SAME_PLACE_MM)
    steps = np.diff([along[id(place[0])] for place in places])
    return (
        _within(stack, along, max(SAME_PLACE_MM, SAME_PLACE_STEPS * float(np.median(steps)))) if len(steps) else places
    )


def _within(stack: list[Acquisition], along: dict[int, float], reach_mm: float) -> list[list[Acquisition]]:
    """Neighbours less than `reach_mm` from the first of their place."""
    places: list[list[Acquisition]] = []
    for a in stack:
        if places and along[id(a)] - along[id(places[-1][0])] < reach_mm:
            places[-1].append(a)
        else:
            places.append([a])
    return places


def _nominal_rr(frames: list[Frame]) -> float | None:
    """Median of the headers' NominalInterval, where there are plausible ones."""
    values = [f.nominal_rr_ms for f in frames if RR_MS[0] <= f.nominal_rr_ms <= RR_MS[1]]
    return float(np.median(values)) if values else None
