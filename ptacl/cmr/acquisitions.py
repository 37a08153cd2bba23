"""Which images are one acquisition of one slice, and in which order.

A breath-hold that failed is repeated, at times within the series, broken off or under the same numbers. Trigger times tell the
acquisitions apart: within one they rise once through the cycle. A cycle mixed of two breath-holds looks like a sound one.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from ptacl.cmr.frame import Frame, Plane

MIN_FRAMES = 8
# What may differ between the images of one slice: origin in mm, cosines of the axes, pixel spacing in mm.
SAME_ORIGIN_MM, SAME_AXES, SAME_SPACING_MM = 0.5, 0.02, 0.01
# A trigger time beyond this many times the 90th percentile is no time within a beat.
FAR = 2.0
# In steps of time: frames of one cycle are further apart than EVEN; a frame is absent in a GAP; what would have to JUMP does not
# follow.
EVEN, GAP, JUMP = 0.5, 1.5, 4.0
# More acquisitions, or images without a time, than any slice has: numbers or times mean nothing then.
MOST_CHAINS, MOST_STRAY = 16, 200


@dataclass(frozen=True, eq=False)
class Acquisition:
    """One breath-hold of one slice, its frames in the order of the cardiac cycle.

    trigger_ms: float64 [n], ascending; NaN throughout where the series has no timing. fragments: shorter acquisitions of the
    same slice in the same series.
    """

    frames: list[Frame]
    trigger_ms: np.ndarray
    fragments: int = 0

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def plane(self) -> Plane:
        return self.frames[0].plane

    @property
    def timed(self) -> bool:
        return bool(np.isfinite(self.trigger_ms[0]))

    @property
    def missing(self) -> int:
        """Frames absent between others, from the gaps in trigger times; times rounded to doubles tell nothing."""
        steps = np.diff(self.trigger_ms)
        if not self.timed or not len(steps) or not steps.min() > 0:
            return 0
        in_steps = steps / np.median(steps)
        return int(np.rint(in_steps[in_steps > GAP] - 1).sum())

    @property
    def step_ms(self) -> float:
        """Time from frame to frame; NaN without timing."""
        return float(self.trigger_ms[-1] - self.trigger_ms[0]) / (len(self) - 1 + self.missing)


@dataclass(eq=False)
class _Image:
    """number: InstanceNumber, counted so that it rises with time. moment: trigger time, NaN where it can't be trusted; in an
    untimed series the number. taken: AcquisitionTime, empty where most images have their own."""

    frame: Frame
    number: float
    moment: float
    taken: str


_Run = list[_Image]


def acquisitions(frames: list[Frame]) -> list[Acquisition]:
    """The acquisitions of MIN_FRAMES frames and more, of every slice of every series."""
    return [found for group in _by_slice(frames) for found in _of_one_slice(group)]


def _by_slice(frames: list[Frame]) -> list[list[Frame]]:
    """Frames of one series that lie at one place, of one matrix, spacing and orientation."""
    kinds: dict[tuple[str, int, int], int] = {}
    planes: dict[tuple[int, int], int] = {}  # (kind, plane) to its row in `values`
    labels: list = []
    values, rows = [], []
    for f in frames:
        plane = f.plane
        kind = kinds.setdefault((f.series, plane.rows, plane.columns), len(kinds))
        row = planes.setdefault((kind, id(plane)), len(planes))
        rows.append(row)
        if row == len(labels):
            labels.append(kind)
            axes = np.concatenate([plane.row_axis, plane.column_axis]) / SAME_AXES
            spacing = np.divide(plane.spacing_mm, SAME_SPACING_MM)
            values.append(np.concatenate([plane.origin_mm / SAME_ORIGIN_MM, axes, spacing]))
    label = _together(np.array(labels), np.array(values))
    groups: dict[int, list[Frame]] = {}
    for f, row in zip(frames, rows, strict=True):
        groups.setdefault(int(label[row]), []).append(f)
    return list(groups.values())


def _together(label: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Labels [n] split further wherever the sorted `values` [n, columns] of one label leave a gap of more than 1."""
    for column in values.T:
        order = np.lexsort((column, label))
        apart = (np.diff(label[order]) != 0) | (np.diff(column[order]) > 1)
        label = label.copy()
        label[order] = np.concatenate([[0], np.cumsum(apart)])
    return label


