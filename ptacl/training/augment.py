"""Augmentation in batches, from an explicit generator. No flips: time and anatomy have a direction."""

import torch
import torch.nn.functional as F
from torch import Tensor

LEAD_GAIN, NOISE = 0.03, 0.04  # NOISE: largest SD, in units of the model's input (0.02 mV at 0.5 mV per unit)
SHIFT_PIXELS, CINE_GAIN, CINE_OFFSET = 2, 0.10, 0.10


def augment_ecg(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gain per lead and noise: [B, 12, n] to the same shape. Samples stay where they are, so R peaks do too."""
    b, leads, n = x.shape
    gain = 1 + LEAD_GAIN * torch.randn(b, leads, 1, generator=generator)
    level = NOISE * torch.rand(b, 1, 1, generator=generator)
    noise = torch.randn(b, leads, n, generator=generator)
    return x * gain.to(x.device) + (level * noise).to(x.device)


def augment_cine(x: Tensor, generator: torch.Generator) -> Tensor:
    """A shift of all frames together, gain and offset per cine: [B, S, T, H, W] to the same shape."""
    b, s, t, h, w = x.shape
    m = SHIFT_PIXELS
    padded = F.pad(x.flatten(1, 2), (m, m, m, m), mode="replicate")
    shift = torch.randint(0, 2 * m + 1, (b, 2), generator=generator).to(x.device)
    rows = (shift[:, :1] + torch.arange(h, device=x.device))[:, None, :, None]
    columns = (shift[:, 1:] + torch.arange(w, device=x.device))[:, None, None, :]
    moved = padded.gather(2, rows.expand(b, s * t, h, w + 2 * m)).gather(3, columns.expand(b, s * t, h, w))
    gain, offset = torch.randn(2, b, 1, 1, 1, 1, generator=generator).to(x.device)
    return moved.view(b, s, t, h, w) * (1 + CINE_GAIN * gain) + CINE_OFFSET * offset
