"""What a user sees of a running training: a progress bar, rows of history.parquet, TensorBoard."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from torch import Tensor
from tqdm import tqdm

from ptacl.errors import PtaclError
from ptacl.store.dataset import PairedDataset
from ptacl.training.checkpoint import Progress
from ptacl.training.objectives import Objective
from ptacl.training.options import Engine
from ptacl.training.speed import flops_per_row, peak_tflops


class Monitor:
    """Shows the progress of the first of several processes, and measures speed.

    samples_per_s: rows per second of all processes. mfu: share of the device's peak that the counted operations reach, where
    the peak is known. data_wait: share of the time that the loop waited for data.
    """

    def __init__(self, engine: Engine, epochs: int, steps: int, batch: int, progress: Progress) -> None:
        self.engine, self.steps, self.batch, self.progress = engine, steps, batch, progress
        self.peak, self.flops = peak_tflops(engine.device), 0.0
        shown = engine.part.rank == 0
        self.bar = tqdm(total=epochs * steps, initial=progress.step, unit="step", mininterval=5, disable=not shown)
        self.board = _tensorboard(engine.tensorboard, progress.step) if shown and engine.tensorboard else None

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, *_: Any) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()

    def count_flops(self, objective: Objective, data: PairedDataset, rows: Tensor) -> None:
        """Counts the operations per row, where the device's peak is known to compare them with."""
        if self.peak is not None:
            self.flops = flops_per_row(objective, next(data.batches([rows[:2]])))

    def start_epoch(self, data: PairedDataset) -> None:
        """Starts the clocks."""
        self.data, self.first = data, self.progress.step
        data.waited_s = 0.0
        self.started = perf_counter()

    def show(self, means: Mapping[str, float]) -> None:
        """Moves the progress bar, with the mean losses of the epoch so far."""
        self._move({k: f"{v:.3f}" for k, v in means.items()} | {"rows/s": f"{self._speed():.0f}"})
        if self.board is not None:
            for name, value in means.items():
                self.board.add_scalar(f"running/{name}", value, self.progress.step)

    def _move(self, shown: Mapping[str, str]) -> None:
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(self.progress.step - self.bar.n)

    def _speed(self) -> float:
        return (self.progress.step - self.first) * self.batch / max(perf_counter() - self.started, 1e-9)

    def stop_epoch(self) -> None:
        """Stops the clocks: what follows is validation."""
        self.speed = self._speed()
        self.data_wait = self.data.waited_s / max(perf_counter() - self.started, 1e-9)

    def end_epoch(self, means: Mapping[str, float], validation: Mapping[str, float], lr: float) -> list[dict[str, Any]]:
        """The rows of an epoch for history.parquet; the same go to TensorBoard."""
        train = {**means, "lr": lr, "samples_per_s": self.speed, "data_wait": self.data_wait}
        if self.flops and self.peak:
            train["mfu"] = self.speed * self.flops / (self.engine.part.of * self.peak * 1e12)
        rows = [
            {"epoch": self.progress.epoch, "step": self.progress.step, "split": split, "name": k, "value": float(v)}
            for split, values in (("train", train), ("val", validation))
            for k, v in sorted(values.items())
        ]
        self._move(
            {k: f"{train[k]:.3f}" for k in ("loss", "global", "local") if k in train}
            | {k: f"{v:.2f}" for k, v in validation.items() if k in ("patient_r10", "phase_acc_own", "r2")}
        )
        if self.board is not None:
            for r in rows:
                self.board.add_scalar(f"{r['split']}/{r['name']}", r["value"], r["step"])
            self.board.flush()
        return rows


def _tensorboard(folder: Any, step: int) -> Any:
    """A writer that goes on after `step`. Raises PtaclError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise PtaclError(
            "pretrain.tensorboard: true, but tensorboard is not installed: pip install tensorboard"
        ) from None
    return SummaryWriter(str(folder), purge_step=step + 1)
