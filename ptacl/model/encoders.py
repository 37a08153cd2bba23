"""The two encoders, size `tiny`: 64-dimensional, for two CPU cores."""

import torch
from torch import Tensor, nn

from ptacl.model.blocks import Block, sinusoids

LEADS, CROP, TOKEN = 12, 2500, 50
DIM, DEPTH, HEADS, PROJECTION = 64, 2, 4, 128
FRAMES_PER_SLOT = 2


class EcgEncoder(nn.Module):
    """ECG crop [B, 12, 2500] to tokens [B, 50, D], one per 100 ms of all leads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv1d(LEADS, 32, 15, stride=5, padding=5), nn.GELU(approximate="tanh"),
            nn.Conv1d(32, 64, 7, stride=5, padding=1), nn.GELU(approximate="tanh"),
            nn.Conv1d(64, DIM, 4, stride=2, padding=1),
        )  # fmt: skip
        self.position = nn.Parameter(sinusoids(CROP // TOKEN, DIM))
        self.blocks = nn.ModuleList(Block(DIM, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)

    def tokens(self, x: Tensor) -> Tensor:
        """Embedded tokens with their position, before the transformer. Raises ValueError for another shape."""
        if x.shape[1:] != (LEADS, CROP):
            raise ValueError(f"expected ECG crops of shape [B, {LEADS}, {CROP}], found {list(x.shape)}")
        return self.stem(x).transpose(1, 2) + self.position

    def transform(self, tokens: Tensor) -> Tensor:
        """Any subset of tokens [B, L, D] through the transformer."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(self.tokens(x))


class CmrEncoder(nn.Module):
    """Cine [B, S, T, H, W] to temporal slots [B, T / 2, D]; slices and the two frames of a slot are channels."""

    def __init__(self, slices: int, frames: int, size: int) -> None:
        super().__init__()
        self.shape = (slices, frames, size, size)
        self.slots = frames // FRAMES_PER_SLOT
        self.stem = nn.Sequential(
            nn.Conv2d(slices * FRAMES_PER_SLOT, 24, 4, stride=4), nn.GELU(approximate="tanh"),
            nn.Conv2d(24, 48, 2, stride=2), nn.GELU(approximate="tanh"),
            nn.Flatten(), nn.Linear(48 * (size // 8) ** 2, DIM),
        )  # fmt: skip
        self.position = nn.Parameter(sinusoids(self.slots, DIM))
        self.blocks = nn.ModuleList(Block(DIM, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            raise ValueError(f"expected cines of shape [B, {', '.join(map(str, self.shape))}], found {list(x.shape)}")
        b, s, t, h, w = x.shape
        slots = x.view(b, s, self.slots, FRAMES_PER_SLOT, h, w).transpose(1, 2).reshape(b * self.slots, -1, h, w)
        tokens = self.stem(slots).view(b, self.slots, DIM) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


def projection_head() -> nn.Sequential:
    """MLP [.., D] to [.., 128], one per modality, used by the global and the local loss alike."""
    return nn.Sequential(nn.Linear(DIM, DIM), nn.GELU(approximate="tanh"), nn.Linear(DIM, PROJECTION))


class MaskedAutoencoder(nn.Module):
    """ECG encoder with a small decoder that restores hidden tokens (He et al., 2022)."""

    DECODER_DIM = 64

    def __init__(self, encoder: EcgEncoder, mask: float) -> None:
        super().__init__()
        self.encoder, self.length = encoder, CROP // TOKEN
        self.keep = max(1, round(self.length * (1 - mask)))
        self.narrow = nn.Linear(DIM, self.DECODER_DIM)
        self.hidden = nn.Parameter(0.02 * torch.randn(self.DECODER_DIM))
        self.register_buffer("position", sinusoids(self.length, self.DECODER_DIM), persistent=False)
        self.decoder = Block(self.DECODER_DIM, HEADS)
        self.output = nn.Linear(self.DECODER_DIM, LEADS * TOKEN)

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error over hidden tokens, and the variance of what was hidden (both scalars).

        `noise` [B, 50]: the tokens with the smallest values are shown.
        """
        b = x.shape[0]
        shown = noise.argsort(dim=1)[:, : self.keep]
        index = shown[..., None]
        tokens = self.encoder.tokens(x)
        encoded = self.narrow(self.encoder.transform(tokens.gather(1, index.expand(-1, -1, DIM))))
        full = self.hidden.to(encoded.dtype).expand(b, self.length, -1).scatter(
            1, index.expand(-1, -1, self.DECODER_DIM), encoded
        )  # fmt: skip
        restored = self.output(self.decoder(full + self.position)).float()
        target = x.view(b, LEADS, self.length, TOKEN).transpose(1, 2).reshape(b, self.length, -1)
        hidden = torch.ones(b, self.length, device=x.device).scatter(1, shown, 0.0)
        error = (restored - target).square().mean(-1)
        return (error * hidden).sum() / hidden.sum(), (target.square().mean(-1) * hidden).sum() / hidden.sum()
