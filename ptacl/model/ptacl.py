"""The paired model: two encoders, two heads, and what the losses need of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptacl.model import phase
from ptacl.model.encoders import CmrEncoder, EcgEncoder, projection_head
from ptacl.model.losses import global_loss, local_loss


@dataclass(frozen=True)
class LossSettings:
    """tau_g, tau_l: temperatures; beta: weight of the local loss; bins, kappa: phase bins and their width.

    correspondence: phase | shuffled (bins permuted within the patient) | other_patient (another patient's frames).
    """

    tau_g: float
    tau_l: float
    beta: float
    bins: int
    kappa: float
    correspondence: str = "phase"


class Ptacl(nn.Module):
    """ECG and CMR encoders with one projection head each. The losses add no weights."""

    def __init__(self, slices: int, frames: int, size: int) -> None:
        super().__init__()
        self.frames = frames
        self.ecg, self.cmr = EcgEncoder(), CmrEncoder(slices, frames, size)
        self.ecg_head, self.cmr_head = projection_head(), projection_head()

    def forward(self, ecg: Tensor, cine: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of both sides: [B, 50, D] and [B, slots, D]."""
        return self.ecg(ecg), self.cmr(cine)

    def losses(
        self,
        ecg_tokens: Tensor,
        cmr_tokens: Tensor,
        r_peaks: Tensor,
        phase_0: Tensor,
        phase_ok: Tensor,
        settings: LossSettings,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """`loss`, `global`, `local`, and the share of patients valid for the local loss (`valid`), all scalars."""
        global_ = global_loss(
            self.ecg_head(ecg_tokens.mean(1)), self.cmr_head(cmr_tokens.mean(1)), settings.tau_g
        )  # fmt: skip
        if settings.beta == 0:
            return {"loss": global_, "global": global_}
        e, f, valid = self.phase_bins(ecg_tokens, cmr_tokens, r_peaks, phase_0, phase_ok, settings)
        if settings.correspondence == "shuffled":
            order = torch.rand(f.shape[:2], generator=generator).argsort(1).to(f.device)
            f = f.gather(1, order[..., None].expand_as(f))
        elif settings.correspondence == "other_patient":
            f, valid = f.roll(1, 0), valid & valid.roll(1, 0)
        local = local_loss(e, f, settings.tau_l, valid)
        return {
            "loss": global_ + settings.beta * local, "global": global_, "local": local, "valid": valid.float().mean(),
        }  # fmt: skip

    def phase_bins(
        self, ecg_tokens: Tensor, cmr_tokens: Tensor, r_peaks: Tensor, phase_0: Tensor, phase_ok: Tensor,
        settings: LossSettings,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Projected phase bins of both sides [B, K, 128], and which patients are valid [B]."""
        phi, inside = phase.ecg_slot_phase(r_peaks)
        ecg_weights = phase.bin_weights(phi, settings.bins, settings.kappa, inside.to(phi.dtype))
        psi = phase.cmr_slot_phase(phase_0, self.frames)
        cmr_weights = phase.bin_weights(psi, settings.bins, settings.kappa)
        e = self.ecg_head(phase.pool(ecg_tokens.float(), ecg_weights))
        f = self.cmr_head(phase.pool(cmr_tokens.float(), cmr_weights))
        return e, f, phase.valid_patients(ecg_weights, cmr_weights, phase_ok)
