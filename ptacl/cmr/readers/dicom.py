"""Short-axis cine as a zip or a folder of DICOM files; the manifest in the zip is not needed and not read.

In two stages: the heads of all files say which image lies where and when; then only the slices that are used are decoded.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptacl.cmr.container import FolderMember, members_of
from ptacl.cmr.header import Frame, FrameReader
from ptacl.cmr.record import Cine, Slice
from ptacl.cmr.stack import PARALLEL, RR_MS, order_stack
from ptacl.errors import UnreadableCine

MIN_FRAMES, MIN_COMPLETE = 8, 0.9
SAME_PLACE_MM = 1.0

_SHORT_AXIS = re.compile(r"CINE_segmented_SAX(_b\d+)?", re.IGNORECASE)
_RESULT = re.compile(r"inline_?vf", re.IGNORECASE)

Candidate = list[Frame]  # the frames of one acquisition of one slice, in cycle order


def read_dicom(path: Path, source: str) -> Cine:
    """Reads the headers of one short-axis stack; slices are decoded when asked for. Raises UnreadableCine."""
    frames, flags = read_frames(path)
    wanted = [f for f in frames if _is_cine(f, source)]
    if any(_RESULT.search(f.description) for f in frames):
        flags.add("inlinevf_series")
    if not wanted:
        raise UnreadableCine("no_cine_series", f"{len(frames)} images, none of a short-axis cine")
    places = _by_place(_largest_parallel_set(_acquisitions(wanted)))
    counts = Counter(max(map(len, place)) for place in places).most_common()
    # The commonest number of frames is the stack's; of equally common ones the larger.
    full = max(n for n, times in counts if times == counts[0][1])
    starts = [c[0].trigger_ms for place in places for c in place if len(c) == full]
    stack = _Stack(full, float(np.median(starts)), refuse_overlay=source == "ukb")
    slices, n_repeats = [], 0
    for place in places:
        complete = sorted(
            (c for c in place if len(c) >= MIN_COMPLETE * full), key=lambda c: _rank(c, full), reverse=True
        )
        n_repeats += len(place) - 1
        if complete:
            first, *others = (_slice(c, stack) for c in complete)
            first.alternatives = others
            slices.append(first)
            flags |= first.flags
        else:
            flags.add("slice_dropped")
    if n_repeats:
        flags.add("repeated_slice")
    return order_stack("dicom", slices, _nominal_rr(wanted), n_repeats, flags)


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
        one_file = not path.is_dir() and any(isinstance(m, FolderMember) for m in members)
        code = "truncated" if flags else "not_a_cine" if path.is_dir() or one_file else "empty_zip"
        raise UnreadableCine(code, "no DICOM image inside")
    return sorted(frames, key=lambda f: (f.series, f.instance)), flags


def _is_cine(frame: Frame, source: str) -> bool:
    if _RESULT.search(frame.description) or (frame.derived and np.isnan(frame.trigger_ms)):
        return False
    return source != "ukb" or _SHORT_AXIS.fullmatch(frame.description) is not None


def _acquisitions(frames: list[Frame]) -> list[Candidate]:
    """Frames of one series at one place, split where a second acquisition begins; those with too few are left out."""
    groups: dict[tuple[str, int], list[list[Frame]]] = defaultdict(list)
    for f in frames:
        same = groups[f.series, f.plane.rows * 10000 + f.plane.columns]
        for group in same:
            if f.plane is group[0].plane or np.abs(f.origin_mm - group[0].origin_mm).max() < SAME_PLACE_MM / 2:
                group.append(f)
                break
        else:
            same.append([f])
    found = [run for same in groups.values() for group in same for run in _runs(group)]
    return [c for c in found if len(c) >= MIN_FRAMES]


def _runs(group: list[Frame]) -> list[Candidate]:
    """One or more acquisitions of a slice within one series, each in cycle order.

    A repeat counts its instances on from the first one's (51 to 100) while its trigger times begin again.
    """
    group = sorted(group, key=lambda f: f.instance)
    trigger = np.array([f.trigger_ms for f in group])
    timed = bool(np.isfinite(trigger).all() and len(np.unique(trigger)) > 1)
    if timed:
        starts = np.flatnonzero(np.diff(trigger) < 0) + 1
        runs = [group[a:b] for a, b in zip([0, *starts], [*starts, len(group)], strict=True)]
        if len(runs) > 1 and all(len(run) >= MIN_FRAMES for run in runs):
            return runs
    # The same instant twice: the later instance is the repeat that was kept.
    by_time = {(f.trigger_ms if timed else f.instance): f for f in group}
    return [sorted(by_time.values(), key=lambda f: (f.trigger_ms if timed else 0.0, f.instance))]


def _largest_parallel_set(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates whose plane is parallel to that of as many others as possible."""
    if not candidates:
        raise UnreadableCine("no_cine_series", f"no slice has {MIN_FRAMES} frames")
    axes = np.array([np.concatenate([c[0].row_axis, c[0].column_axis]) for c in candidates])
    parallel = (axes[:, :3] @ axes[:, :3].T > PARALLEL) & (axes[:, 3:] @ axes[:, 3:].T > PARALLEL)
    normals = np.cross(axes[:, :3], axes[:, 3:])
    places = [round(float(c[0].origin_mm @ n)) for c, n in zip(candidates, normals, strict=True)]
    size = [len({places[j] for j in np.flatnonzero(row)}) for row in parallel]
    return [candidates[j] for j in np.flatnonzero(parallel[int(np.argmax(size))])]


