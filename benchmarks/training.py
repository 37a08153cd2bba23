"""How fast the training runs: our engine alone, and beside a plain PyTorch loop on the published predecessor's encoders.

python benchmarks/training.py [--json FILE] [--seconds N] [--threads N]

Everything is synthetic, in shards as the pipeline writes them, and trained by the pipeline's own engine. On a GPU: the
default pair of encoders of configs/paper.yaml in batches of 256, compiled and eager, resident and mapped, `--seconds` of
steady state for the first of them and a sixth of it for the others; about seven minutes, and 6 GB of temporary files. On a
CPU: the demo's tiny pair, and for the paper's pairs the operations counted and what one hour would ask of an H100; about
four minutes. Compiling and the first epoch never count. Validation is left out.
"""

import argparse
import json
import math
import resource
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from predecessor import Contest, contest_rows
from random_study import SHARD, Row, in_own_process, row, write_study
from torch import nn

from ptacl.config import load_config
from ptacl.model.blocks import CMR_SIZES, ECG_SIZES
from ptacl.stages import REPOSITORY, stage_settings
from ptacl.store.dataset import Batch, PairedDataset
from ptacl.training.dice import Dice
from ptacl.training.engine import CLIP, Engine, train
from ptacl.training.objectives import ContrastiveObjective
from ptacl.training.speed import flops_per_row, peak_tflops
from ptacl.training.stage import Inputs, build_objective

PAPER = [REPOSITORY / "configs" / "paper.yaml"]
COHORT, EPOCHS, TRAIN_SHARE = 27_951, 300, 0.6
HOUR, MIB, GIB = 3600.0, 2**20, 2**30
H100_TFLOPS = 989.0
# Pairs of an epoch, and recordings that differ among them: the rows of the pairs table take turns at them.
GPU_PAIRS, GPU_DISTINCT = 8192, 2048
CPU_PAIRS = 704


def settings_of(overlays: Sequence[Path], **encoder: str) -> dict[str, Any]:
    """Settings of the method `ptacl` of a study, with some other keys of its encoder."""
    settings = stage_settings(load_config(overlays), "pretrain", "ptacl")
    return settings | {"encoder": settings["encoder"] | encoder}


def cine_shape(settings: Mapping[str, Any]) -> tuple[int, int, int, int]:
    cmr = settings["cmr"]
    return cmr["slices"], cmr["frames"], cmr["size"], cmr["size"]


# ---- Our engine


@dataclass(frozen=True)
class Line:
    """One way to train: settings of the method, how, and for how long."""

    name: str
    settings: Mapping[str, Any]
    inputs: Inputs
    device: str
    compile: bool
    data: str
    seconds: float
    threads: int


@dataclass(frozen=True)
class Speed:
    """What a line measured.

    rate: pairs per second; core_rate: pairs per second of CPU time. memory: peak bytes, of which `recordings` are the
    resident ones. parts: ms of a step, part by part.
    """

    rate: float
    core_rate: float
    data_wait: float
    mfu: float | None
    memory: int
    recordings: int
    epochs: int
    seconds: float
    parts: Mapping[str, float]


