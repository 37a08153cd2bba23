"""What one step of training minimises: restoring hidden parts, the contrastive losses, or labels."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ptacl.model.blocks import pick
from ptacl.model.build import Regressor
from ptacl.model.cmr import CmrEncoder
from ptacl.model.losses import full_precision
from ptacl.model.mae import MaskedAutoencoder
from ptacl.model.ptacl import LossSettings, Ptacl
from ptacl.store.dataset import CINE, ECG, Batch
from ptacl.store.timing import Timing
from ptacl.training.augment import (
    Augmentation,
    augment_cine,
    augment_ecg,
    cine_input,
    intensity,
    middle_crop,
    move_cine,
    random_crop,
    shade,
)
from ptacl.training.dice import VALIDATION, Dice
from ptacl.training.metrics import patient_retrieval, phase_retrieval, r2


class Objective(nn.Module):
    """A model with its losses on a batch and its scores on the validation split.

    `forward(batch, dice)` gives scalars of which `loss` is minimised. `sides`: what a batch must hold.
    `one_visit_each`: whether a batch may not hold two visits of one person.
    """

    model: nn.Module
    sides: tuple[str, ...]
    one_visit_each = False
    gather: Callable[[Tensor], Tensor] = staticmethod(lambda x: x)

    def compiled_parts(self) -> list[nn.Module]:
        """The modules that are worth compiling: all shapes in them stay the same."""
        return [self.model]

    def validate(self, batches: Iterable[Batch], dice: Dice, batch: int) -> dict[str, float]:
        """Scores on the validation split, given in parts; `batch`: rows of a batch in training."""
        raise NotImplementedError

    def better(self, scores: Mapping[str, float]) -> float | None:
        """The score by which the best weights are kept; None: the last epoch stands."""
        return None


class MaeObjective(Objective):
    """Restoring hidden parts of the ECG or of the cine; the last weights are kept."""

    model: MaskedAutoencoder

    def __init__(self, model: MaskedAutoencoder, scale_mv: float, augmentation: Augmentation = Augmentation()) -> None:  # noqa: B008
        super().__init__()
        self.model, self.scale_mv, self.augmentation = model, scale_mv, augmentation
        self.sides = (CINE,) if isinstance(model.encoder, CmrEncoder) else (ECG,)

    def _losses(self, x: Tensor, dice: Dice) -> dict[str, Tensor]:
        loss, variance = self.model(x, dice.uniform(len(x), self.model.length))
        return {"loss": loss, "unexplained": loss / variance}

    def forward(self, batch: Batch, dice: Dice) -> dict[str, Tensor]:
        """Losses of a batch of random crops, or of augmented cines."""
        if batch.ecg is not None:
            x, _ = random_crop(batch.ecg, batch.timing, self.scale_mv, self.augmentation, dice)
        else:
            x, _ = augment_cine(batch.cine, batch.timing, self.augmentation, dice)
        return self._losses(x, dice)

    def validate(self, batches: Iterable[Batch], dice: Dice, batch: int) -> dict[str, float]:
        """The loss on middle crops or plain cines, always with the same tokens hidden."""
        sums: dict[str, float] = {}
        n = 0
        for i, part in enumerate(batches):
            ecg = part.ecg is not None
            x = middle_crop(part.ecg, part.timing, self.scale_mv)[0] if ecg else cine_input(part.cine)
            for name, value in self._losses(x, dice.of_step(VALIDATION, i)).items():
                sums[name] = sums.get(name, 0.0) + len(x) * value.item()
            n += len(x)
        return {name: value / n for name, value in sums.items()}


class ContrastiveObjective(Objective):
    """The global, and the local and residual losses; the weights with the best validation retrieval are kept."""

    model: Ptacl
    sides = (ECG, CINE)
    one_visit_each = True

    def __init__(
        self, model: Ptacl, scale_mv: float, settings: LossSettings, augmentation: Augmentation, cine_drop: float
    ) -> None:
        super().__init__()
        self.model, self.scale_mv, self.settings = model, scale_mv, settings
        self.augmentation, self.cine_drop = augmentation, cine_drop

    def compiled_parts(self) -> list[nn.Module]:
        """Both encoders."""
        return [self.model.ecg, self.model.cmr]

    def forward(self, batch: Batch, dice: Dice) -> dict[str, Tensor]:
        """Losses of an augmented batch of random crops, on a random part of the cines' tubelets."""
        ecg, cine, keep, timing = self.augmented(batch, dice)
        e, c = self.model(ecg, cine, keep)
        order = self._shuffle(len(ecg) * dice.part.of, dice)
        with torch.autocast(ecg.device.type, enabled=False):
            return self.model.losses(full_precision(e), full_precision(c), timing, self.settings, order, self.gather)

    def augmented(self, batch: Batch, dice: Dice) -> tuple[Tensor, Tensor, Tensor | None, Timing]:
        """What the model is given: ECG, cine (with `keep`, those tubelets alone), `keep` or None, and the timing of both."""
        a, cmr = self.augmentation, self.model.cmr
        ecg, timing = random_crop(batch.ecg, batch.timing, self.scale_mv, a, dice)
        cine, timing = move_cine(batch.cine, timing, a, dice)
        light, keep = intensity(len(ecg), a, dice), None
        if isinstance(cmr, CmrEncoder) and self.cine_drop:
            keep = cmr.random_subset(dice.uniform(len(ecg), cmr.length), self.cine_drop)
            # Of the eight-bit pixels, so that only a quarter of them become floats.
            cine = pick(cmr.patches(cine), keep)
        return augment_ecg(ecg, self.scale_mv, a, dice), shade(cine, *light), keep, timing

    def _shuffle(self, n: int, dice: Dice) -> Tensor | None:
        shuffled = self.settings.correspondence == "shuffled"
        return dice.joint(n, self.settings.bins).argsort(1) if shuffled else None

    def validate(self, batches: Iterable[Batch], dice: Dice, batch: int) -> dict[str, float]:
        """Losses, patient retrieval and phase retrieval on middle crops of the whole split."""
        found = [self._validate_batch(b) for b in batches]
        if sum(len(e) for e, *_ in found) < 2:
            return {}
        m = self.model
        ecg, cine, timings = zip(*found, strict=True)
        e, c = (full_precision(torch.cat(slots)) for slots in (ecg, cine))
        timing = Timing.joined(timings)
        with torch.autocast(e.device.type, enabled=False):
            bins_e, bins_c, valid = m.phase_bins(e, c, timing, self.settings)
            return (
                self._validation_losses(e, c, timing, dice, batch)
                | {"temperature": self.settings.tau_g}
                | patient_retrieval(*m.project(e, c))
                | phase_retrieval(bins_e[valid], bins_c[valid])
            )

    def _validation_losses(self, e: Tensor, c: Tensor, timing: Timing, dice: Dice, batch: int) -> dict[str, float]:
        """Means over batches as large as in training: a loss among more patients is larger, and could not be compared."""
        sums: dict[str, float] = {}
        whole = max(1, len(e) // batch)
        for i, rows in enumerate(torch.arange(len(e), device=e.device).split(batch)[:whole]):
            order = self._shuffle(len(rows), dice.of_step(VALIDATION, i))
            losses = self.model.losses(e[rows], c[rows], timing.of(rows), self.settings, order)
            sums = {k: sums.get(k, 0.0) + v.item() / whole for k, v in losses.items()}
        return sums

    def _validate_batch(self, batch: Batch) -> tuple[Tensor, Tensor, Timing]:
        x, timing = middle_crop(batch.ecg, batch.timing, self.scale_mv)
        return *self.model(x, cine_input(batch.cine)), timing

    def better(self, scores: Mapping[str, float]) -> float | None:
        """Mean reciprocal rank of the own partner on the validation split."""
        return scores.get("patient_mrr")


class SupervisedObjective(Objective):
    """Labels from the ECG; the weights with the best mean R² on the validation split are kept.

    `labels` [n, targets] of every row of the dataset, standardised, NaN where unknown.
    """

    sides = (ECG,)

    def __init__(self, model: Regressor, labels: Tensor, scale_mv: float, augmentation: Augmentation) -> None:
        super().__init__()
        self.model, self.labels, self.scale_mv, self.augmentation = model, labels, scale_mv, augmentation

    def forward(self, batch: Batch, dice: Dice) -> dict[str, Tensor]:
        """Mean squared error over known labels, in SD² of the training split."""
        x, _ = random_crop(batch.ecg, batch.timing, self.scale_mv, self.augmentation, dice)
        predicted = self.model(augment_ecg(x, self.scale_mv, self.augmentation, dice)).float()
        labels = self.labels[batch.rows]
        known = labels.isfinite()
        error = torch.where(known, predicted - labels.nan_to_num(), 0.0).square()
        return {"loss": error.sum() / self.gather(known.sum()[None]).sum().clamp_min(1) * dice.part.of}

    def validate(self, batches: Iterable[Batch], dice: Dice, batch: int) -> dict[str, float]:
        """R² of every label with at least two values, their mean, and the loss."""
        predicted, rows = [], []
        for b in batches:
            predicted.append(self.model(middle_crop(b.ecg, b.timing, self.scale_mv)[0]).float())
            rows.append(b.rows)
        return r2(torch.cat(predicted), self.labels[torch.cat(rows)]) if rows else {}

    def better(self, scores: Mapping[str, float]) -> float | None:
        """Mean R² over the labels."""
        return scores.get("r2")


def loss_settings(settings: Mapping[str, Any]) -> LossSettings:
    """Losses of a contrastive method from a stage's settings."""
    temperatures = {k: v for k, v in settings.get("contrastive", {}).items() if k in ("tau_g", "tau_l")}
    return LossSettings(**settings["phase"], **temperatures, **settings["method"].get("loss", {}))
