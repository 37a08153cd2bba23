"""What the encoders share: sizes, the transformer block, position embeddings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Size(NamedTuple):
    """Width of the tokens, number of blocks, attention heads."""

    dim: int
    depth: int
    heads: int


ECG_SIZES = {"tiny": Size(64, 2, 4), "small": Size(384, 3, 6), "base": Size(768, 12, 12)}
CMR_SIZES = {"tiny": Size(64, 2, 4), "small": Size(384, 4, 6), "base": Size(768, 12, 12)}


class Block(nn.Module):
    """Pre-norm self-attention and MLP: [B, L, D] to [B, L, D]."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, mlp_ratio * dim), nn.GELU(approximate="tanh"), nn.Linear(mlp_ratio * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A stack of blocks and a last norm: [B, L, D] to [B, L, D], for any subset of tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(size.dim, size.heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(size.dim)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


def sinusoids(position: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding [n, dim] of positions [n], of amplitude 1: with 0.1 the masked autoencoder stays on its plateau."""
    frequency = torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2))
    angle = position[:, None] * frequency
    return torch.cat([torch.sin(angle), torch.cos(angle)], dim=1)


def grid_sinusoids(axes: Sequence[Tensor], dim: int) -> Tensor:
    """Embedding [n1, n2, .., dim] of a grid with positions `axes` ([n1], [n2], ..); every axis has its own part of `dim`."""
    if dim % (2 * len(axes)):
        raise ValueError(f"a width of {dim} can't be shared by {len(axes)} axes")
    share, shape = dim // len(axes), [len(a) for a in axes]
    parts = []
    for i, axis in enumerate(axes):
        view = [len(axis) if j == i else 1 for j in range(len(axes))]
        parts.append(sinusoids(axis, share).view(*view, share).expand(*shape, share))
    return torch.cat(parts, dim=-1)


def pick(x: Tensor, keep: Tensor) -> Tensor:
    """Tokens `keep` [B, m] of x [B, L, D]: [B, m, D]."""
    return x.gather(1, keep[..., None].expand(-1, -1, x.shape[-1]))
