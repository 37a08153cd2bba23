"""What is watched on the validation split: patient retrieval and phase retrieval, told apart."""

import torch
import torch.nn.functional as F
from torch import Tensor


def patient_retrieval(ecg: Tensor, cmr: Tensor) -> dict[str, float]:
    """Recall at 1 and 10 and mean reciprocal rank, mean of both directions, of projections [n, 128].

    Ties count against the true partner.
    """
    similarity = F.normalize(ecg, dim=-1) @ F.normalize(cmr, dim=-1).T
    own = similarity.diagonal()
    ranks = torch.cat([(similarity >= own[:, None]).sum(1), (similarity >= own[None]).sum(0)]).double()
    return {
        "patient_r1": (ranks <= 1).double().mean().item(),
        "patient_r10": (ranks <= 10).double().mean().item(),
        "patient_mrr": (1 / ranks).mean().item(),
    }


def phase_retrieval(ecg: Tensor, cmr: Tensor) -> dict[str, float]:
    """Share of ECG bins whose nearest frame bin is the right one, on own and on another patient's frames.

    `ecg`, `cmr` [n, K, 128] of valid patients. `frame_cosine`: mean cosine between different bins of one cine.
    """
    if len(ecg) < 2:
        return {}
    e, f = F.normalize(ecg, dim=-1), F.normalize(cmr, dim=-1)
    k = e.shape[1]
    right = torch.arange(k, device=e.device)

    def accuracy(frames: Tensor) -> float:
        return ((e @ frames.transpose(1, 2)).argmax(2) == right).double().mean().item()

    between = f @ f.transpose(1, 2)
    return {
        "phase_acc_own": accuracy(f),
        "phase_acc_other": accuracy(f.roll(1, 0)),
        "frame_cosine": ((between.sum((1, 2)) - k) / (k * k - k)).mean().item(),
    }


def r2(predicted: Tensor, labels: Tensor) -> dict[str, float]:
    """`r2`: mean over labels of 1 - mean squared error / variance, of [n, targets] with NaN where a label is unknown."""
    known = labels.isfinite()
    counted = known.sum(0) >= 2
    if not counted.any():
        return {}
    n = known.sum(0).clamp_min(1)
    truth = labels.nan_to_num()
    error = torch.where(known, predicted - truth, 0.0).square().sum(0) / n
    mean = truth.sum(0) / n
    variance = torch.where(known, truth - mean, 0.0).square().sum(0) / n
    score = 1 - error / variance.clamp_min(1e-12)
    return {"r2": score[counted].mean().item(), "loss": error[counted].mean().item()}
