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
