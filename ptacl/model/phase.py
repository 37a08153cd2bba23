"""Cardiac phase of ECG slots and cine frames, and pooling of tokens into phase bins."""

import math

import torch
from torch import Tensor

from ptacl.model.encoders import CROP, FRAMES_PER_SLOT, TOKEN

RR_TOLERANCE = 0.20
MIN_WEIGHT = 0.1


def ecg_slot_phase(r_peaks: Tensor) -> tuple[Tensor, Tensor]:
    """Phase [B, 50] of the slots' centres, and which lie in a complete beat (bool).

    `r_peaks` [B, P] in samples of the crop, ascending, padded with NaN; peaks outside the crop count. Beats whose RR
    is more than 20 % from the median are masked.
    """
    centres = TOKEN * (torch.arange(CROP // TOKEN, device=r_peaks.device, dtype=r_peaks.dtype) + 0.5)
    start, stop = r_peaks[:, :-1], r_peaks[:, 1:]
    rr = stop - start
    median = rr.nanquantile(0.5, dim=1, keepdim=True)
    regular = (rr - median).abs() <= RR_TOLERANCE * median  # False where NaN
    inside = (centres[:, None] >= start[:, None]) & (centres[:, None] < stop[:, None]) & regular[:, None]
    phase = torch.where(inside, (centres[:, None] - start[:, None]) / rr[:, None], 0.0).sum(-1)
    return phase, inside.any(-1)


def cmr_slot_phase(phase_0: Tensor, frames: int) -> Tensor:
    """Mean phase [B, frames / 2] of the frames of each slot: frame t has t / frames + phase_0 [B]."""
    t = torch.arange(frames, device=phase_0.device, dtype=phase_0.dtype).view(-1, FRAMES_PER_SLOT).mean(1)
    return (t / frames + phase_0[:, None]) % 1.0


def bin_weights(phase: Tensor, bins: int, kappa: float, mask: Tensor | None = None) -> Tensor:
    """Weights [B, K, L] of slots at `phase` [B, L] in K bins with centres (k + 1/2) / K: exp(kappa (cos - 1))."""
    centres = (torch.arange(bins, device=phase.device, dtype=phase.dtype) + 0.5) / bins
    weights = torch.exp(kappa * (torch.cos(2 * math.pi * (phase[:, None, :] - centres[:, None])) - 1))
    return weights if mask is None else weights * mask[:, None, :]


def pool(tokens: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of tokens [B, L, D] in every bin: [B, K, D]; zeros where a bin has no weight."""
    return (weights @ tokens) / weights.sum(-1, keepdim=True).clamp_min(1e-6)


def valid_patients(ecg_weights: Tensor, cmr_weights: Tensor, phase_ok: Tensor) -> Tensor:
    """Patients whose every bin has weight enough on both sides, bool [B]."""
    enough = [(w.sum(-1) >= MIN_WEIGHT).all(-1) for w in (ecg_weights, cmr_weights)]
    return enough[0] & enough[1] & phase_ok
