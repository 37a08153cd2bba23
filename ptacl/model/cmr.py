"""The CMR encoder: a vision transformer over space-time tubelets of every slice; and the small one for a CPU."""

import torch
from torch import Tensor, nn

from ptacl.model.blocks import Size, Transformer, grid_sinusoids, pick

# Where the slices' positions lie, whatever their number: from base 0 to apex 10.
STACK_LENGTH = 10.0


class CmrEncoder(nn.Module):
    """Cine [B, S, T, H, W] to temporal slots [B, T / q, D], one per tubelet of q frames.

    A token is q frames x p x p pixels of one slice. The weights do not depend on the number of slices. Tokens are
    ordered slot by slot, so that any subset with equally many of each slot can be pooled.
    """

    def __init__(self, size: Size, slices: int, frames: int, pixels: int, tubelet: int = 5, patch: int = 16) -> None:
        super().__init__()
        if frames % tubelet or pixels % patch:
            raise ValueError(f"{frames} frames of {pixels} pixels can't be cut into tubelets of {tubelet} x {patch}")
        self.dim, self.frames, self.tubelet, self.patch = size.dim, frames, tubelet, patch
        self.shape = (slices, frames, pixels, pixels)
        self.slots, self.grid = frames // tubelet, pixels // patch
        self.per_slot = slices * self.grid**2
        self.length = self.slots * self.per_slot
        along = torch.arange(self.grid)
        stack = STACK_LENGTH * (torch.arange(slices) + 0.5) / slices
        position = grid_sinusoids([torch.arange(self.slots), stack, along, along], self.dim)
        self.position: Tensor
        self.register_buffer("position", position.view(self.length, self.dim), persistent=False)
        self.stem = nn.Linear(tubelet * patch**2, self.dim)
        self.transformer = Transformer(size)

    def patches(self, x: Tensor) -> Tensor:
        """The tubelets [B, L, q p p], slot by slot, then slice, row, column. Raises ValueError for another shape."""
        check_shape(x, self.shape)
        s, q, g, p = self.shape[0], self.tubelet, self.grid, self.patch
        cut = x.view(-1, s, self.slots, q, g, p, g, p).permute(0, 2, 1, 4, 6, 3, 5, 7)
        return cut.reshape(len(x), self.length, q * p * p)

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embedded tubelets with their position, all or those of `keep` [B, m], before the transformer: [B, m, D].

        x: cines, or the chosen tubelets [B, m, q p p] alone.
        """
        if keep is None:
            return self.stem(self.patches(x)) + self.position
        chosen = x if x.dim() == 3 else pick(self.patches(x), keep)
        return self.stem(chosen) + self.position[keep]

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """`keep` [B, m]: indices of the tubelets to look at, equally many of each slot and in the slots' order.

        x: cines, or the chosen tubelets [B, m, q p p] alone.
        """
        encoded = self.transformer(self.tokens(x, keep))
        return encoded.view(len(x), self.slots, -1, self.dim).mean(2)

    def random_subset(self, noise: Tensor, drop: float) -> Tensor:
        """Indices [B, m] of the tubelets that stay when a share `drop` of each slot is left out.

        `noise` [B, L] uniform: those with the smallest values of their slot stay.
        """
        stay = max(1, round(self.per_slot * (1 - drop)))
        chosen = noise.view(-1, self.slots, self.per_slot).argsort(dim=2)[..., :stay]
        first = torch.arange(self.slots, device=noise.device) * self.per_slot
        return (chosen + first[:, None]).flatten(1)


class TinyCmrEncoder(nn.Module):
    """Cine [B, S, T, H, W] to temporal slots [B, T / q, D]; the slices and q frames of a slot are channels.

    For two CPU cores. It has no tokens of space, so nothing to drop and no masked autoencoder.
    """

    def __init__(self, size: Size, slices: int, frames: int, pixels: int, tubelet: int = 2) -> None:
        super().__init__()
        if frames % tubelet or pixels % 8:
            raise ValueError(f"{frames} frames of {pixels} pixels can't be cut into slots of {tubelet} x 8 x 8")
        self.dim, self.frames, self.tubelet = size.dim, frames, tubelet
        self.shape = (slices, frames, pixels, pixels)
        self.slots = frames // tubelet
        self.stem = nn.Sequential(
            nn.Conv2d(slices * tubelet, 24, 4, stride=4), nn.GELU(approximate="tanh"),
            nn.Conv2d(24, 48, 2, stride=2), nn.GELU(approximate="tanh"),
            nn.Flatten(), nn.Linear(48 * (pixels // 8) ** 2, self.dim),
        )  # fmt: skip
        self.position = nn.Parameter(grid_sinusoids([torch.arange(self.slots)], self.dim))
        self.transformer = Transformer(size)

    def forward(self, x: Tensor) -> Tensor:
        check_shape(x, self.shape)
        b, s, _, h, w = x.shape
        slots = x.view(b, s, self.slots, self.tubelet, h, w).transpose(1, 2).reshape(b * self.slots, -1, h, w)
        return self.transformer(self.stem(slots).view(b, self.slots, self.dim) + self.position)


def check_shape(x: Tensor, expected: tuple[int, ...]) -> None:
    """Raises ValueError unless x is [B, *expected]."""
    if x.shape[1:] != expected:
        raise ValueError(f"expected cines of shape [B, {', '.join(map(str, expected))}], found {list(x.shape)}")
