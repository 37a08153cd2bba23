"""Masked autoencoding (He et al., 2022) of either kind of recording: the warm start of the contrastive stage."""

import torch
from torch import Tensor, nn

from ptacl.model.blocks import Block, Size, grid_sinusoids
from ptacl.model.cmr import CmrEncoder
from ptacl.model.ecg import EcgEncoder

# Width, depth and heads of the decoder by width of the encoder: a light one, since it is thrown away.
NARROW, WIDE, WIDE_FROM = Size(64, 1, 4), Size(192, 2, 6), 384


class MaskedAutoencoder(nn.Module):
    """An encoder that sees a share 1 - `mask` of the tokens, and a small decoder that restores the others."""

    def __init__(self, encoder: EcgEncoder | CmrEncoder, mask: float) -> None:
        super().__init__()
        size = WIDE if encoder.dim >= WIDE_FROM else NARROW
        self.encoder, self.length = encoder, encoder.length
        self.keep = min(self.length - 1, max(1, round(self.length * (1 - mask))))
        self.narrow = nn.Linear(encoder.dim, size.dim)
        self.hidden = nn.Parameter(0.02 * torch.randn(size.dim))
        axes = [torch.arange(encoder.slots), torch.arange(encoder.per_slot)]
        position = grid_sinusoids(axes if encoder.per_slot > 1 else axes[:1], size.dim)
        self.position: Tensor
        self.register_buffer("position", position.view(self.length, size.dim), persistent=False)
        self.decoder = nn.Sequential(*(Block(size.dim, size.heads) for _ in range(size.depth)))
        self.output = nn.Linear(size.dim, encoder.patches(torch.zeros(1, *encoder.shape)).shape[-1])

    def restore(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Every patch [B, L, P] as the decoder restores it, and which were hidden [B, L] (1 or 0).

        `noise` [B, L]: the tokens with the smallest values are shown.
        """
        shown = noise.argsort(dim=1)[:, : self.keep]
        encoded = self.narrow(self.encoder.transformer(self.encoder.tokens(x, shown)))
        index = shown[..., None].expand(-1, -1, encoded.shape[-1])
        full = self.hidden.to(encoded.dtype).expand(len(x), self.length, -1).scatter(1, index, encoded)
        hidden = torch.ones(len(x), self.length, device=x.device).scatter(1, shown, 0.0)
        return self.output(self.decoder(full + self.position)), hidden

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error over hidden patches, and the variance of what was hidden (both scalars)."""
        restored, hidden = self.restore(x, noise)
        target, weight = self.encoder.patches(x).float(), hidden / hidden.sum()
        mean = (target.mean(-1) * weight).sum()
        error = (restored.float() - target).square().mean(-1)
        return (error * weight).sum(), ((target - mean).square().mean(-1) * weight).sum()
