"""Losses and gradients of a batch that several processes share, computed as training computes them.

Under torchrun, `-m tests.training.joint_loss FOLDER` writes those of the first process into FOLDER, one file a case, beside
the history of a training that was stopped and went on; `study` lies in FOLDER too. Gradients are computed in float64, so
that a wrong one can't hide behind rounding.
"""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ptacl.model.blocks import Size
from ptacl.model.build import Regressor
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.mae import MaskedAutoencoder
from ptacl.model.ptacl import LossSettings, Ptacl
from ptacl.store.dataset import Batch
from ptacl.store.timing import Timing
from ptacl.training import processes
from ptacl.training.augment import Augmentation
from ptacl.training.dice import Dice, Part
from ptacl.training.engine import Engine, train
from ptacl.training.objectives import ContrastiveObjective, MaeObjective, Objective, SupervisedObjective
from ptacl.training.speed import flops_per_row
from tests.training.study import FRAMES, PIXELS, SLICES, SPEEDS, Study, after_every_step

SMALL = Size(16, 1, 2)
LOSSES = {
    "global": {"beta": 0.0},
    "phase": {},
    "soft": {"soft": 1.0},
    "index": {"correspondence": "index"},
    "systole": {"warp": "systole", "center": True},
    "shuffled": {"correspondence": "shuffled"},
    "other_patient": {"correspondence": "other_patient"},
    "within": {"residual": "within"},
    "across": {"residual": "across"},
    "across_other": {"residual": "across", "correspondence": "other_patient"},
}
CASES = [*LOSSES, "vision", "mae", "cine_mae", "supervised"]


def build(case: str, rows: int) -> Objective:
    """The objective of a case, in float64 and without augmentation; random crops, masks and drops stay."""
    torch.manual_seed(0)
    cine = TinyCmrEncoder(SMALL, SLICES, FRAMES, PIXELS)
    vision = CmrEncoder(SMALL, SLICES, FRAMES, PIXELS, tubelet=2, patch=8)
    objective: Objective
    if case == "mae":
        objective = MaeObjective(MaskedAutoencoder(EcgEncoder(SMALL, "lead_time"), 0.5), 0.5, Augmentation())
    elif case == "cine_mae":
        objective = MaeObjective(MaskedAutoencoder(vision, 0.5), 0.5, Augmentation())
    elif case == "supervised":
        labels = torch.randn(rows, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        labels[: rows // 4] = torch.nan  # so that one process has more known labels than the other
        model = Regressor(EcgEncoder(SMALL), 2)
        nn.init.normal_(model.head.weight)
        objective = SupervisedObjective(model, labels, 0.5, Augmentation())
    else:
        settings = LossSettings(bins=10, kappa=20.0, **LOSSES.get(case, {}))
        model = Ptacl(EcgEncoder(SMALL), vision if case == "vision" else cine)
        objective = ContrastiveObjective(model, 0.5, settings, Augmentation(), cine_drop=0.75)
    for module in objective.modules():
        if isinstance(module, EcgEncoder | CmrEncoder | TinyCmrEncoder | MaskedAutoencoder):
            module.register_forward_pre_hook(lambda _, x: (x[0].double(), *x[1:]))
    return objective.double()


def joint_batch(study: Study) -> tuple[Batch, int]:
    """The first 12 rows, of whom some have no usable phase, and the number of all rows."""
    data = study.dataset()
    (batch,) = data.batches([torch.arange(12)])
    timing = {f: getattr(batch.timing, f) for f in Timing.__dataclass_fields__}
    timing = {f: v.double() if v.is_floating_point() else v for f, v in timing.items()}
    timing["usable"] = torch.arange(12) % 5 != 2
    timing["phase_0"] = torch.linspace(0, 0.3, 12, dtype=torch.float64)
    return Batch(batch.rows, batch.ecg, batch.cine, Timing(**timing)), len(data)


def loss_and_gradients(
    case: str, study: Study, part: Part, wrap: Callable[[Objective], nn.Module] = lambda x: x
) -> dict[str, Tensor]:
    """Losses and the gradient of every parameter, of this process's part of the batch after a backward pass."""
    whole, rows = joint_batch(study)
    timing = Timing(**{f: part.cut(getattr(whole.timing, f)) for f in Timing.__dataclass_fields__})
    batch = Batch(part.cut(whole.rows), part.cut(whole.ecg), part.cut(whole.cine), timing)
    if case == "cine_mae":
        batch = Batch(batch.rows, None, batch.cine, timing)
    objective = build(case, rows)
    objective.gather = processes.gather
    step = wrap(objective)
    losses = step(batch, Dice(torch.device("cpu"), part).of_step(0, 7, 3))
    losses["loss"].backward()
    found = {f"loss/{k}": v.detach() for k, v in losses.items()}
    return found | {f"gradient/{k}": p.grad.clone() for k, p in objective.named_parameters()}


def operations(case: str, study: Study) -> float:
    """Operations per row, counted as at the start of a training."""
    whole, rows = joint_batch(study)
    few = torch.arange(2)
    objective = build(case, rows)
    objective.gather = processes.gather
    return flops_per_row(objective, Batch(whole.rows[few], whole.ecg[few], whole.cine[few], whole.timing.of(few)))


def resumed_history(study: Study, checkpoint: Path, engine: Engine) -> list[dict[str, Any]]:
    """History of two epochs of an autoencoder that broke off twice; each process has a loss of its own."""

    def break_off() -> None:
        made.append(1)
        if len(made) == 3:
            raise InterruptedError

    settings = {"epochs": 2, "batch": 2, "lr": 1e-3, "weight_decay": 0.05}
    for life in range(3):
        torch.manual_seed(0)
        model, made = MaskedAutoencoder(EcgEncoder(SMALL), 0.5), []
        objective = MaeObjective(model, 0.5, Augmentation())
        with contextlib.suppress(InterruptedError), contextlib.ExitStack() as stack:
            if life < 2:
                stack.enter_context(after_every_step(break_off))
            progress = train(objective, study.dataset(sides=("ecg",)), settings, 0, checkpoint, "digest", engine)
    return [r for r in progress.history if r["name"] not in SPEEDS]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    study = Study(folder / "study", np.zeros(0))
    with processes.joined("cpu") as (_, part):
        for case in CASES:
            found = loss_and_gradients(case, study, part, nn.parallel.DistributedDataParallel)
            # Every process has the same gradient; losses that are no joint ones are averaged for the history.
            found = {k: processes.mean_over_processes(v.clone()) if "loss/" in k else v for k, v in found.items()}
            if part.rank == 0:
                save_file(found, folder / f"{case}.safetensors")
        rows = resumed_history(study, folder / "last.ckpt", Engine(part=part, checkpoint_steps=2))
        if part.rank == 0:
            (folder / "history.json").write_text(json.dumps(rows))
        counted = {case: operations(case, study) for case in ("phase", "shuffled")}
        if part.rank == 0:
            (folder / "operations.json").write_text(json.dumps(counted))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
