"""Checkpoints of a running training, and the weights that remain: no pickled code, whole or absent."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from ptacl.artifacts import atomic_path, write_bytes
from ptacl.errors import ArtifactError

if TYPE_CHECKING:
    from ptacl.training.loop import Progress


def save_checkpoint(
    path: Path, digest: str, model: nn.Module, optimizer: Any, scheduler: Any, progress: "Progress"
) -> None:
    """Writes everything a resumed run needs, atomically."""
    state = {
        "digest": digest, "model": model.state_dict(), "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "epoch": progress.epoch, "history": progress.history, "best": progress.best,
        "best_weights": progress.best_weights,
    }  # fmt: skip
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(
    path: Path, digest: str, model: nn.Module, optimizer: Any, scheduler: Any, progress: "Progress"
) -> None:
    """Continues from `path` where there is one of the same settings; a damaged or foreign one is left aside."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return
    except Exception:  # torch raises many types for a damaged file
        print("a checkpoint that can't be read is left aside")
        return
    if state.get("digest") != digest:
        print("a checkpoint of other settings is left aside")
        return
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    progress.epoch, progress.history = state["epoch"], state["history"]
    progress.best, progress.best_weights = state["best"], state["best_weights"]
    print(f"resumed after epoch {progress.epoch}")


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
