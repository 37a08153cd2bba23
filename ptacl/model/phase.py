"""Cardiac phase of ECG slots and cine frames, and pooling of slots into phase bins.

Shapes: B patients, L slots, K phase bins, D features. Phases are shares of the cardiac cycle, 0 at the R wave.
"""

import math

import torch
from torch import Tensor

from ptacl.model.ecg import CROP, TOKEN
from ptacl.store.timing import Timing

RR_TOLERANCE = 0.20
MIN_WEIGHT = 0.1


def ecg_slot_phase(timing: Timing, warp: str = "linear") -> tuple[Tensor, Tensor]:
    """Phase [B, 50] of the slots' centres, and which lie in a complete beat (bool).

    Beats whose RR is more than 20 % from the median are masked. `warp`: `linear` in the RR interval; `systole`, the end
    of the T wave lies at the cine's end-systolic phase, linear on both sides of it (where one of them is unknown or
    absurd, linear throughout), because systole does not shorten in proportion to RR.
    """
    peaks = timing.r_peaks
    centres = TOKEN * (torch.arange(CROP // TOKEN, device=peaks.device, dtype=peaks.dtype) + 0.5)
    start, stop = peaks[:, :-1], peaks[:, 1:]
    rr = stop - start
    median = rr.nanquantile(0.5, dim=1, keepdim=True)
    regular = (rr - median).abs() <= RR_TOLERANCE * median  # False where NaN
    inside = (centres[:, None] >= start[:, None]) & (centres[:, None] < stop[:, None]) & regular[:, None]
    phase = (centres[:, None] - start[:, None]) / rr[:, None]
    if warp == "systole":
        phase = _warped(phase, (timing.t_end[:, None] / rr)[:, None], timing.es_phase[:, None, None])
    return torch.where(inside, phase, 0.0).sum(-1), inside.any(-1)


def systole_known(timing: Timing) -> Tensor:
    """Patients [B] whose end of systole is known on both sides, so that `systole` can warp a beat of median length."""
    rr = timing.r_peaks.diff(dim=1).nanquantile(0.5, dim=1)
    return (timing.t_end > 0) & (timing.t_end < rr) & (timing.es_phase > 0) & (timing.es_phase < 1)


def _warped(phase: Tensor, anchor: Tensor, place: Tensor) -> Tensor:
    """`phase` stretched so that `anchor` comes to lie at `place`; unchanged where these are not between 0 and 1."""
    known = (anchor > 0) & (anchor < 1) & (place > 0) & (place < 1)
    before, after = phase * place / anchor, 1 - (1 - phase) * (1 - place) / (1 - anchor)
    return torch.where(known, torch.where(phase < anchor, before, after), phase)


def cmr_slot_phase(phase_0: Tensor, frames: int, tubelet: int) -> Tensor:
    """Mean phase [B, frames / tubelet] of the frames of each slot: frame t has t / frames + phase_0 [B]."""
    t = torch.arange(frames, device=phase_0.device, dtype=phase_0.dtype).view(-1, tubelet).mean(1)
    return (t / frames + phase_0[:, None]) % 1.0


def bin_weights(phase: Tensor, bins: int, kappa: float, mask: Tensor | None = None) -> Tensor:
    """Weights [B, K, L] of slots at `phase` [B, L] in K bins with centres (k + 1/2) / K: exp(kappa (cos - 1))."""
    centres = (torch.arange(bins, device=phase.device, dtype=phase.dtype) + 0.5) / bins
    weights = torch.exp(kappa * (torch.cos(2 * math.pi * (phase[:, None, :] - centres[:, None])) - 1))
    return weights if mask is None else weights * mask[:, None, :]


def index_weights(slots: int, bins: int, like: Tensor) -> Tensor:
    """Weights [B, K, L] that put the slots into K equal parts of the recording, whatever their phase, for `like` [B]."""
    part = torch.arange(slots, device=like.device) * bins // slots
    return (part == torch.arange(bins, device=like.device)[:, None]).to(like.dtype).expand(len(like), -1, -1)


def pool(slots: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of slots [B, L, D] in every bin: [B, K, D]; zeros where a bin has no weight."""
    return (weights @ slots) / weights.sum(-1, keepdim=True).clamp_min(1e-6)


def enough_weight(weights: Tensor) -> Tensor:
    """Patients [B] whose every bin has weight enough."""
    return (weights.sum(-1) >= MIN_WEIGHT).all(-1)
