"""The losses of PTACL, in fp32 whatever the model runs in (in fp64 where it does).

After Selivanov et al., MICCAI 2025 (arXiv 2506.20683), guided by the published abstract; the form is ours (docs/method.md).
Shapes: B patients, K phase bins, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# Residuals shorter than this share of the typical embedding are rounding, not signal: their direction means nothing.
NEGLIGIBLE = 1e-4


def global_loss(ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE over patients: `ecg`, `cmr` [B, D] (normalised here), scalar.

    `valid` [B] bool: the others are neither query nor candidate, and get a gradient of exactly 0.
    """
    similarity = _products(_unit(ecg), _unit(cmr)) / temperature
    return _infonce(similarity[None], None if valid is None else valid[None])


def local_loss(
    ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None, *, soft: float | None = None
) -> Tensor:
    """Symmetric InfoNCE over the phase bins within each patient: `ecg`, `cmr` [B, K, D] (normalised here), scalar.

    `valid` [B] bool: mean over valid patients only. `valid` [B, K]: invalid bins are neither query nor candidate.
    Without anything valid the loss is 0 with a gradient of 0, not NaN. `soft`: neighbouring bins are positives too, with
    weight exp(-soft d) at a circular distance of d bins; None: the own bin only.
    """
    similarity = _products(_unit(ecg), _unit(cmr)) / temperature
    if valid is not None and valid.dim() == 1:
        valid = valid[:, None].expand(similarity.shape[:2])
    positives = None if soft is None else torch.exp(-soft * circular_distance(similarity.shape[1], similarity))
    return _infonce(similarity, valid, positives)


def residual_loss(ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE over patients on the mean similarity of equal bins of residuals [B, K, D] (normalised here).

    With `ecg` and `cmr` from `residual`, an embedding that holds nothing but phase leaves it at log B.
    """
    b, k, _ = ecg.shape
    similarity = _products(_unit(ecg).reshape(b, -1), _unit(cmr).reshape(b, -1)) / (k * temperature)
    return _infonce(similarity[None], None if valid is None else valid[None])


def residual(x: Tensor, valid: Tensor) -> Tensor:
    """What sets patients apart at each phase: x [B, K, D] less its mean over the `valid` [B] patients, of unit length.

    Zero where nothing is left, so that a pure phase code has a similarity of 0 with everything.
    """
    x = full_precision(x)
    weight = valid.to(x.dtype)[:, None, None]
    mean = (x * weight).sum(0) / weight.sum().clamp_min(1)
    typical = ((x.detach().square().sum(-1, keepdim=True) * weight).sum(0) / weight.sum().clamp_min(1)).sqrt()
    left = x - mean
    length = left.norm(dim=-1, keepdim=True)
    return torch.where(length > NEGLIGIBLE * typical, left / length.clamp_min(1e-30), 0.0)


def circular_distance(bins: int, like: Tensor) -> Tensor:
    """Distance [K, K] between phase bins around the cycle, in bins, as numbers like those of `like`."""
    k = torch.arange(bins, device=like.device, dtype=like.dtype)
    apart = (k[:, None] - k).abs()
    return torch.minimum(apart, bins - apart)


def _infonce(similarity: Tensor, valid: Tensor | None, positives: Tensor | None = None) -> Tensor:
    """Both directions of InfoNCE of [G, N, N] similarities, mean within each group and then over groups; scalar.

    `valid` [G, N]: the others are neither query nor candidate; groups without any are left out. `positives` [N, N]:
    weights of candidates, made to sum to 1 over the valid ones; None: the diagonal.
    """
    g, n, _ = similarity.shape
    valid = torch.ones(g, n, dtype=torch.bool, device=similarity.device) if valid is None else valid
    own = torch.eye(n, device=similarity.device, dtype=similarity.dtype)
    target = own if positives is None else positives
    # A large finite number instead of -inf, and the own candidate kept: rows without any must not make NaN gradients.
    hidden = ~valid[:, None, :] & (own == 0)
    target = (target * ~hidden).expand(g, n, n)
    target = target / target.sum(-1, keepdim=True)
    terms = sum(
        (target * torch.log_softmax(z.masked_fill(hidden, -1e9), dim=-1)).sum(-1)
        for z in (similarity, similarity.transpose(1, 2))
    )
    per_query = torch.where(valid, -0.5 * terms, 0.0)
    per_group = per_query.sum(1) / valid.sum(1).clamp_min(1)
    return per_group.sum() / valid.any(1).sum().clamp_min(1)


def _products(x: Tensor, y: Tensor) -> Tensor:
    """x y^T, outside autocast, which would multiply in bf16."""
    with torch.autocast(x.device.type, enabled=False):
        return x @ y.transpose(-1, -2)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(full_precision(x), dim=-1)


def full_precision(x: Tensor) -> Tensor:
    """x in fp32, or in fp64 where it is that already."""
    return x if x.dtype == torch.float64 else x.float()
