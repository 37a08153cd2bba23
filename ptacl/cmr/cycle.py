"""Acquisitions on the cycle of their stack: how many frames it has, and what stands in for the missing ones."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ptacl.cmr.acquisitions import Acquisition
from ptacl.cmr.pixels import inverted
from ptacl.cmr.record import DrawnImage, Slice

MIN_COMPLETE, SAME_RR = 0.9, 0.1
# A trigger time this many steps short of a frame's place is still that frame's; so near a place it is the place.
EARLY, SNAP = 0.1, 0.25


@dataclass(frozen=True)
class Cycle:
    """The cycle of a stack: frames in it, and the first one's trigger time, NaN without timing."""

    frames: int
    first_ms: float
    timed: bool

    def accepts(self, a: Acquisition) -> bool:
        """Whether an acquisition is complete enough; one with more frames and no timing may be anything."""
        if len(a) > self.frames:
            return a.timed or (not self.timed and a.frames[0].cycle_frames == len(a))
        return len(a) >= MIN_COMPLETE * self.frames

    def rank(self, a: Acquisition) -> tuple[bool, bool, int, str, float, int]:
        """Of two acquisitions of a slice that with the stack's frames and times counts, the more complete one, the later one."""
        first = a.frames[0]
        number = float(np.nan_to_num(first.series_number))
        count = min(len(a), self.frames)
        return len(a) == self.frames, a.timed, count, first.acquisition_time, number, first.instance


def cycle_of(acquisitions: Sequence[Acquisition]) -> Cycle:
    """The cycle that most acquisitions have, those with trigger times before those without."""
    voters = [a for a in acquisitions if a.timed] or list(acquisitions)
    frames = _stated(voters, _commonest([len(a) + a.missing for a in voters]))
    timed = voters[0].timed
    starts = [a.trigger_ms[0] for a in voters if len(a) == frames]
    if timed and not starts:
        starts = [_start(a, frames) for a in voters if len(a) >= MIN_COMPLETE * frames]
    return Cycle(frames, float(np.median(starts)) if timed and starts else float("nan"), timed)


def _commonest(counts: list[int]) -> int:
    """Of equally common ones the larger."""
    return max(Counter(counts).items(), key=lambda item: (item[1], item[0]))[0]


def _stated(voters: list[Acquisition], found: int) -> int:
    """The frames of a cycle by the header, where up to a tenth is absent everywhere, or where its RR interval says the same."""
    stated = _commonest([a.frames[0].cycle_frames for a in voters])
    if MIN_COMPLETE * stated <= found <= stated:
        return stated
    whole_ms = stated * float(np.median([a.step_ms for a in voters]))
    rr_ms = float(np.median([a.frames[0].nominal_rr_ms for a in voters]))
    return stated if stated > found and abs(whole_ms - rr_ms) < SAME_RR * rr_ms else found


def _start(a: Acquisition, frames: int) -> float:
    """Where the first frame would be, if frames are absent at the beginning."""
    absent = min(frames - len(a) - a.missing, int(a.trigger_ms[0] / a.step_ms + EARLY))
    return float(a.trigger_ms[0] - max(absent, 0) * a.step_ms)


def slice_of(a: Acquisition, cycle: Cycle, refuse_overlay: bool) -> Slice:
    """The slice that an acquisition gives. `refuse_overlay`: images with drawn contours are a result by another name."""
    whole, plane = len(a) == cycle.frames, a.plane
    flags = set() if whole else {"frames_interpolated"}
    return Slice(
        shape=(cycle.frames, plane.rows, plane.columns),
        origin_mm=plane.origin_mm,
        row_axis=plane.row_axis,
        column_axis=plane.column_axis,
        spacing_mm=plane.spacing_mm,
        trigger_ms=a.trigger_ms if whole else _times(a, cycle),
        instances=[f.instance for f in a.frames],
        load=_loader(a, cycle, flags, refuse_overlay),
        flags=flags,
    )


def _loader(a: Acquisition, cycle: Cycle, flags: set[str], refuse_overlay: bool) -> Callable[[], np.ndarray]:
    """What decodes a slice; frames that are absent or damaged, up to a tenth, are interpolated on phase."""

    def load() -> np.ndarray:
        if refuse_overlay and _is_drawn(a):
            raise DrawnImage("images with contours drawn into them")
        pixels, there = _images(a)
        if len(pixels) < MIN_COMPLETE * cycle.frames:
            raise ValueError("too many damaged frames")
        if a.frames[0].inverted:
            pixels = inverted(pixels)
        if len(pixels) == len(a) == cycle.frames:
            return pixels
        flags.add("frames_interpolated")
        return fill_frames(pixels, _places(a, cycle)[there], cycle.frames)

    return load


def _is_drawn(a: Acquisition) -> bool:
    """Whether the first image that can be read has contours drawn into it."""
    for frame in a.frames:
        try:
            return frame.has_overlay()
        except ValueError:
            continue
    return False


def _images(a: Acquisition) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [n, rows, columns] of the frames that can be decoded, and which those are, bool [len(a)].

    Each is copied into place at once: a view would keep its whole file in memory.
    """
    pixels, there = np.zeros((0, a.plane.rows, a.plane.columns), np.uint16), np.zeros(len(a), bool)
    for k, frame in enumerate(a.frames):
        try:
            image = frame.load()
        except ValueError:
            continue
        if not there.any():
            pixels = np.empty((len(a), *image.shape), image.dtype)
        elif image.dtype != pixels.dtype:
            pixels = pixels.astype(np.float32)
        pixels[k], there[k] = image, True
    return (pixels if there.all() else pixels[there[: len(pixels)]]), there


def _is_spread(a: Acquisition, cycle: Cycle) -> bool:
    """Whether frames fill the whole cycle evenly: it has another number of them, or no timing says which are absent."""
    if not (a.timed and np.isfinite(cycle.first_ms)):
        return True
    span = a.trigger_ms[-1] - a.trigger_ms[0]
    return len(a) >= cycle.frames or a.frames[0].cycle_frames == len(a) or span > (cycle.frames - 1 + SNAP) * a.step_ms


def _places(a: Acquisition, cycle: Cycle) -> np.ndarray:
    """Where each frame lies in the cycle, in units of one of the stack's frames: float64 [n], ascending.

    By trigger time from the stack's first one, so that a missing first frame moves no other.
    """
    n = len(a)
    if _is_spread(a, cycle):
        return np.arange(n) * cycle.frames / n
    places = (a.trigger_ms - cycle.first_ms) / a.step_ms
    nearest = np.rint(places)
    return nearest if np.abs(places - nearest).max() < SNAP and (np.diff(nearest) > 0).all() else places


def _times(a: Acquisition, cycle: Cycle) -> np.ndarray:
    """Trigger times in ms of all frames of the cycle, once the absent ones are filled in: float64 [frames]."""
    if not a.timed:
        return np.full(cycle.frames, np.nan)
    if _is_spread(a, cycle):
        return a.trigger_ms[0] + np.arange(cycle.frames) * a.step_ms * len(a) / cycle.frames
    return cycle.first_ms + np.arange(cycle.frames) * a.step_ms


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
