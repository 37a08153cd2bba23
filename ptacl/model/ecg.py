"""The ECG encoder: a vision transformer over 100 ms of all leads, or of one lead, at a time."""

import torch
from torch import Tensor, nn

from ptacl.model.blocks import Size, Transformer, grid_sinusoids, pick

LEADS, CROP, TOKEN = 12, 2500, 50


class EcgEncoder(nn.Module):
    """ECG crop [B, 12, 2500], 5 s at 500 Hz, to one slot per 100 ms: [B, 50, D].

    `tokens`: `time`, one token of all leads per 100 ms behind a small convolutional stem; `lead_time`, one token per
    lead and 100 ms (600 tokens, about 14 times the cost), averaged over leads at the end.
    """

    slots, shape = CROP // TOKEN, (LEADS, CROP)

    def __init__(self, size: Size, tokens: str = "time") -> None:
        super().__init__()
        self.dim, self.kind = size.dim, tokens
        self.per_slot = LEADS if tokens == "lead_time" else 1
        self.length = self.slots * self.per_slot
        axes = [torch.arange(self.slots), torch.arange(LEADS)] if tokens == "lead_time" else [torch.arange(self.slots)]
        self.position = nn.Parameter(grid_sinusoids(axes, self.dim).view(self.length, self.dim))
        if tokens == "lead_time":
            self.stem: nn.Module = nn.Linear(TOKEN, self.dim)
        else:
            self.stem = nn.Sequential(
                nn.Conv1d(LEADS, 32, 15, stride=5, padding=5), nn.GELU(approximate="tanh"),
                nn.Conv1d(32, 64, 7, stride=5, padding=1), nn.GELU(approximate="tanh"),
                nn.Conv1d(64, self.dim, 4, stride=2, padding=1),
            )  # fmt: skip
        self.transformer = Transformer(size)

    def patches(self, x: Tensor) -> Tensor:
        """What each token stands for: [B, 50, 600], or [B, 600, 50] by lead; slot by slot. Raises ValueError."""
        self._check(x)
        return x.view(-1, LEADS, self.slots, TOKEN).transpose(1, 2).reshape(len(x), self.length, -1)

    def _check(self, x: Tensor) -> None:
        if x.shape[1:] != self.shape:
            raise ValueError(f"expected ECG crops of shape [B, {LEADS}, {CROP}], found {list(x.shape)}")

    def tokens(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Embedded tokens with their position, all or those of `keep` [B, m], before the transformer: [B, m, D]."""
        if self.kind == "lead_time":
            if keep is None:
                return self.stem(self.patches(x)) + self.position
            return self.stem(pick(self.patches(x), keep)) + self.position[keep]
        self._check(x)
        if keep is not None:
            # The stem overlaps its neighbours: what is left out must not be seen from beside it.
            seen = torch.zeros(len(x), self.slots, device=x.device, dtype=x.dtype).scatter(1, keep, 1.0)
            x = x * seen.repeat_interleave(TOKEN, dim=1)[:, None]
        embedded = self.stem(x).transpose(1, 2) + self.position
        return embedded if keep is None else pick(embedded, keep)

    def forward(self, x: Tensor) -> Tensor:
        encoded = self.transformer(self.tokens(x))
        return encoded.view(len(x), self.slots, self.per_slot, self.dim).mean(2)
