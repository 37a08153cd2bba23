"""Checkpoints of a running training, and the weights that remain: no pickled code, whole or absent."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from ptacl.artifacts import atomic_path, write_bytes
from ptacl.errors import ArtifactError


@dataclass
class Progress:
    """What a checkpoint holds beside weights and optimizer.

    step: steps done, of which `epoch` whole epochs. history: rows of history.parquet. best: the best validation score, and
    its weights. sums: sums over the steps of the epoch that is under way.
    """

    step: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)


def save_checkpoint(
    path: Path, digest: str, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Writes everything a resumed run needs into one safetensors file, atomically."""
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"best/{k}": v for k, v in progress.best_weights.items()}
    tensors |= {f"sums/{k}": v for k, v in progress.sums.items()}
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer/{name}/{k}": v for k, v in optimizer.state[parameter].items()}
    about = {"digest": digest, **asdict(Progress(progress.step, progress.epoch, progress.history, progress.best))}
    with atomic_path(path) as temporary:
        # Copies, since safetensors refuses tensors that share memory.
        own = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
        save_file(own, temporary, metadata={"ptacl": json.dumps(about)})


def load_checkpoint(path: Path, digest: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Continues from `path` where there is one of the same settings; a damaged or foreign one is left aside."""
    if not path.exists():
        return Progress()
    own, device = model.state_dict(), next(model.parameters()).device
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads(file.metadata()["ptacl"])
            found: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "sums": {}, "optimizer": {}}
            for key in file.keys():  # noqa: SIM118 (not a dict)
                section, name = key.split("/", 1)
                found[section][name] = file.get_tensor(key)
        if about.pop("digest") != digest:
            print("a checkpoint of other settings is left aside")
            return Progress()
        if {k: v.shape for k, v in found["model"].items()} != {k: v.shape for k, v in own.items()}:
            raise ValueError("not the weights of this model")
        moments = {
            name: {k: found["optimizer"][f"{name}/{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
            for name, _ in model.named_parameters()
        }
        progress = Progress(**about | {"best_weights": found["best"]})
    # What a damaged file raises, and no more: a full memory or a lost disk must not cost the training.
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError):
        print("a checkpoint that can't be read, or was written by another version, is left aside")
        return Progress()
    model.load_state_dict(found["model"])
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {k: v.to(device) for k, v in moments[name].items()}
    progress.sums = {k: v.to(device) for k, v in found["sums"].items()}
    return progress


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Weights as safetensors, atomically."""
    write_bytes(path, save_safetensors({k: v.detach().cpu().contiguous() for k, v in weights.items()}))


def load_weights(path: Path) -> dict[str, Tensor]:
    """Raises ArtifactError where the file is missing or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not there; run the stage that writes it") from None
    except Exception as e:  # safetensors raises its own type
        raise ArtifactError(f"{path}: not readable weights ({type(e).__name__})") from None
