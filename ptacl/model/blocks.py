"""The transformer block and position embeddings that both encoders share."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


def sinusoids(length: int, dim: int) -> Tensor:
    """Sinusoidal positions [length, dim] of amplitude 1: with 0.1 the masked autoencoder stays on its plateau."""
    position = torch.arange(length)[:, None]
    frequency = torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2))
    return torch.cat([torch.sin(position * frequency), torch.cos(position * frequency)], dim=1)
