"""One training on several GPUs (or, for tests, several CPU processes): torchrun starts them, gradients are averaged."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ptacl.errors import PtaclError
from ptacl.training.dice import Part

REPOSITORY = Path(__file__).resolve().parents[2]


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; the gradient of every process reaches the rows' owner."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return Part(dist.get_rank(), dist.get_world_size()).cut(gradient)


def gather(x: Tensor) -> Tensor:
    """x [b, ..] of every process as the joint [B, ..], with gradient; x itself when there is one process.

    Every process then has the joint loss, and the sum over processes of its gradients, once divided by their number as
    DistributedDataParallel does, is the gradient of the joint loss.
    """
    if not dist.is_initialized():
        return x
    return _Gather.apply(x.to(torch.uint8)).bool() if x.dtype == torch.bool else _Gather.apply(x)


def mean_over_processes(x: Tensor) -> Tensor:
    """The mean of x over processes."""
    if not dist.is_initialized():
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / dist.get_world_size()


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` holds in any process: all of them must stop at the same step."""
    if not dist.is_initialized():
        return flag
    x = torch.tensor([float(flag)], device=device)
    dist.all_reduce(x, dist.ReduceOp.MAX)
    return bool(x.item())


@contextmanager
def joined(device: str) -> Iterator[tuple[torch.device, Part]]:
    """Joins the processes that torchrun started, and gives this one's device and part; alone where it started none."""
    where = pick_device(device)
    if not launched():
        yield where, Part()
        return
    world, rank, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
    if where.type == "cuda":
        if torch.cuda.device_count() <= local:
            raise PtaclError(f"pretrain.gpus: {world}, but torch finds {torch.cuda.device_count()} here")
        where = torch.device("cuda", local)
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield where, Part(rank, world)
    finally:
        dist.destroy_process_group()


def pick_device(device: str) -> torch.device:
    """`auto`: the GPU where there is one. Raises PtaclError for `cuda` without one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PtaclError("pretrain.device: cuda, but torch finds no GPU here; `auto` would train on the CPU")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def launched() -> bool:
    """Whether torchrun started this process."""
    return "WORLD_SIZE" in os.environ and "TORCHELASTIC_RUN_ID" in os.environ


def launch(stage: str, method: str, seed: int, settings: Mapping[str, Any], inputs: Any, how: Any) -> None:
    """Runs a stage's training in `how.gpus` processes under torchrun.

    `inputs`, `how`: the stage's dataclasses. The processes' output is passed on, SIGTERM and SIGINT reach them. Raises
    PtaclError when they fail.
    """
    paths = {k: None if v is None else str(v) for k, v in vars(inputs).items()}
    task = {
        "stage": stage,
        "method": method,
        "seed": seed,
        "settings": dict(settings),
        "inputs": paths,
        "how": vars(how),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(how.gpus)]
        environment = {"OMP_NUM_THREADS": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "120", **os.environ}
        # Workers import this checkout's code, not what lies in the folder they run in.
        environment["PYTHONSAFEPATH"] = "1"
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        child = subprocess.Popen(
            [*command, "-m", "ptacl.training.worker", str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )  # fmt: skip
        previous = {s: signal.signal(s, lambda *_: child.terminate()) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            assert child.stdout is not None
            for line in child.stdout:
                sys.stdout.write(line)
            code = child.wait()
        finally:
            for s, handler in previous.items():
                signal.signal(s, handler)
            child.kill()
    if code:
        raise PtaclError(f"training in {how.gpus} processes ended with exit code {code}; its reason stands above")
