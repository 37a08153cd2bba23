"""The training loop. All randomness follows from (seed, step), so a resumed run equals an unbroken one."""

import math
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from ptacl.errors import PtaclError
from ptacl.store.dataset import Batch, PairedDataset
from ptacl.training import processes
from ptacl.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from ptacl.training.dice import ORDER, TRAINING, Dice
from ptacl.training.monitor import Monitor
from ptacl.training.objectives import Objective
from ptacl.training.optimizer import adamw, rate, set_rate
from ptacl.training.options import Engine

CLIP = 1.0
# Losses stay on the device. They are read, which makes it wait, and processes agree whether to go on, every so many steps, but
# not less often than in so many seconds: torchrun does not let its processes live for long after SIGTERM.
READ_STEPS, READ_SECONDS = 20, 5.0
VALIDATION_BATCH = 256


class Interrupted(PtaclError):
    """Training was asked to stop, and left a checkpoint to go on from."""


def train(
    objective: Objective,
    data: PairedDataset,
    settings: Mapping[str, Any],
    seed: int,
    checkpoint: Path,
    digest: str,
    engine: Engine = Engine(),  # noqa: B008 (frozen)
) -> Progress:
    """Trains `objective.model` for settings["epochs"] epochs, resuming from `checkpoint` where its digest agrees.

    `settings`: epochs, batch (of all processes together), lr, weight_decay, and optionally accumulate (parts of a batch
    that are computed one after the other) and layer_decay. Leaves the best weights (by validation, else the last) in
    the model. Raises PtaclError for a training split without enough pairs and for a loss that is no finite number,
    Interrupted after SIGTERM or SIGINT, with everything done so far in the checkpoint.
    """
    return _Training(objective, data, settings, seed, checkpoint, digest, engine).run()


