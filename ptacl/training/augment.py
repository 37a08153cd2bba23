"""Crops and augmentation, in batches on the device. R peaks and phases go along. No flips: time and anatomy have a direction."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ptacl.model.ecg import CROP
from ptacl.store.dataset import MV_PER_COUNT, STRIP
from ptacl.store.timing import Timing
from ptacl.training.dice import Dice

# Starts of the windows that are averaged at inference, 0-5, 2.5-7.5 and 5-10 s, and of the one that validation looks at.
WINDOWS = (0, 1250, 2500)
MIDDLE = WINDOWS[1]


@dataclass(frozen=True)
class Augmentation:
    """How far each change may go; 0 for none.

    ecg_noise_mv: largest SD of added noise. ecg_gain: SD of the gain of a lead. ecg_stretch: largest change of the time
    scale, as a share. cine_shift: largest shift in pixels, of all frames together. cine_gain, cine_offset: SD, in units
    of the model's input. cine_roll: whether the cycle may start at any frame.
    """

    ecg_noise_mv: float = 0.0
    ecg_gain: float = 0.0
    ecg_stretch: float = 0.0
    cine_shift: int = 0
    cine_gain: float = 0.0
    cine_offset: float = 0.0
    cine_roll: bool = False


def crop(
    strip: Tensor, timing: Timing, start: Tensor, scale_mv: float, stretch: Tensor | None = None
) -> tuple[Tensor, Timing]:
    """5 s of int16 strips [B, 12, 5000] from sample `start` [B]: float32 [B, 12, 2500] in units of `scale_mv`.

    `stretch` [B]: samples of the strip per sample of the crop (1 leaves time alone), by linear interpolation. The timing
    comes back in the crop's samples.
    """
    steps = torch.arange(CROP, device=strip.device)
    if stretch is None:
        window = start[:, None] + steps
        x = strip.gather(2, window[:, None].expand(-1, strip.shape[1], -1)).float()
        speed = torch.ones_like(timing.phase_0)
    else:
        place = (start[:, None] + stretch[:, None] * steps).clamp(0, STRIP - 1)
        left = place.floor().long().clamp_max(STRIP - 2)
        share = (place - left)[:, None]
        a, b = (strip.gather(2, i[:, None].expand(-1, strip.shape[1], -1)).float() for i in (left, left + 1))
        x, speed = a + share * (b - a), stretch
    moved = timing.changed(
        r_peaks=(timing.r_peaks - start[:, None]) / speed[:, None], t_end=timing.t_end / speed
    )  # fmt: skip
    return x * (MV_PER_COUNT / scale_mv), moved


def random_crop(strip: Tensor, timing: Timing, scale_mv: float, a: Augmentation, dice: Dice) -> tuple[Tensor, Timing]:
    """A crop from anywhere, stretched in time by up to `a.ecg_stretch`."""
    b = len(strip)
    if not a.ecg_stretch:
        return crop(strip, timing, dice.integers(STRIP - CROP + 1, b), scale_mv)
    stretch = 1 + a.ecg_stretch * (2 * dice.uniform(b) - 1)
    room = (STRIP - 1 - stretch * (CROP - 1)).clamp_min(0)
    return crop(strip, timing, (dice.uniform(b) * room).floor().long(), scale_mv, stretch)


def middle_crop(strip: Tensor, timing: Timing, scale_mv: float) -> tuple[Tensor, Timing]:
    """The middle 5 s, for validation."""
    return crop(strip, timing, torch.full((len(strip),), MIDDLE, device=strip.device), scale_mv)


def augment_ecg(x: Tensor, scale_mv: float, a: Augmentation, dice: Dice) -> Tensor:
    """Gain per lead and noise: [B, 12, n] to the same shape. Samples stay where they are, so R peaks do too."""
    b, leads, n = x.shape
    if a.ecg_gain:
        x = x * (1 + a.ecg_gain * dice.normal(b, leads, 1))
    if a.ecg_noise_mv:
        x = x + (a.ecg_noise_mv / scale_mv) * dice.uniform(b, 1, 1) * dice.normal(b, leads, n)
    return x


def cine_input(cine: Tensor) -> Tensor:
    """uint8 to float32, 0..255 mapped to about -0.5..1.5."""
    return cine.float() / 128 - 0.5


def augment_cine(cine: Tensor, timing: Timing, a: Augmentation, dice: Dice) -> tuple[Tensor, Timing]:
    """A shift of all frames together, another first frame, gain and offset per cine: uint8 [B, S, T, H, W] to floats."""
    moved, timing = move_cine(cine, timing, a, dice)
    return shade(moved, *intensity(len(cine), a, dice)), timing


def move_cine(cine: Tensor, timing: Timing, a: Augmentation, dice: Dice) -> tuple[Tensor, Timing]:
    """The part of the augmentation that moves pixels and frames, and leaves them eight bits: [B, S, T, H, W] to the same."""
    b, s, t, h, w = cine.shape
    if a.cine_shift:
        shift = dice.integers(2 * a.cine_shift + 1, b, 2) - a.cine_shift
        # Beyond the edge the outermost pixel goes on.
        rows, columns = (
            (torch.arange(n, device=cine.device) + shift[:, i : i + 1]).clamp(0, n - 1) for i, n in enumerate((h, w))
        )
        flat = cine.flatten(1, 2).gather(2, rows[:, None, :, None].expand(b, s * t, h, w))
        cine = flat.gather(3, columns[:, None, None].expand(b, s * t, h, w)).view(b, s, t, h, w)
    if a.cine_roll:
        first = dice.integers(t, b)
        frame = (torch.arange(t, device=cine.device) + first[:, None]) % t
        cine = cine.gather(2, frame[:, None, :, None, None].expand(b, s, t, h, w))
        timing = timing.changed(phase_0=(timing.phase_0 + first / t) % 1.0)
    return cine, timing


def intensity(n: int, a: Augmentation, dice: Dice) -> tuple[Tensor, Tensor]:
    """Gain and offset [n] of n cines."""
    one, zero = torch.ones(n, device=dice.device), torch.zeros(n, device=dice.device)
    gain = one + a.cine_gain * dice.normal(n) if a.cine_gain else one
    return gain, a.cine_offset * dice.normal(n) if a.cine_offset else zero


def shade(pixels: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """The model's input from eight bits [B, ..]: `cine_input` times the gain plus the offset of each cine, in one pass."""
    each = [-1] + [1] * (pixels.dim() - 1)
    return torch.addcmul((offset - gain / 2).view(each), pixels.float(), (gain / 128).view(each))
