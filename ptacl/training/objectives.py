"""What one step of training minimises: the masked autoencoder, or the contrastive losses."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ptacl.model.encoders import MaskedAutoencoder
from ptacl.model.ptacl import LossSettings, Ptacl
from ptacl.store.dataset import CROP, STRIP, PairedDataset
from ptacl.training.augment import augment_cine, augment_ecg
from ptacl.training.metrics import patient_retrieval, phase_retrieval

MIDDLE = (STRIP - CROP) // 2


class Objective(Protocol):
    """A model with its losses on a batch and its scores on the validation split."""

    model: nn.Module
    one_visit_each: bool

    def step(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]: ...

    def validate(self, rows: Tensor) -> dict[str, float]: ...

    def better(self, scores: Mapping[str, float]) -> float | None: ...


def _random_starts(n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(0, STRIP - CROP + 1, (n,), generator=generator).to(device)


class MaeObjective:
    """Restoring hidden parts of the ECG; the last weights are kept."""

    one_visit_each = False

    def __init__(self, model: MaskedAutoencoder, data: PairedDataset, scale_mv: float, seed: int) -> None:
        self.model, self.data, self.scale_mv, self.seed = model, data, scale_mv, seed

    def _losses(self, rows: Tensor, start: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x, _ = self.data.ecg_batch(rows, start, self.scale_mv)
        noise = torch.rand(len(rows), self.model.length, generator=generator).to(x.device)
        loss, variance = self.model(x, noise)
        return {"loss": loss, "unexplained": loss / variance}

    def step(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch of random crops."""
        return self._losses(rows, _random_starts(len(rows), generator, rows.device), generator)

    def validate(self, rows: Tensor) -> dict[str, float]:
        """The loss on middle crops, always with the same tokens hidden."""
        generator = torch.Generator().manual_seed(self.seed)
        start = torch.full((len(rows),), MIDDLE, device=rows.device)
        return {k: v.item() for k, v in self._losses(rows, start, generator).items()} if len(rows) else {}

    def better(self, scores: Mapping[str, float]) -> float | None:
        """None: the last epoch stands."""
        return None


class ContrastiveObjective:
    """The global and, with beta above 0, the local loss; the weights with the best validation retrieval are kept."""

    one_visit_each = True

    def __init__(self, model: Ptacl, data: PairedDataset, scale_mv: float, settings: LossSettings) -> None:
        self.model, self.data, self.scale_mv, self.settings = model, data, scale_mv, settings

    def step(self, rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of an augmented batch of random crops."""
        d = self.data
        x, r_peaks = d.ecg_batch(rows, _random_starts(len(rows), generator, rows.device), self.scale_mv)
        tokens = self.model(augment_ecg(x, generator), augment_cine(d.cine_batch(rows), generator))
        return self.model.losses(*tokens, r_peaks, d.phase_0[rows], d.phase_ok[rows], self.settings, generator)

    def validate(self, rows: Tensor) -> dict[str, float]:
        """Losses, patient retrieval and phase retrieval on middle crops of the whole split."""
        if len(rows) < 2:
            return {}
        d, m = self.data, self.model
        ecg_tokens, cmr_tokens, peaks = [], [], []
        for part in rows.split(256):
            x, r_peaks = d.ecg_batch(part, torch.full((len(part),), MIDDLE, device=part.device), self.scale_mv)
            e, c = m(x, d.cine_batch(part))
            ecg_tokens.append(e)
            cmr_tokens.append(c)
            peaks.append(r_peaks)
        e, c, r_peaks = torch.cat(ecg_tokens), torch.cat(cmr_tokens), torch.cat(peaks)
        generator = torch.Generator().manual_seed(0)
        losses = m.losses(e, c, r_peaks, d.phase_0[rows], d.phase_ok[rows], self.settings, generator)
        bins_e, bins_c, valid = m.phase_bins(e, c, r_peaks, d.phase_0[rows], d.phase_ok[rows], self.settings)
        return (
            {k: v.item() for k, v in losses.items()}
            | patient_retrieval(m.ecg_head(e.mean(1)), m.cmr_head(c.mean(1)))
            | phase_retrieval(bins_e[valid], bins_c[valid])
        )

    def better(self, scores: Mapping[str, float]) -> float | None:
        """Mean reciprocal rank of the own partner on the validation split."""
        return scores.get("patient_mrr")


def loss_settings(settings: Mapping[str, Any]) -> LossSettings:
    """Losses of a contrastive method from a stage's settings."""
    c, loss = settings["contrastive"], settings["method"].get("loss", {})
    return LossSettings(
        tau_g=c["tau_g"], tau_l=c["tau_l"], beta=loss.get("beta", 1.0), bins=c["bins"], kappa=c["kappa"],
        correspondence=loss.get("correspondence", "phase"),
    )  # fmt: skip
