"""How a training runs, as the config says it and as one process finds it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ptacl.training.dice import Part
from ptacl.training.processes import joined


@dataclass(frozen=True)
class How:
    """How a training runs, as the config's `pretrain` says it (docs/training.md), as opposed to what is trained.

    code: digest of the stage's source; a checkpoint of other code is not gone on from.
    """

    device: str = "auto"
    gpus: int = 1
    data: str = "auto"
    precision: str = "auto"
    compile: str | bool = "auto"
    checkpoint_steps: int = 200
    tensorboard: bool = False
    threads: int = 1
    code: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any], threads: int, code: str) -> "How":
        """From a checked config, the threads of the job, and the digest of the stage's code."""
        names = [f for f in cls.__dataclass_fields__ if f not in ("threads", "code")]
        return cls(**{name: config["pretrain"][name] for name in names}, threads=threads, code=code)

    @contextmanager
    def engine(self, out_dir: Path) -> Iterator["Engine"]:
        """The engine of this process, alone or one of several that torchrun started."""
        torch.set_num_threads(max(1, self.threads // self.gpus))  # the job's threads are shared by its processes
        board = out_dir / "tensorboard" if self.tensorboard else None
        with joined(self.device) as (device, part):
            yield Engine(device, part, self.precision, self.compile, self.checkpoint_steps, board)


@dataclass(frozen=True)
class Engine:
    """How a training runs, as opposed to what it computes.

    precision: `bf16` (autocast), `fp32`, or `auto`: bf16 on a GPU. compile: True, False, or `auto`: on a GPU.
    checkpoint_steps: steps from one checkpoint to the next. tensorboard: folder for its event files, or None.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    part: Part = Part()
    precision: str = "auto"
    compile: str | bool = "auto"
    checkpoint_steps: int = 200
    tensorboard: Path | None = None

    @property
    def bf16(self) -> bool:
        """bf16 on the CPU, and on a GPU that only emulates it, is slower than fp32."""
        able = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return self.precision == "bf16" or (self.precision == "auto" and able)

    @property
    def compiled(self) -> bool:
        """Compiling gains nothing on the CPU and costs a minute."""
        return self.compile is True or (self.compile == "auto" and self.device.type == "cuda")
