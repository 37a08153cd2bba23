"""AdamW with a cosine schedule, and slower steps for earlier layers when labels are learnt."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

BETAS, WARM_UP = (0.9, 0.98), 0.08


def adamw(model: nn.Module, settings: Mapping[str, Any]) -> torch.optim.AdamW:
    """Fused AdamW, no decay for vectors; `settings`: lr, weight_decay, and layer_decay where layers differ in their rate.

    Each group carries its `scale`, layer_decay to the number of layers above; `set_rate` multiplies by it.
    """
    decay, depth = settings.get("layer_decay", 1.0), _depth(model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        scale = decay ** (depth + 1 - _layer(name, depth))
        groups.setdefault((scale, settings["weight_decay"] if parameter.ndim > 1 else 0.0), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "weight_decay": wd, "scale": scale} for (scale, wd), p in groups.items()],
        lr=settings["lr"], betas=BETAS, fused=True,
    )  # fmt: skip


def rate(step: int, steps: int, lr: float) -> float:
    """Learning rate of a step: linear warm-up over 8 % of the steps, then a cosine to zero."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return lr * (step + 1) / warm
    return lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group its share of the rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def _depth(model: nn.Module) -> int:
    return (
        max((int(m[1]) for n, _ in model.named_parameters() if (m := re.search(r"\.blocks\.(\d+)\.", n))), default=-1)
        + 1
    )


def _layer(name: str, depth: int) -> int:
    """0 for stem and positions, 1 .. depth for blocks, depth + 1 for what lies above them."""
    if m := re.search(r"\.blocks\.(\d+)\.", name):
        return int(m[1]) + 1
    return 0 if re.search(r"(^|\.)(stem|position)\b", name) else depth + 1
