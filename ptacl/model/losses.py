"""The two losses of PTACL, in fp32 whatever the model runs in.

After Selivanov et al., MICCAI 2025 (arXiv 2506.20683), guided by the published abstract; the form is ours (docs/method.md).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def global_loss(ecg: Tensor, cmr: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE over patients: `ecg`, `cmr` [B, D] (normalised here), scalar."""
    u, v = F.normalize(_full(ecg), dim=-1), F.normalize(_full(cmr), dim=-1)
    similarity = u @ v.T / temperature
    target = torch.arange(len(u), device=u.device)
    return 0.5 * (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target))


def local_loss(ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE over the phase bins within each patient: `ecg`, `cmr` [B, K, D] (normalised here), scalar.

    `valid` [B] bool: mean over valid patients only. `valid` [B, K]: invalid bins are neither query nor candidate.
    Without anything valid the loss is 0 with a gradient of 0, not NaN.
    """
    e, f = F.normalize(_full(ecg), dim=-1), F.normalize(_full(cmr), dim=-1)
    similarity = e @ f.transpose(1, 2) / temperature
    b, k, _ = similarity.shape
    bins = torch.ones(b, k, dtype=torch.bool, device=e.device) if valid is None else valid
    if bins.dim() == 1:
        bins = bins[:, None].expand(b, k)
    # A large finite number instead of -inf: a patient without any valid bin must not make NaN gradients.
    hidden = ~bins
    target = torch.arange(k, device=e.device).expand(b, k)
    losses = []
    for z in (similarity, similarity.transpose(1, 2)):
        z = z.masked_fill(hidden[:, None, :] & ~torch.eye(k, dtype=torch.bool, device=e.device), -1e9)
        losses.append(F.cross_entropy(z.flatten(0, 1), target.flatten(), reduction="none").view(b, k))
    per_bin = 0.5 * (losses[0] + losses[1]) * bins
    per_patient = per_bin.sum(1) / bins.sum(1).clamp_min(1)
    counted = bins.any(1)
    return (per_patient * counted).sum() / counted.sum().clamp_min(1)


def _full(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
