"""What links the two recordings of a pair in time."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Timing:
    """What links the two recordings of every patient of a batch.

    r_peaks [B, P]: samples of the crop, ascending, padded with NaN; peaks outside the crop count. phase_0 [B]: phase of
    the first frame. usable [B] bool: whether there is a rhythm to speak of phase. t_end [B]: samples from R peak to the
    end of the T wave, and es_phase [B]: phase of the end-systolic frame; both NaN where unknown.
    """

    r_peaks: Tensor
    phase_0: Tensor
    usable: Tensor
    t_end: Tensor
    es_phase: Tensor

    def of(self, rows: Tensor) -> "Timing":
        """Those of some patients."""
        return Timing(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def joined(cls, parts: Sequence["Timing"]) -> "Timing":
        """That of several batches, one after the other."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def to(self, device: torch.device) -> "Timing":
        """The same on another device."""
        return Timing(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def changed(self, **values: Tensor) -> "Timing":
        """The same with other values of some fields."""
        return replace(self, **values)