def _of_one_slice(frames: list[Frame]) -> list[Acquisition]:
    # The same file under two names counts once.
    frames = list({(f.acquisition_time, f.instance, repr(f.trigger_ms)): f for f in frames}.values())
    trigger = trusted_triggers(np.array([f.trigger_ms for f in frames]))
    timed = bool(np.isfinite(trigger).any())
    moments = trigger.tolist() if timed else [float(f.instance) for f in frames]
    own_time = len({f.acquisition_time for f in frames}) > len(frames) / 2
    images = [
        _Image(f, float(f.instance), moment, "" if own_time else f.acquisition_time)
        for f, moment in zip(frames, moments, strict=True)
    ]
    images.sort(key=lambda x: (x.frame.acquisition_time, x.number))
    most = max(f.cycle_frames for f in frames)
    blocks = [_counted_with_time(list(block)) for _, block in itertools.groupby(images, lambda x: x.taken)]
    runs, fragments = _runs(blocks, most)
    if not timed:
        runs = [part for run in runs for part in _cycles(run, most)]
    found: list = []
    for run in runs:
        run.sort(key=lambda x: (x.moment, x.number))
        rises = timed and run[-1].moment > run[0].moment
        times = np.array([x.moment if rises else np.nan for x in run])
        found.append(Acquisition([x.frame for x in run], times, 0 if found else fragments))
    return found


def trusted_triggers(trigger_ms: np.ndarray) -> np.ndarray:
    """Trigger times [n] with NaN for those far off the others, and in all where most are absent or the same."""
    finite = trigger_ms[np.isfinite(trigger_ms)]
    if not len(finite):
        return trigger_ms
    late = np.percentile(finite, 90, method="lower")
    times = np.where(np.abs(trigger_ms) > FAR * late, np.nan, trigger_ms)
    known = times[np.isfinite(times)]
    commonest = np.unique(known, return_counts=True)[1].max(initial=0)
    if len(known) < max(MIN_FRAMES, len(times) / 2) or commonest > len(known) / 2:
        return np.full(len(times), np.nan)
    return times


def _counted_with_time(block: _Run) -> _Run:
    """Images of one acquisition time in the order of their numbers, which are turned round where they count backwards."""
    known = [x for x in block if np.isfinite(x.moment)]
    rises = [np.sign(b.moment - a.moment) for a, b in itertools.pairwise(known) if a.number < b.number]
    if sum(rises) >= 0:
        return block
    for x in block:
        x.number = -x.number
    return block[::-1]


def _runs(blocks: list[_Run], most: int) -> tuple[list[_Run], int]:
    """The acquisitions among blocks of images taken at one time; and how many shorter ones there are besides.

    `most` frames make a cycle, says the header; 0 where it does not. An image without a time that can be trusted goes where
    its number belongs.
    """
    known = [[x for x in block if np.isfinite(x.moment)] for block in blocks]
    together = [x for block in known for x in block]
    found = [together]
    if not _is_one_cycle(together, most):
        chains = [chain for block in known for chain in _chains(block, most)]
        found = _joined(chains, most) if len(chains) <= MOST_CHAINS else [together]
    whole = [run for run in found if len(run) >= MIN_FRAMES]
    fragments = 0
    for short in (run for run in found if len(run) < MIN_FRAMES):
        fragments += not _put_back(short, whole, most)
    stray = [x for block in blocks for x in block if np.isnan(x.moment)]
    # A list: each has to be put back before the next is tried.
    homeless = [x for x in stray if len(stray) > MOST_STRAY or not _put_back([x], whole, most)]
    return whole, fragments + bool(homeless)


