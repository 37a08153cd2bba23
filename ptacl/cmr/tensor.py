"""From a stack to what the model reads: chosen slices, frames on a common grid, one crop in mm, eight bits."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ptacl.cmr.record import Cine, Slice

LOW_PERCENT, HIGH_PERCENT = 1, 99
HEART_RADIUS_MM, AS_ANY = 55.0, 0.05


def choose_slices(positions_mm: np.ndarray, count: int) -> list[int]:
    """Indices of the `count` slices nearest to equal parts of the stack's length (three: 25, 50, 75 %), ties to the base.

    They ascend and no slice is taken twice: the sum of the distances is the least possible. A stack of fewer slices gives
    them all.
    """
    count = min(count, len(positions_mm))
    length = positions_mm[-1] - positions_mm[0]
    targets = positions_mm[0] + length * (np.arange(count) + 1) / (count + 1)
    # In whole micrometres, so that an exact tie stays one.
    distance = np.rint(np.abs(positions_mm - targets[:, None]) * 1000).astype(np.int64)
    n = len(positions_mm)
    # least[k, i]: the least sum for the targets from k on, with slices from i on.
    least = np.full((count + 1, n + 1), np.iinfo(np.int64).max // 2)
    least[count] = 0
    for k in reversed(range(count)):
        for i in reversed(range(n)):
            least[k, i] = min(least[k, i + 1], distance[k, i] + least[k + 1, i + 1])
    chosen = [-1]
    for k in range(count):
        i = chosen[-1] + 1
        chosen.append(next(j for j in range(i, n) if distance[k, j] + least[k + 1, j + 1] == least[k, i]))
    return chosen[1:]


def resample_frames(pixels: np.ndarray, count: int) -> np.ndarray:
    """[n, ...] to [count, ...] at native frame index k n / count, circular and linear: frame 0 stays frame 0."""
    n = len(pixels)
    if n % count == 0:
        return pixels[:: n // count]
    at = np.arange(count) * n / count
    left = np.floor(at).astype(int)
    weight = (at - left).astype(np.float32).reshape(-1, *([1] * (pixels.ndim - 1)))
    return (1 - weight) * pixels[left % n] + weight * pixels[(left + 1) % n]


def crop(slice_: Slice, frames: np.ndarray, centre_mm: np.ndarray, crop_mm: float, size: int) -> np.ndarray:
    """[T, rows, columns] to float32 [T, size, size]: a square of `crop_mm` round the centre, zero outside the image."""
    row, column = slice_.to_pixel(centre_mm)
    rows = _axis_weights(row, slice_.spacing_mm[0], frames.shape[1], crop_mm, size)
    columns = _axis_weights(column, slice_.spacing_mm[1], frames.shape[2], crop_mm, size)
    return rows @ frames.astype(np.float32) @ columns.T


def _axis_weights(centre: float, spacing_mm: float, n: int, crop_mm: float, size: int) -> np.ndarray:
    """Weights [size, n] of linear interpolation along one axis, averaged over each output pixel.

    An output pixel larger than a native one is the mean of several samples within it, so nothing aliases.
    """
    step = crop_mm / size / spacing_mm
    samples = max(1, int(np.ceil(step)))
    offset = (np.arange(size * samples) + 0.5) / samples - size / 2
    at = centre + offset * step
    left = np.floor(at).astype(int)
    weights = np.zeros((size * samples, n), np.float32)
    index = np.arange(size * samples)
    for k, w in ((left, 1 - (at - left)), (left + 1, at - left)):
        inside = (k >= 0) & (k < n)
        np.add.at(weights, (index[inside], k[inside]), w[inside])
    return weights.reshape(size, samples, n).mean(1)


def make_tensor(cine: Cine, centre_mm: np.ndarray, settings: Mapping[str, Any]) -> tuple[np.ndarray, list[int]]:
    """uint8 [S, T, size, size] and the indices of the slices in it; `settings`: slices, frames, crop_mm, size.

    Percentiles 1 and 99 of the whole crop become 0 and 255: per frame would add flicker and hide inflow.
    """
    chosen = choose_slices(cine.positions_mm, settings["slices"])
    volume = np.stack(
        [
            crop(s, resample_frames(s.pixels, settings["frames"]), centre_mm, settings["crop_mm"], settings["size"])
            for s in (cine.slices[i] for i in chosen)
        ]
    )
    low, high = np.percentile(volume, (LOW_PERCENT, HIGH_PERCENT))
    scaled = (volume - low) / max(high - low, 1e-6)
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8), chosen


def cardiac_frames(tensor: np.ndarray, crop_mm: float, source: str) -> tuple[int, int]:
    """(end-diastolic, end-systolic) frame on the tensor's grid, from the heart's surroundings of HEART_RADIUS_MM.

    End-diastole is frame 0 in UK Biobank, which begins at the R wave; elsewhere the frame of greatest blood area.
    End-systole is the first frame after it that is as unlike end-diastole as any: then the heart rests contracted until
    the mitral valve opens, so that the least area or the greatest unlikeness itself may come much later.
    """
    size = tensor.shape[-1]
    axis = (np.arange(size) + 0.5 - size / 2) * crop_mm / size
    disc = np.hypot(axis[:, None], axis[None]) < HEART_RADIUS_MM
    inside = tensor[..., disc].astype(np.float32)
    ed = 0
    if source != "ukb":
        threshold = 0.5 * (np.percentile(inside, 10) + np.percentile(inside, 95))
        # A soft step, so that partial-volume pixels count in part.
        ed = int(np.argmax(_smooth((1 / (1 + np.exp(-(inside - threshold) / 12))).sum(axis=(0, 2)))))
    unlike = _smooth(np.square(inside - inside[:, ed : ed + 1]).sum(axis=(0, 2)))
    after = np.roll(unlike, -ed)
    return ed, (ed + int(np.argmax(after >= after.max() - AS_ANY * np.ptp(after)))) % len(after)


def _smooth(curve: np.ndarray) -> np.ndarray:
    """A curve over the cycle, smoothed with weights 1 2 1."""
    return (np.roll(curve, 1) + 2 * curve + np.roll(curve, -1)) / 4
