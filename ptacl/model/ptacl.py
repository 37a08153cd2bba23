"""The paired model: two encoders, two heads, and what the losses need of a batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ptacl.model import phase
from ptacl.model.build import cmr_encoder, ecg_encoder, projection_head
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.losses import global_loss, local_loss, residual, residual_loss
from ptacl.store.timing import Timing


@dataclass(frozen=True)
class LossSettings:
    """What the losses of a method are.

    tau_g, tau_l: temperatures. beta, gamma: weights of the local and of the residual loss. bins, kappa: phase bins and their
    width. correspondence: `phase` | `index` (k-th parts of both recordings) | `shuffled` (control: bins permuted within
    the patient) | `other_patient` (control: another patient's frames). warp: `linear` | `systole`. soft: see `local_loss`.
    center: the patient's own mean over time is taken away before the head. residual: `none` | `within` (residuals
    instead of embeddings in the local loss) | `across` (patients contrasted on residuals, beside the local loss).
    """

    bins: int
    kappa: float
    tau_g: float = 0.1
    tau_l: float = 0.1
    beta: float = 1.0
    gamma: float = 1.0
    correspondence: str = "phase"
    warp: str = "linear"
    soft: float | None = None
    center: bool = False
    residual: str = "none"


class Ptacl(nn.Module):
    """ECG and CMR encoders with one projection head each. The losses add no weights."""

    def __init__(self, ecg: EcgEncoder, cmr: CmrEncoder | TinyCmrEncoder) -> None:
        super().__init__()
        self.ecg, self.cmr = ecg, cmr
        self.ecg_head, self.cmr_head = projection_head(ecg.dim), projection_head(cmr.dim)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "Ptacl":
        """`settings`: those of a stage, with the sections encoder and cmr."""
        return cls(ecg_encoder(settings["encoder"]), cmr_encoder(settings["encoder"], settings["cmr"]))

    def forward(self, ecg: Tensor, cine: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Slots of both sides, [B, 50, D] and [B, slots, D]. `keep`: the tubelets that count (see `CmrEncoder`)."""
        return self.ecg(ecg), self.cmr(cine) if keep is None else self.cmr(cine, keep)

    def project(self, ecg_slots: Tensor, cmr_slots: Tensor) -> tuple[Tensor, Tensor]:
        """Projections of whole recordings, [B, 128] each."""
        return self.ecg_head(ecg_slots.mean(1)), self.cmr_head(cmr_slots.mean(1))

    def cmr_bin_weights(self, timing: Timing, settings: LossSettings) -> Tensor:
        """Weights of the cine's slots in the phase bins, [B, K, slots]."""
        if settings.correspondence == "index":
            return phase.index_weights(self.cmr.slots, settings.bins, timing.phase_0).expand(
                len(timing.phase_0), -1, -1
            )
        psi = phase.cmr_slot_phase(timing.phase_0, self.cmr.frames, self.cmr.tubelet)
        return phase.bin_weights(psi, settings.bins, settings.kappa)

    def phase_bins(
        self, ecg_slots: Tensor, cmr_slots: Tensor, timing: Timing, settings: LossSettings
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Projected phase bins of both sides [B, K, 128], and which patients are valid [B]."""
        ecg_weights, cmr_weights = ecg_bin_weights(timing, settings), self.cmr_bin_weights(timing, settings)
        valid = phase.enough_weight(ecg_weights) & phase.enough_weight(cmr_weights) & takes_part(timing, settings)
        e = self.ecg_head(pooled(ecg_slots, ecg_weights, settings.center))
        f = self.cmr_head(pooled(cmr_slots, cmr_weights, settings.center))
        return e, f, valid

    def losses(
        self,
        ecg_slots: Tensor,
        cmr_slots: Tensor,
        timing: Timing,
        settings: LossSettings,
        order: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = lambda x: x,
    ) -> dict[str, Tensor]:
        """`loss` and its parts `global`, `local`, `residual`, and the shares of patients `valid` for
        the local loss and `warped`; scalars.

        `order` [B, K]: for `shuffled`, the permutation of every patient's bins. `gather` joins the parts of a batch that
        lie with several processes, with gradient, so that every process has the loss of the joint batch.
        """
        u, v = self.project(ecg_slots, cmr_slots)
        parts = {"global": global_loss(gather(u), gather(v), settings.tau_g)}
        loss = parts["global"]
        if settings.beta > 0 or settings.residual == "across":
            e, f, valid = map(gather, self.phase_bins(ecg_slots, cmr_slots, timing, settings))
            if settings.correspondence == "shuffled":
                assert order is not None
                f = f.gather(1, order[..., None].expand_as(f))
            elif settings.correspondence == "other_patient":
                f, valid = f.roll(1, 0), valid & valid.roll(1, 0)
            parts["valid"] = valid.to(loss.dtype).mean()
            if settings.warp == "systole":
                parts["warped"] = gather(phase.systole_known(timing)).to(loss.dtype).mean()
            if settings.residual != "none":
                r, q = residual(e, valid), residual(f, valid)
            if settings.beta > 0:
                pair = (r, q) if settings.residual == "within" else (e, f)
                parts["local"] = local_loss(*pair, settings.tau_l, valid, soft=settings.soft)
                loss = loss + settings.beta * parts["local"]
            if settings.residual == "across":
                parts["residual"] = residual_loss(r, q, settings.tau_g, valid)
                loss = loss + settings.gamma * parts["residual"]
        return {"loss": loss, **parts}


def ecg_bin_weights(timing: Timing, settings: LossSettings) -> Tensor:
    """Weights of the ECG's slots in the phase bins, [B, K, 50]."""
    if settings.correspondence == "index":
        return phase.index_weights(EcgEncoder.slots, settings.bins, timing.phase_0)
    phi, inside = phase.ecg_slot_phase(timing, settings.warp)
    return phase.bin_weights(phi, settings.bins, settings.kappa, inside.to(phi.dtype))


def takes_part(timing: Timing, settings: LossSettings) -> Tensor:
    """Patients [B] who take part in the local loss as far as their rhythm goes; `index` asks for none."""
    return torch.ones_like(timing.usable) if settings.correspondence == "index" else timing.usable


def pooled(slots: Tensor, weights: Tensor, center: bool) -> Tensor:
    """Slots [B, L, D] in phase bins [B, K, D], in the weights' precision; `center`: less their mean over time."""
    slots = slots.to(weights.dtype)
    return phase.pool(slots - slots.mean(1, keepdim=True) if center else slots, weights)