def _is_one_cycle(images: _Run, most: int) -> bool:
    """Whether times rise evenly, or with the numbers but for one begin in mid-cycle."""
    if 0 < most < len(images):
        return False
    moments = np.array([x.moment for x in images])
    steps = np.diff(np.sort(moments))
    if not len(steps) or steps.min() > EVEN * np.median(steps):
        return True
    if len({x.number for x in images}) < len(images):
        return False
    starts = np.flatnonzero(np.diff(moments) < 0) + 1
    runs = [images[a:b] for a, b in zip([0, *starts], [*starts, len(images)], strict=True)]
    return len(runs) <= 2 and all(_apart(a, b) for a, b in zip(runs, runs[1:], strict=False))


def _chains(images: _Run, most: int) -> list[_Run]:
    """Each image after the one that it follows best in time: where acquisitions are mixed each becomes a chain."""
    chains: list[_Run] = []
    steps = (most if most > 1 else len({x.number for x in images})) - 1
    step = float(np.ptp([x.moment for x in images])) / max(steps, 1) if images else 0.0
    step = step or 1.0
    for _, images_of_number in itertools.groupby(images, lambda x: x.number):
        same = list(images_of_number)
        if len(same) > MOST_CHAINS:
            return [list(images)]
        while same:
            costs = [(_cost(x, c, step), i, j) for i, x in enumerate(same) for j, c in enumerate(chains)]
            cost, i, j = min(costs, default=(np.inf, 0, 0))
            if cost < JUMP:
                chains[j].append(same.pop(i))
            else:
                chains.append([same.pop(0)])
            if len(chains) > MOST_CHAINS:
                return [list(images)]
    return chains


def _cost(image: _Image, chain: _Run, step: float) -> float:
    """By how many steps an image misses the time at which a chain goes on; infinite where it can't follow."""
    last = chain[-1]
    if image.moment < last.moment or image.number == last.number:
        return float("inf")
    if len(chain) > 1 and last.moment > chain[0].moment:
        step = (last.moment - chain[0].moment) / (len(chain) - 1)
    # Of chains that fit equally well the one that the last image went to.
    pause = min(abs(image.number - last.number), 20) / 100
    return abs(image.moment - last.moment - step) / step + pause


def _joined(chains: list[_Run], most: int) -> list[_Run]:
    """Chains that share no stretch of time together: numbers began in mid-cycle, or run against the times."""
    groups: list[list[_Run]] = []
    for chain in chains:
        for group in groups:
            fits = not 0 < most < sum(map(len, group)) + len(chain)
            if fits and all(_apart(chain, other) for other in group):
                group.append(chain)
                break
        else:
            groups.append([chain])
    return [[x for chain in group for x in chain] for group in groups]


def _apart(a: _Run, b: _Run) -> bool:
    low, high = ([end(x.moment for x in run) for run in (a, b)] for end in (min, max))
    return high[0] < low[1] or high[1] < low[0]


def _put_back(piece: _Run, runs: list[_Run], most: int) -> bool:
    """Adds a few images with absent or wrong times to the run in whose numbers they leave a hole, if there is one."""
    for run in runs:
        by_number = {x.number: x.moment for x in run}
        taken = {x.taken for x in run}
        low, high = min(by_number), max(by_number)
        margin = 1 if len(piece) == 1 else 0
        fits = all(x.number not in by_number and low - margin <= x.number <= high + margin for x in piece)
        same_time = len(taken) > 1 or {x.taken for x in piece} == taken
        if not (fits and same_time and len(by_number) == len(run)) or 0 < most < len(run) + len(piece):
            continue
        numbers = np.array(sorted(by_number))
        moments = np.array([by_number[n] for n in numbers])
        slope = float(np.median(np.diff(moments) / np.diff(numbers)))
        for x in piece:
            # From the image before it; before the first there is none.
            i = max(int(np.searchsorted(numbers, x.number)) - 1, 0)
            x.moment = float(moments[i] + slope * (x.number - numbers[i]))
        run += piece
        return True
    return False


def _cycles(run: _Run, most: int) -> list[_Run]:
    """An untimed run of several whole cycles, one after the other."""
    if not (MIN_FRAMES <= most < len(run)) or len(run) % most:
        return [run]
    run = sorted(run, key=lambda x: x.number)
    return [run[i : i + most] for i in range(0, len(run), most)]
