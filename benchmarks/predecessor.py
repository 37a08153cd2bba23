"""The published predecessor's two encoders, in our engine and in a plain eager PyTorch loop: part of training.py."""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
import torch.nn.functional as F
from random_study import Row, in_own_process, row, write_study
from torch import Tensor, nn

from ptacl.model.blocks import Size, Transformer
from ptacl.model.build import projection_head
from ptacl.model.losses import global_loss
from ptacl.store.dataset import MV_PER_COUNT, Batch, PairedDataset
from ptacl.training.augment import MIDDLE, cine_input, middle_crop
from ptacl.training.dice import Dice
from ptacl.training.engine import CLIP, ORDER, Engine, epoch_order, train
from ptacl.training.objectives import Objective
from ptacl.training.optimizer import BETAS, rate

# 210 x 210: the size of UK Biobank's short-axis images, at which the predecessor reads them.
PIXELS, TEMPERATURE, SCALE_MV = 210, 0.1, 0.5


class Bottleneck(nn.Module):
    """Residual block of a ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        same = stride == 1 and channels == out
        self.skip: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


class ResNet50(nn.Module):
    """Image [B, 3, H, W] to features [B, 2048]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1),
        ]  # fmt: skip
        channels = 64
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(blocks):
                layers.append(Bottleneck(channels, width, stride if i == 0 else 1))
                channels = 4 * width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class PatchEcg(nn.Module):
    """ECG [B, 12, 2500] in patches of one lead x 100 samples and a class token, 301 tokens, to its class token [B, D]."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stem, self.transformer = nn.Linear(100, size.dim), Transformer(size)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, size.dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, 301, size.dim))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x.reshape(len(x), 300, 100))
        return self.transformer(torch.cat([self.first.expand(len(x), -1, -1), tokens], 1) + self.position)[:, 0]


class TwoEncoders(nn.Module):
    """Both encoders with their heads: ECG and image to [B, 128] each."""

    def __init__(self) -> None:
        super().__init__()
        self.ecg, self.image = PatchEcg(Size(384, 3, 6)), ResNet50()
        self.ecg_head, self.image_head = projection_head(384), projection_head(2048)

    def forward(self, ecg: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.ecg_head(self.ecg(ecg)), self.image_head(self.image(image))


class PredecessorObjective(Objective):
    """InfoNCE of the predecessor's encoders, for our engine: the ECG's middle 5 s, three slices as an image's channels."""

    sides = ("ecg", "cine")

    def __init__(self, model: TwoEncoders, clock: Callable[[], float]) -> None:
        super().__init__()
        self.model, self.clock, self.times = model, clock, []

    def train(self, mode: bool = True) -> "PredecessorObjective":
        """The engine calls it as an epoch begins, and with False once the device is done with it."""
        self.times.append(self.clock())
        return super().train(mode)

    def forward(self, batch: Batch, dice: Dice) -> dict[str, Tensor]:
        ecg, _ = middle_crop(batch.ecg, batch.timing, SCALE_MV)
        u, v = self.model(ecg, cine_input(batch.cine)[:, :, 0])
        return {"loss": global_loss(self.gather(u), self.gather(v), TEMPERATURE)}


@dataclass(frozen=True)
class Contest:
    """Size of the comparison: pairs of a batch and of an epoch, epochs that count, and how often both take their turn."""

    batch: int
    pairs: int
    epochs: int
    rounds: int