def measure(line: Line) -> Speed:
    """Trains for about `line.seconds` after a first epoch that does not count."""
    torch.set_num_threads(line.threads)
    device = torch.device(line.device)
    data = line.inputs.load(ContrastiveObjective.sides, Engine(device), line.data)
    engine = Engine(device, compile=line.compile, checkpoint_steps=10**9)
    batch = line.settings["contrastive"]["batch"]

    def run(data: PairedDataset, epochs: int) -> tuple[ContrastiveObjective, dict[str, list[float]]]:
        # A new model each time: the engine counts its operations before it compiles it.
        torch.manual_seed(0)
        objective, _ = build_objective(line.settings, line.inputs)
        assert isinstance(objective, ContrastiveObjective)
        settings = line.settings["contrastive"] | {"epochs": epochs}
        history = train(objective, data, settings, 0, line.inputs.out_dir / "none.ckpt", "", engine).history
        names = ("samples_per_s", "data_wait", "mfu")
        return objective, {name: [r["value"] for r in history if r["name"] == name][1:] for name in names}

    # A few steps tell how many epochs the wanted time is.
    few = replace(data, split=["train" if i < 8 * batch else "spare" for i in range(len(data))])
    about = run(few, 2)[1]["samples_per_s"][0]
    epochs = max(2, math.ceil(line.seconds * about / len(data)))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = process_time()
    objective, found = run(data, 1 + epochs)
    core_s = process_time() - started
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else peak_memory()
    speed, pairs = statistics.harmonic_mean(found["samples_per_s"]), len(data) // batch * batch
    resident = sum(r.tensor.nbytes for r in data.recordings.values()) if data.is_resident else 0
    return Speed(
        rate=speed, core_rate=(1 + epochs) * pairs / core_s, data_wait=statistics.mean(found["data_wait"]),
        mfu=statistics.harmonic_mean(found["mfu"]) if found["mfu"] else None,
        memory=memory, recordings=resident, epochs=epochs, seconds=epochs * pairs / speed,
        parts=step_parts(objective, data, batch, engine),
    )  # fmt: skip


