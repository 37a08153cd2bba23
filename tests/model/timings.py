"""Timing of batches, written down briefly."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ptacl.store.timing import Timing


def timing(
    *r_peaks: Sequence[float],
    phase_0: float | Sequence[float] = 0.0,
    usable: bool | Sequence[bool] = True,
    t_end: float | Sequence[float] = math.nan,
    es_phase: float | Sequence[float] = math.nan,
    dtype: torch.dtype = torch.float64,
) -> Timing:
    """One patient per list of R peaks (in samples of the crop); a single value of the others holds for everyone."""
    columns = max(2, *(len(p) for p in r_peaks))
    peaks = [[*p, *[math.nan] * (columns - len(p))] for p in r_peaks]

    def column(value: float | Sequence[float]) -> Tensor:
        return torch.tensor(value, dtype=dtype).expand(len(peaks)).clone()

    return Timing(
        r_peaks=torch.tensor(peaks, dtype=dtype),
        phase_0=column(phase_0),
        usable=torch.tensor(usable).expand(len(peaks)).clone(),
        t_end=column(t_end),
        es_phase=column(es_phase),
    )


def steady(rr: float, first: float = 0.0) -> list[float]:
    """R peaks every `rr` samples throughout the crop, one of them at `first`."""
    before = math.ceil((first + rr) / rr)
    return [first + rr * i for i in range(-before, math.ceil(2500 / rr) + 2)]
