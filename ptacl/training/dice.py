"""Random numbers of one step of training, which follow from the seed and the step and from nothing else."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Streams of random numbers that must not be the same: the first part of their keys.
TRAINING, ORDER, VALIDATION = 0, 1, 2


@dataclass(frozen=True)
class Part:
    """One of several processes that share every batch evenly."""

    rank: int = 0
    of: int = 1

    def cut(self, x: Tensor) -> Tensor:
        """This process's part of the rows of x."""
        n = len(x) // self.of
        return x[self.rank * n : (self.rank + 1) * n]


class Dice:
    """Draws on the device, always for the joint batch, of which each process takes its part.

    So a resumed run draws what an unbroken one draws, and the number of processes changes nothing.
    """

    def __init__(self, device: torch.device, part: Part = Part()) -> None:  # noqa: B008 (frozen)
        self.generator, self.part = torch.Generator(device), part

    @property
    def device(self) -> torch.device:
        """Where the draws lie."""
        return self.generator.device

    def of_step(self, *key: int) -> "Dice":
        """Starts the stream of a key such as (TRAINING, seed, step); returns itself."""
        self.generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
        return self

    def uniform(self, n: int, *shape: int) -> Tensor:
        """float32 [n, *shape] in [0, 1), for the n rows of this process."""
        return self.part.cut(self.joint(n * self.part.of, *shape))

    def joint(self, n: int, *shape: int) -> Tensor:
        """The same, for all rows of the joint batch."""
        return torch.rand(n, *shape, generator=self.generator, device=self.device)

    def normal(self, n: int, *shape: int) -> Tensor:
        """float32 [n, *shape], mean 0 and SD 1."""
        return self.part.cut(torch.randn(n * self.part.of, *shape, generator=self.generator, device=self.device))

    def integers(self, below: int, n: int, *shape: int) -> Tensor:
        """int64 [n, *shape] from 0 to below - 1."""
        shape = (n * self.part.of, *shape)
        return self.part.cut(torch.randint(0, below, shape, generator=self.generator, device=self.device))