def peak_memory() -> int:
    """Peak resident bytes of this process."""
    try:
        # Not ru_maxrss where this is told: a child process begins with its parent's.
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(s for s in status.splitlines() if s.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def step_parts(objective: ContrastiveObjective, data: PairedDataset, batch: int, engine: Engine) -> dict[str, float]:
    """Median ms of the parts of a step, one after the other with a wait for the device between them."""
    model, device = objective.model, engine.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    objective.train()
    dice, times = Dice(device), []
    for i in range(7):
        marks = [_now(device)]
        b = next(data.batches([torch.arange(batch)]))
        marks.append(_now(device))
        dice.of_step(0, i)
        objective.augmented(b, dice)
        marks.append(_now(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=engine.bf16):
            loss = objective(b, dice.of_step(0, i))["loss"]
        marks.append(_now(device))
        loss.backward()
        marks.append(_now(device))
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        marks.append(_now(device))
        read, augment, forward, backward, update = np.diff(marks) * 1000
        # The objective's forward pass augments once more.
        times.append((read, augment, max(0.0, forward - augment), backward, update))
    names = ("reading", "augmenting", "forward", "backward", "optimizer")
    return dict(zip(names, np.median(times[2:], 0).tolist(), strict=True))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return perf_counter()


def speed_rows(line: Line, gflop: float, targets: bool) -> list[Row]:
    """What one line measured. `targets`: whether the targets of an H100 apply."""
    s = in_own_process(measure, line)
    total = sum(s.parts.values())
    parts = ", ".join(f"{name} {ms / total:.0%}" for name, ms in s.parts.items())
    recordings = (
        f"recordings {s.recordings / MIB:,.0f} MiB of it" if s.recordings else "no recordings but the next batches"
    )
    hours = COHORT * EPOCHS / s.rate / HOUR
    rows = [
        row(f"{line.name}: samples/s", s.rate, "pairs/s", f"{s.seconds:.0f} s, {s.epochs} epochs; a step: {parts}"),
        row(f"{line.name}: data wait", 100 * s.data_wait, "%", "of the time of an epoch", 2 if targets else None),
        row(f"{line.name}: peak memory", s.memory / MIB, "MiB", recordings),
    ]
    if line.device == "cpu":
        rows.append(
            row(f"{line.name}: samples per core-s", s.core_rate, "pairs", "hardly moves with the machine's load")
        )
    if s.mfu is not None:
        peak = f"of {peak_tflops(torch.device(line.device)):.0f} TFLOP/s at {gflop:.1f} GFLOP per pair"
        wanted = 25.0 if targets and line.compile else None
        rows.append(row(f"{line.name}: MFU", 100 * s.mfu, "%", peak, wanted, least=True))
    if targets:
        wanted = 1.0 if line.compile and line.data == "resident" else None
        what = (
            f"extrapolated to {COHORT:,} pairs x {EPOCHS} epochs; the training split alone {TRAIN_SHARE * hours:.2f} h"
        )
        rows.append(row(f"{line.name}: the contrastive stage", hours, "h", what, wanted))
    return rows


# ---- Counted operations


def random_batch(n: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Batch:
    """A batch of random pairs, as the dataset gives it."""
    with tempfile.TemporaryDirectory() as name:
        inputs = write_study(Path(name), n, n, shape)
        data = PairedDataset.load(inputs.pairs, inputs.ecg_dir, inputs.cmr_dir, device=device)
    return next(data.batches([torch.arange(n)]))


def counted_gflop(settings: Mapping[str, Any]) -> float:
    """GFLOP per pair, forward and backward, as torch counts them."""
    here = Path()
    objective, _ = build_objective(settings, Inputs(here, here, here, here))
    return flops_per_row(objective, random_batch(1, cine_shape(settings))) / 1e9


def formula_gflop(settings: Mapping[str, Any]) -> float:
    """The same from the usual formula: 24 d² + 4 L d operations per token and block, and what lies before and behind.

    The backward pass takes twice the forward pass, and once in a first layer, whose input needs no gradient.
    """
    encoder, drop, bins = settings["encoder"], settings["contrastive"]["cine_drop"], settings["phase"]["bins"]
    slices, frames, _, pixels = cine_shape(settings)
    sizes, patch, tubelet = (
        (ECG_SIZES[encoder["size"]], CMR_SIZES[encoder["size"]]),
        encoder["patch"],
        encoder["tubelet"],
    )
    ecg_tokens = 600 if encoder["tokens"] == "lead_time" else 50
    cine_tokens = frames // tubelet * max(1, round(slices * (pixels // patch) ** 2 * (1 - drop)))
    flop = 0.0
    for (dim, depth, _), n in zip(sizes, (ecg_tokens, cine_tokens), strict=True):
        flop += 3 * depth * n * (24 * dim**2 + 4 * n * dim)
        flop += 3 * (1 + bins) * 2 * (dim**2 + dim * 128)  # head, on the mean and on every bin
    flop += 2 * 2 * cine_tokens * tubelet * patch**2 * sizes[1].dim
    if encoder["tokens"] == "lead_time":
        flop += 2 * 2 * ecg_tokens * 50 * sizes[0].dim
    else:
        flop += 2 * (2 * 500 * 12 * 15 * 32 + 3 * 100 * 32 * 7 * 64 + 3 * 50 * 64 * 4 * sizes[0].dim)
    return flop / 1e9


def operation_rows() -> tuple[list[Row], float]:
    """GFLOP per pair of every size, what one hour asks of an H100; and GFLOP of the default pair."""
    rows, found = [], {}
    for overlays, encoder, where in (
        ([], {}, "the demo's 3 x 20 x 32 x 32"),
        (PAPER, {}, "3 x 50 x 128 x 128, a quarter of the patches"),
        (PAPER, {"tokens": "lead_time"}, "a token per lead and 100 ms"),
        (PAPER, {"size": "base"}, ""),
    ):
        settings = settings_of(overlays, **encoder)
        size, tokens = (settings["encoder"][k] for k in ("size", "tokens"))
        name = f"{size} pair, {tokens} tokens"
        gflop = found[size, tokens] = counted_gflop(settings)
        rows.append(row(f"{name}: operations forward and backward", gflop, "GFLOP", where))
        if size != "tiny":
            formula = formula_gflop(settings)
            off = 100 * abs(gflop / formula - 1)
            rows.append(row(f"{name}: counted against the formula", off, "% off", f"formula {formula:.3f} GFLOP", 1))
    for share, who in ((1.0, f"all {COHORT:,} pairs"), (TRAIN_SHARE, f"the training split, {TRAIN_SHARE:.0%}")):
        speed = share * COHORT * EPOCHS / HOUR
        rows.append(row(f"{EPOCHS} epochs of {who} in one hour", speed, "pairs/s", "needed"))
        for (size, tokens), gflop in found.items():
            if size != "tiny":
                peer = f"of the {H100_TFLOPS:.0f} TFLOP/s of an H100 or H200"
                mfu = 100 * speed * gflop / (1000 * H100_TFLOPS)
                rows.append(row(f"  MFU that asks of the {size} pair, {tokens} tokens", mfu, "%", peer))
    gflop = found["small", "time"]
    rows.append(
        row("25 % MFU of the small pair, time tokens", 250 * H100_TFLOPS / gflop, "pairs/s", "the other target")
    )
    return rows, gflop


def reading_rows(threads: int) -> list[Row]:
    """How many pairs of the default shape a core reads from mapped shards that lie in the page cache."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        inputs = write_study(Path(name), SHARD, SHARD, cine_shape(settings_of(PAPER)))
        data = PairedDataset.load(inputs.pairs, inputs.ecg_dir, inputs.cmr_dir, data="mapped")
        times = []
        for i in range(6):
            rows = torch.randperm(SHARD, generator=torch.Generator().manual_seed(i))[:64]
            started = process_time()
            for store in data.recordings.values():
                store.rows(rows)
            times.append((process_time() - started) / 64)
    speed, mib = 1 / statistics.median(times[1:]), sum(r.nbytes for r in data.recordings.values()) / SHARD / MIB
    what = f"pairs per core-s, {speed * mib / 1024:.1f} GiB/s, from the page cache; one hour for all pairs asks for the target"
    return [row("mapped, default shape: reading", speed, "pairs", what, COHORT * EPOCHS / HOUR, least=True)]


# ---- All of it


def gpu_rows(
    folder: Path, device: str, gflop: float, seconds: float, threads: int, pairs: int, distinct: int,
    settings: Mapping[str, Any],
) -> list[Row]:  # fmt: skip
    """The default pair, compiled and eager, resident and mapped."""
    inputs = write_study(folder, pairs, distinct, cine_shape(settings))
    print(f"{pairs:,} pairs an epoch, {distinct:,} of them distinct (mapped: from the page cache)")
    rows = []
    for compiled, data, share in (
        (True, "resident", 1), (True, "mapped", 6), (False, "resident", 6), (False, "mapped", 6)
    ):  # fmt: skip
        name = f"{'compiled' if compiled else 'eager'}, {data}"
        line = Line(name, settings, inputs, device, compiled, data, seconds / share, threads)
        rows += speed_rows(line, gflop, targets=True)
    return rows


def cpu_rows(folder: Path, seconds: float, threads: int) -> list[Row]:
    """The demo's pair, eager and compiled, resident and mapped."""
    settings = settings_of([])
    inputs = write_study(folder, CPU_PAIRS, CPU_PAIRS, cine_shape(settings))
    rows = []
    for compiled, data in ((False, "resident"), (False, "mapped"), (True, "resident")):
        name = f"tiny, {'compiled' if compiled else 'eager'}, {data}"
        rows += speed_rows(Line(name, settings, inputs, "cpu", compiled, data, seconds, threads), 0.0, targets=False)
    return rows


def main() -> None:
    """Prints the table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, help="steady state of a line; 125 on a GPU, 10 on a CPU")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch on the CPU")
    arguments = parser.parse_args()
    threads = arguments.threads
    torch.set_num_threads(threads)
    gpu = torch.cuda.is_available()
    print(f"{torch.cuda.get_device_name() if gpu else 'CPU'}, torch {torch.__version__}, {threads} CPU threads")
    started = process_time()
    rows, gflop = operation_rows()
    with tempfile.TemporaryDirectory() as name:
        if gpu:
            rows += gpu_rows(
                Path(name), "cuda", gflop, arguments.seconds or 125, threads, GPU_PAIRS, GPU_DISTINCT, settings_of(PAPER)
            )  # fmt: skip
        else:
            rows += reading_rows(threads)
            rows += cpu_rows(Path(name), arguments.seconds or 10, threads)
    size = Contest(256, 1024, 10, 2) if gpu else Contest(8, 16, 2, 3)
    rows += contest_rows(size, "cuda" if gpu else "cpu", threads, "auto")
    print(f"{process_time() - started:.0f} core-s, without the processes it started")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