class _Training:
    def __init__(
        self, objective: Objective, data: PairedDataset, settings: Mapping[str, Any], seed: int, checkpoint: Path,
        digest: str, engine: Engine,
    ) -> None:  # fmt: skip
        self.objective, self.data, self.seed, self.engine = objective, data, seed, engine
        self.checkpoint, self.digest = checkpoint, digest
        self.train_rows, self.val_rows = data.of_split("train"), data.of_split("val")
        if objective.one_visit_each:
            # The other visit of a person is neither a wrong partner nor another patient.
            self.val_rows = _first_visits(self.val_rows, data.person)
        self.epochs, self.lr, self.accumulate = settings["epochs"], settings["lr"], settings.get("accumulate", 1)
        self.batch, self.steps = self._sizes(settings["batch"])
        self.total = self.epochs * self.steps
        self.dice = Dice(engine.device, engine.part)
        objective.to(engine.device)
        objective.gather = processes.gather
        self.optimizer = adamw(objective.model, settings)
        self.progress = load_checkpoint(checkpoint, digest, objective.model, self.optimizer)
        self.step_fn: nn.Module = objective
        self.last_read, self.next_read = (0, 0.0), self.progress.step + 1
        step = torch.tensor(float(self.progress.step), device=engine.device)
        if processes.mean_over_processes(step).item() != self.progress.step:
            raise PtaclError("not all processes could read the checkpoint; start again, or remove last.ckpt")
        if self.progress.step and engine.part.rank == 0:
            print(f"resumed after step {self.progress.step}")

    def _sizes(self, wanted: int) -> tuple[int, int]:
        """Rows of a batch, and batches of an epoch."""
        one_each = self.objective.one_visit_each
        people = len(self.data.person[self.train_rows].unique()) if one_each else len(self.train_rows)
        shares = self.engine.part.of * self.accumulate
        least = max(shares, 2 if one_each else 1)
        if people < least:
            raise PtaclError(f"the training split has {people} usable pairs, at least {least} are needed")
        batch = min(wanted, people) // shares * shares
        if wanted > people:
            warnings.warn(f"batch cut from {wanted} to {batch}: the training split has {people} pairs", stacklevel=4)
        elif batch < wanted:
            raise PtaclError(f"a batch of {wanted} can't be shared evenly by {shares} processes or parts")
        return batch, people // batch

    def run(self) -> Progress:
        progress, engine = self.progress, self.engine
        monitor = Monitor(engine, self.epochs, self.steps, self.batch, progress)
        with monitor, _stop_signals() as asked:
            monitor.count_flops(self.objective, self.data, self.train_rows)
            self._prepare()
            for epoch in range(progress.epoch, self.epochs):
                first = progress.step - epoch * self.steps
                joint = self._order(epoch).split(self.batch)[first : self.steps]
                batches = self.data.batches([engine.part.cut(m) for b in joint for m in b.chunk(self.accumulate)])
                self.objective.train()
                monitor.start_epoch(self.data)
                for step in range(progress.step, (epoch + 1) * self.steps):
                    self._step(step, batches)
                    self._after_step(asked, monitor)
                self._end_epoch(epoch, monitor)
        if progress.best_weights:
            self.objective.model.load_state_dict(progress.best_weights)
        return progress

    def _prepare(self) -> None:
        """Compiles, and shares the gradients among processes. In place: names of weights stay as they are."""
        if self.engine.compiled:
            for module in self.objective.compiled_parts():
                module.compile(dynamic=False)
        if self.engine.part.of > 1:
            ids = [self.engine.device.index] if self.engine.device.type == "cuda" else None
            # The buffers are constants.
            self.step_fn = nn.parallel.DistributedDataParallel(self.objective, device_ids=ids, broadcast_buffers=False)

    def _order(self, epoch: int) -> Tensor:
        """Row order of an epoch. With `one_visit_each` one visit of each person, drawn anew: no batch holds two."""
        generator = Dice(torch.device("cpu")).of_step(ORDER, self.seed, epoch).generator
        return self.train_rows[epoch_order(self.data.person[self.train_rows], self.objective.one_visit_each, generator)]

    def _step(self, step: int, batches: Iterator[Batch]) -> None:
        set_rate(self.optimizer, rate(step, self.total, self.lr))
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(self.accumulate):
            batch = next(batches)
            with self._autocast():
                losses = self.step_fn(batch, self.dice.of_step(TRAINING, self.seed, step, micro))
            (losses["loss"] / self.accumulate).backward()
            for name, value in losses.items():
                self._add(name, value / self.accumulate)
        self._add("grad_norm", nn.utils.clip_grad_norm_(self.objective.model.parameters(), CLIP))
        self.optimizer.step()
        self.progress.step += 1

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.engine.device.type, torch.bfloat16, enabled=self.engine.bf16)

    def _add(self, name: str, value: Tensor) -> None:
        """Adds to the sums of the epoch, on the device: reading a number makes the loop wait."""
        self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value.detach().float()

    def _after_step(self, asked: list[int], monitor: Monitor) -> None:
        """Every so many steps: is the loss a number, is a checkpoint due, was a stop asked for?"""
        progress, engine = self.progress, self.engine
        due = progress.step % engine.checkpoint_steps == 0
        # Several processes have to agree, which costs them a meeting; one alone stops at any step.
        alone_and_asked = bool(asked) and engine.part.of == 1
        if not (due or alone_and_asked or progress.step >= self.next_read):
            return
        monitor.show(self._means(progress.step - progress.epoch * self.steps))
        self._plan_next_reading()
        stop = processes.any_process(bool(asked), engine.device)
        if stop or due:
            self._save()
        if stop:
            processes.any_process(True, engine.device)  # nobody leaves before the first has saved
            raise Interrupted(f"stopped as asked after step {progress.step} of {self.total}; start again to go on")

    def _plan_next_reading(self) -> None:
        """After as many steps as all processes together find to be quick enough."""
        (step, time), now = self.last_read, perf_counter()
        pace = torch.tensor((now - time) / max(1, self.progress.step - step), device=self.engine.device)
        quick = int(READ_SECONDS / max(processes.mean_over_processes(pace).item(), 1e-9)) if step else 1
        self.last_read = (self.progress.step, now)
        self.next_read = self.progress.step + min(READ_STEPS, max(1, quick))

    def _means(self, steps: int) -> dict[str, float]:
        """Mean losses of the epoch so far. Raises PtaclError unless losses and gradients were finite numbers."""
        means = {k: processes.mean_over_processes(v / steps).item() for k, v in self.progress.sums.items()}
        # A gradient that is none has already spoilt the weights, though the loss shows it only a step later.
        if not (math.isfinite(means["loss"]) and math.isfinite(means["grad_norm"])):
            advice = ", or `precision: fp32`" if self.engine.bf16 else ""
            raise PtaclError(
                f"the training loss or its gradient is no finite number any more at step {self.progress.step} of {self.total};"
                f" nothing of this was kept. A smaller learning rate (lr) may help{advice}"
            )
        return means

    def _end_epoch(self, epoch: int, monitor: Monitor) -> None:
        progress, objective = self.progress, self.objective
        means = self._means(self.steps)  # reading them waits for the device: the clock of the epoch stops here
        monitor.stop_epoch()
        objective.eval()
        # Not compiled: the last batch has another shape.
        with torch.no_grad(), self._autocast(), torch.compiler.set_stance("force_eager"):
            parts = self.val_rows.split(VALIDATION_BATCH)
            dice = Dice(self.engine.device)
            validation = objective.validate(self.data.batches(parts), dice, self.batch) if parts[0].numel() else {}
        progress.epoch, progress.sums = epoch + 1, {}
        progress.history += monitor.end_epoch(means, validation, rate(progress.step - 1, self.total, self.lr))
        score = objective.better(validation)
        if score is not None and math.isfinite(score) and (progress.best is None or score > progress.best):
            progress.best = score
            progress.best_weights = {
                k: v.detach().to("cpu", copy=True) for k, v in objective.model.state_dict().items()
            }

    def _save(self) -> None:
        """Sums become those of all processes: the next start gives every process the first one's."""
        self.progress.sums = {k: processes.mean_over_processes(v) for k, v in self.progress.sums.items()}
        if self.engine.part.rank == 0:
            save_checkpoint(self.checkpoint, self.digest, self.objective.model, self.optimizer, self.progress)


def epoch_order(person: Tensor, one_visit_each: bool, generator: torch.Generator) -> Tensor:
    """Order of the rows with these persons [n]; with `one_visit_each` only the first that comes of each person."""
    order = torch.randperm(len(person), generator=generator)
    if not one_visit_each:
        return order
    seen: set[int] = set()
    of = person.tolist()
    return torch.tensor([i for i in order.tolist() if not (of[i] in seen or seen.add(of[i]))])  # type: ignore[func-returns-value]


def _first_visits(rows: Tensor, person: Tensor) -> Tensor:
    """Those of `rows` with which a person appears for the first time; pairs are sorted by person and visit."""
    of = person[rows]
    return rows[torch.cat([torch.ones(1, dtype=torch.bool), of[1:] != of[:-1]])[: len(rows)]]


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGTERM and SIGINT append to instead of ending the process; a second SIGINT ends it."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, _frame: Any) -> None:
        asked.append(number)
        # A scheduler may send SIGTERM to the launcher and to its processes, to which the launcher passes it on.
        if number == signal.SIGINT:
            signal.signal(number, previous[signal.SIGINT])

    previous = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