def plain_loop(
    model: TwoEncoders, ecg: Tensor, image: Tensor, settings: Mapping[str, Any], seed: int, clock: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Pairs per second and mean loss of every epoch, eager, on floats that lie ready in the device's memory.

    In the engine's order and at its rates, so that the same must come out.
    """
    device, n, batch = ecg.device, len(ecg), settings["batch"]
    decayed, plain = ([p for p in model.parameters() if (p.ndim > 1) == d] for d in (True, False))
    groups = [{"params": decayed, "weight_decay": settings["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings["lr"], betas=BETAS)
    model.train()
    target, speeds, losses, step = torch.arange(batch, device=device), [], [], 0
    for epoch in range(settings["epochs"]):
        generator = Dice(torch.device("cpu")).of_step(ORDER, seed, epoch).generator
        order = epoch_order(torch.arange(n), False, generator).to(device)
        started, total = clock(), torch.zeros((), device=device)
        for rows in order.split(batch):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, settings["epochs"] * (n // batch), settings["lr"])
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                u, v = model(ecg[rows], image[rows])
                z = F.normalize(u, dim=-1) @ F.normalize(v, dim=-1).T / TEMPERATURE
                loss = (F.cross_entropy(z, target) + F.cross_entropy(z.T, target)) / 2
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            total, step = total + loss.detach(), step + 1
        losses.append(total.item() / (n // batch))
        speeds.append(n / (clock() - started))
    return speeds, losses


def contest(c: Contest, device_name: str, threads: int, compiled: str | bool) -> dict[str, list[float]]:
    """Pairs per second of the epochs of both, in turns; `off`: how far their losses lie apart, as a share."""
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    engine = Engine(device, compile=compiled, checkpoint_steps=10**9)
    with tempfile.TemporaryDirectory() as name:
        inputs = write_study(Path(name), c.pairs, c.pairs, (3, 1, PIXELS, PIXELS))
        data = PairedDataset.load(inputs.pairs, inputs.ecg_dir, inputs.cmr_dir, device=device)
    whole = next(data.batches([torch.arange(c.pairs)]))
    ecg = whole.ecg[:, :, MIDDLE : MIDDLE + 2500].float() * (MV_PER_COUNT / SCALE_MV)
    image = whole.cine[:, :, 0].float() / 128 - 0.5
    settings = {"epochs": 1 + c.epochs, "batch": c.batch, "lr": 1e-4, "weight_decay": 0.05}
    # CPU time, where that is the device's: it does not see what else the machine does.
    clock = process_time if device.type == "cpu" else perf_counter
    found: dict[str, list[float]] = {"engine": [], "plain": [], "off": []}
    for turn in range(c.rounds):
        torch.manual_seed(turn)
        ours, theirs = TwoEncoders(), TwoEncoders()
        theirs.load_state_dict(ours.state_dict())
        objective = PredecessorObjective(ours, clock)
        history = train(objective, data, settings, turn, Path("none.ckpt"), "", engine).history
        begun, ended = objective.times[::2], objective.times[1::2]
        speeds, losses = plain_loop(theirs.to(device), ecg, image, settings, turn, clock)
        found["engine"] += [c.pairs / (b - a) for a, b in zip(begun, ended, strict=True)][1:]
        found["plain"] += speeds[1:]
        own = [r["value"] for r in history if r["name"] == "loss"]
        found["off"] += [abs(a / b - 1) for a, b in zip(own, losses, strict=True)]
    return found


def contest_rows(c: Contest, device: str, threads: int, compiled: str | bool) -> list[Row]:
    """Our engine against the plain loop on the predecessor's encoders."""
    found = in_own_process(contest, c, device, threads, compiled)
    engine, plain = (statistics.median(found[k]) for k in ("engine", "plain"))
    spread = [f"{min(found[k]):.3g} to {max(found[k]):.3g}" for k in ("engine", "plain")]
    unit = "pairs per core-s" if device == "cpu" else "pairs/s"
    what = f"engine {engine:.3g} ({spread[0]}), plain eager loop {plain:.3g} ({spread[1]}) {unit}, batch {c.batch}"
    same = None if device == "cuda" else 1  # compiled and in bf16 they are rounded differently
    return [
        row("predecessor's encoders: our engine's speed", engine / plain, "ratio", what, 1, least=True),
        row(
            "predecessor's encoders: losses differ by",
            100 * max(found["off"]),
            "%",
            "the same maths in both; rounding grows with the steps",
            same,
        ),
    ]
