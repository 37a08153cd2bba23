"""A plain training loop. All randomness of an epoch follows from (seed, epoch), so a resumed run equals an unbroken one."""

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ptacl.errors import PtaclError
from ptacl.store.dataset import PairedDataset
from ptacl.training.checkpoint import load_checkpoint, save_checkpoint
from ptacl.training.objectives import Objective

BETAS, WARM_UP, CLIP = (0.9, 0.98), 0.08, 1.0


@dataclass
class Progress:
    """What a checkpoint holds beside weights: epochs done, history rows, best validation score and its weights."""

    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_weights: dict[str, Tensor] | None = None


def train(
    objective: Objective, data: PairedDataset, settings: Mapping[str, Any], seed: int, checkpoint: Path, digest: str
) -> Progress:
    """Trains `objective.model` for settings["epochs"] epochs, resuming from `checkpoint` where its digest agrees.

    `settings`: epochs, batch, lr, weight_decay. Leaves the best weights (by validation, else the last) in the model.
    Raises PtaclError for a training split without enough pairs and for a loss that is no finite number.
    """
    model, device = objective.model, data.ecg.device
    train_rows, val_rows = data.of_split("train").to(device), data.of_split("val").to(device)
    people = len(data.person[train_rows].unique()) if objective.one_visit_each else len(train_rows)
    smallest = 2 if objective.one_visit_each else 1
    if people < smallest:
        raise PtaclError(f"the training split has {people} usable pairs, at least {smallest} are needed")
    batch = min(settings["batch"], people)
    if batch < settings["batch"]:
        warnings.warn(f"batch cut from {settings['batch']} to the {people} pairs of the training split", stacklevel=2)
    steps = people // batch
    optimizer, scheduler = _optimizer(model, settings, settings["epochs"] * steps)
    progress = Progress()
    load_checkpoint(checkpoint, digest, model, optimizer, scheduler, progress)

    bar = tqdm(total=settings["epochs"], initial=progress.epoch, unit="epoch", mininterval=5)
    for epoch in range(progress.epoch, settings["epochs"]):
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
        rows = train_rows[_order(data.person[train_rows].cpu(), objective.one_visit_each, generator).to(device)]
        scores, speed = _epoch(objective, rows, batch, steps, generator, optimizer, scheduler)
        model.eval()
        with torch.no_grad():
            validation = objective.validate(val_rows)
        scores |= {"lr": scheduler.get_last_lr()[0], "samples_per_s": speed}
        step = (epoch + 1) * steps
        for split, values in (("train", scores), ("val", validation)):
            progress.history += [
                {"epoch": epoch + 1, "step": step, "split": split, "name": k, "value": float(v)}
                for k, v in sorted(values.items())
            ]
        progress.epoch = epoch + 1
        score = objective.better(validation)
        if score is not None and (progress.best is None or score > progress.best):
            progress.best = score
            progress.best_weights = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        save_checkpoint(checkpoint, digest, model, optimizer, scheduler, progress)
        bar.set_postfix(
            {"loss": f"{scores['loss']:.3f}"} | {k: f"{v:.2f}" for k, v in validation.items() if "r10" in k}
        )
        bar.update()
    bar.close()
    if progress.best_weights is not None:
        model.load_state_dict(progress.best_weights)
    return progress


def _epoch(objective, rows, batch, steps, generator, optimizer, scheduler):  # noqa: ANN001, ANN202
    """One pass; returns mean losses and samples per second."""
    model, device = objective.model, rows.device
    model.train()
    sums: dict[str, Tensor] = {}
    started = time.perf_counter()
    for i in range(steps):
        # bf16 on the CPU is many times slower than fp32.
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses = objective.step(rows[i * batch : (i + 1) * batch], generator)
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        scheduler.step()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach()
    means = {name: (value / steps).item() for name, value in sums.items()}
    if not math.isfinite(means["loss"]):
        raise PtaclError("the training loss is no finite number any more; a smaller learning rate may help")
    return means, steps * batch / max(time.perf_counter() - started, 1e-9)


def _order(person: Tensor, one_visit_each: bool, generator: torch.Generator) -> Tensor:
    """Row order of an epoch. With `one_visit_each` one visit of each person, drawn anew: no batch holds two."""
    order = torch.randperm(len(person), generator=generator)
    if not one_visit_each:
        return order
    seen: set[int] = set()
    first = [i for i in order.tolist() if not (person[i].item() in seen or seen.add(person[i].item()))]  # type: ignore[func-returns-value]
    return torch.tensor(first)


def _optimizer(model: nn.Module, settings: Mapping[str, Any], steps: int):  # noqa: ANN202
    """AdamW (no decay for vectors) with linear warm-up and cosine decay to zero."""
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings["weight_decay"]},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"], betas=BETAS)
    warm = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