def _by_place(candidates: list[Candidate]) -> list[list[Candidate]]:
    """Acquisitions of the same slice together, along the stack's normal."""
    normal = candidates[0][0].plane.normal
    candidates = sorted(candidates, key=lambda c: float(c[0].origin_mm @ normal))
    places: list[list[Candidate]] = []
    for candidate in candidates:
        if places and abs(float((candidate[0].origin_mm - places[-1][0][0].origin_mm) @ normal)) < SAME_PLACE_MM:
            places[-1].append(candidate)
        else:
            places.append([candidate])
    return places


def _rank(candidate: Candidate, full: int) -> tuple[int, str, float, int]:
    """The more complete acquisition of a slice counts, then the later one."""
    first = candidate[0]
    return min(len(candidate), full), first.acquisition_time, np.nan_to_num(first.series_number), first.instance


@dataclass(frozen=True)
class _Stack:
    """What the slices of a stack have in common: frames per cycle, first trigger time, the policy on drawn contours."""

    frames: int
    first_ms: float
    refuse_overlay: bool


def _slice(frames: Candidate, stack: _Stack) -> Slice:
    trigger = np.array([f.trigger_ms for f in frames])
    whole, plane = len(frames) == stack.frames, frames[0].plane
    flags = set() if whole else {"frames_interpolated"}
    return Slice(
        shape=(stack.frames, plane.rows, plane.columns),
        origin_mm=plane.origin_mm,
        row_axis=plane.row_axis,
        column_axis=plane.column_axis,
        spacing_mm=plane.spacing_mm,
        trigger_ms=trigger if whole else np.full(stack.frames, np.nan),
        instances=[f.instance for f in frames],
        load=_loader(frames, stack, flags),
        flags=flags,
    )


def _loader(frames: Candidate, stack: _Stack, flags: set[str]) -> Callable[[], np.ndarray]:
    """What decodes a slice; frames that are absent or damaged, up to a tenth, are interpolated on phase.

    In UK Biobank images with drawn contours are a result that goes by another name.
    """

    def load() -> np.ndarray:
        if stack.refuse_overlay and frames[0].has_overlay():
            raise ValueError("images with contours drawn into them")
        pixels, there = _images(frames)
        if len(pixels) < MIN_COMPLETE * stack.frames:
            raise ValueError("too many damaged frames")
        if len(pixels) == len(frames) == stack.frames:
            return pixels
        flags.add("frames_interpolated")
        return fill_frames(pixels, _places_in_cycle(frames, stack)[there], stack.frames)

    return load


def _images(frames: Candidate) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, rows, columns] of the frames that can be decoded, and which those are, bool [len(frames)].

    Each is copied into place at once: a view would keep its whole file in memory.
    """
    plane = frames[0].plane
    pixels, there = np.zeros((0, plane.rows, plane.columns), np.uint16), np.zeros(len(frames), bool)
    for k, frame in enumerate(frames):
        try:
            image = frame.load()
        except ValueError:
            continue
        if not there.any():
            pixels = np.empty((len(frames), *image.shape), image.dtype)
        elif image.dtype != pixels.dtype:
            pixels = pixels.astype(np.float32)
        pixels[k], there[k] = image, True
    return (pixels if there.all() else pixels[there[: len(pixels)]]), there


def _places_in_cycle(frames: Candidate, stack: _Stack) -> np.ndarray:
    """Where each frame lies in the cycle, in units of one of the stack's frames: float64 [n].

    By trigger time from the stack's first one, so that a missing first frame moves no other. Where an acquisition is
    whole with another number of frames, or has no timing, its frames are spread evenly.
    """
    n, trigger = len(frames), np.array([f.trigger_ms for f in frames])
    step = np.median(np.diff(trigger)) if n > 1 else np.nan
    if n >= stack.frames or frames[0].cycle_frames == n or not (step > 0 and np.isfinite(stack.first_ms)):
        return np.arange(n) * stack.frames / n
    return (trigger - stack.first_ms) / step


def fill_frames(pixels: np.ndarray, places: np.ndarray, full: int) -> np.ndarray:
    """Frames at places 0, 1, ... full - 1 of the cycle by circular linear interpolation: float32 [full, ...].

    `places` [n], ascending and less than a cycle apart, are those of `pixels` [n, ...].
    """
    known = np.concatenate([places, [places[0] + full]])
    target = known[0] + (np.arange(full) - known[0]) % full
    right = np.clip(np.searchsorted(known, target, side="right"), 1, len(pixels))
    weight = (target - known[right - 1]) / np.maximum(known[right] - known[right - 1], 1e-6)
    weight = np.clip(weight, 0, 1)[:, None, None].astype(np.float32)
    return ((1 - weight) * pixels[right - 1] + weight * pixels[right % len(pixels)]).astype(np.float32)


def _nominal_rr(frames: list[Frame]) -> float | None:
    """Median of the headers' NominalInterval, where there are plausible ones."""
    values = [f.nominal_rr_ms for f in frames if RR_MS[0] <= f.nominal_rr_ms <= RR_MS[1]]
    return float(np.median(values)) if values else None
