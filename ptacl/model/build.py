"""Encoders and heads from a study's settings, and bare encoders as files that stand for themselves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ptacl.artifacts import KIND, VERSION, write_bytes
from ptacl.errors import ArtifactError
from ptacl.model.blocks import CMR_SIZES, ECG_SIZES
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder

ENCODER, ENCODER_VERSION = "encoder", 1


def ecg_encoder(encoder: Mapping[str, Any]) -> EcgEncoder:
    """`encoder`: size (tiny, small, base), tokens (time, lead_time)."""
    return EcgEncoder(ECG_SIZES[encoder["size"]], encoder["tokens"])


def cmr_encoder(encoder: Mapping[str, Any], cmr: Mapping[str, Any]) -> CmrEncoder | TinyCmrEncoder:
    """`encoder`: size, tubelet, patch. `cmr`: slices, frames, size (pixels)."""
    size, shape = CMR_SIZES[encoder["size"]], (cmr["slices"], cmr["frames"], cmr["size"])
    if encoder["size"] == "tiny":
        return TinyCmrEncoder(size, *shape, tubelet=encoder["tubelet"])
    return CmrEncoder(size, *shape, tubelet=encoder["tubelet"], patch=encoder["patch"])


def save_encoder(path: Path, weights: Mapping[str, Tensor], side: str, settings: Mapping[str, Any]) -> None:
    """Writes the `ecg` or `cmr` encoder among a model's weights as a file that `load_encoder` needs nothing else for.

    `settings`: encoder, cmr and scale of the study (a model's config.yaml holds them; cmr for that
    side only). Raises ArtifactError where the
    model has no such encoder.
    """
    chosen = {k.removeprefix(f"{side}."): v.contiguous() for k, v in weights.items() if k.startswith(f"{side}.")}
    if not chosen:
        raise ArtifactError(f"the model has no {side} encoder")
    description = {KIND: ENCODER, VERSION: str(ENCODER_VERSION), "side": side}
    description |= {k: settings[k] for k in ("encoder", "scale", "cmr") if k in settings}
    write_bytes(path, save(chosen, metadata={"ptacl": json.dumps(description, sort_keys=True)}))


def load_encoder(path: Path) -> nn.Module:
    """The encoder of a file of `save_encoder`, ready to use; its `about` says what it was made for. Raises ArtifactError.

    ECG [B, 12, 2500], 5 s at 500 Hz in mV over `about["scale"]`, to [B, 50, D]. Cine [B, S, T, H, W], `about["cmr"]`, 8 bits
    as the cmr stage leaves them over 128 less 0.5, to [B, slots, D].
    """
    about, weights = read_encoder(path)
    try:
        side = about["side"]
        encoder = ecg_encoder(about["encoder"]) if side == "ecg" else cmr_encoder(about["encoder"], about["cmr"])
    except (KeyError, TypeError, ValueError) as e:
        raise ArtifactError(f"{path}: its description of the encoder is damaged ({type(e).__name__})") from None
    load_into(encoder, weights, path)
    encoder.about = about  # type: ignore[assignment]
    return encoder.eval()


def description(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself; nothing where it is none of ours. Raises ArtifactError."""
    try:
        with safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("ptacl", "{}"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not there") from None
    except (OSError, SafetensorError) as e:
        raise ArtifactError(f"{path}: no readable safetensors file ({type(e).__name__})") from None
    except ValueError:  # somebody else's metadata under our name
        return {}
    return about if isinstance(about, dict) else {}


def read_encoder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a file of `save_encoder`. Raises ArtifactError."""
    about = description(path)
    if (about.get(KIND), about.get(VERSION)) != (ENCODER, str(ENCODER_VERSION)):
        raise ArtifactError(f"{path}: no encoder of version {ENCODER_VERSION}; `ptacl export-encoder` writes one")
    return about, load_file(path)


def load_into(encoder: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Loads weights that must fit one for one. Raises ArtifactError, naming the first that does not."""
    own = encoder.state_dict()
    for name in sorted(own.keys() | weights.keys()):
        expected, found = own.get(name), weights.get(name)
        if expected is None or found is None or expected.shape != found.shape:
            shapes = [list(w.shape) if w is not None else "nothing" for w in (expected, found)]
            raise ArtifactError(f"{path}: does not fit the encoder: `{name}` should be {shapes[0]}, found {shapes[1]}")
    encoder.load_state_dict(dict(weights))


def projection_head(dim: int, projection: int = 128) -> nn.Sequential:
    """MLP [.., D] to [.., 128], one per modality, used by the global and the local loss alike."""
    return nn.Sequential(nn.Linear(dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, projection))


class Regressor(nn.Module):
    """An ECG encoder with a linear head on its mean slot: [B, 12, 2500] to [B, targets]."""

    def __init__(self, encoder: EcgEncoder, targets: int) -> None:
        super().__init__()
        self.ecg, self.head = encoder, nn.Linear(encoder.dim, targets)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.ecg(x).mean(1))


class CmrOnly(nn.Module):
    """A model of cines alone."""

    def __init__(self, encoder: Any) -> None:  # either CMR encoder; mypy has no name for what both are
        super().__init__()
        self.cmr = encoder


class EcgOnly(nn.Module):
    """A method without a CMR side."""

    def __init__(self, encoder: EcgEncoder) -> None:
        super().__init__()
        self.ecg = encoder
