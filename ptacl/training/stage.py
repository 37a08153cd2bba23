"""Stage pretrain: one method with one seed."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml
from torch import Tensor, nn

from ptacl.artifacts import settings_digest, tensor_digest, write_bytes, write_table
from ptacl.errors import ArtifactError
from ptacl.model.build import CmrOnly, EcgOnly, cmr_encoder, description, ecg_encoder, load_into
from ptacl.model.mae import MaskedAutoencoder
from ptacl.model.ptacl import LossSettings, Ptacl
from ptacl.store.dataset import PairedDataset
from ptacl.training.augment import Augmentation
from ptacl.training.checkpoint import Progress, load_weights, save_weights
from ptacl.training.engine import train
from ptacl.training.objectives import ContrastiveObjective, MaeObjective, Objective, loss_settings
from ptacl.training.options import Engine, How
from ptacl.training.processes import launch, launched

HISTORY, VERSION = "history", 1
HISTORY_SCHEMA = pa.schema(
    {"epoch": pa.int32(), "step": pa.int32(), "split": pa.string(), "name": pa.string(), "value": pa.float64()}
)
# Objectives of methods whose encoder stays as it was drawn, until labels are learnt.
UNTRAINED = ("none", "supervised")
# Above this share of the variance the autoencoder has learnt little more than the mean.
PLATEAU = 0.9
# Below this share of pairs with usable phase the local loss sees too little of the cohort.
FEW_PHASES = 0.5


@dataclass(frozen=True)
class Inputs:
    """Where a training reads and writes: the pairs table, folders of shards, the models it starts from."""

    pairs: Path
    ecg_dir: Path
    cmr_dir: Path
    out_dir: Path
    warm_start_ecg: Path | None = None
    warm_start_cmr: Path | None = None

    def load(self, sides: tuple[str, ...], engine: Engine, data: str) -> PairedDataset:
        """The training and validation splits."""
        return PairedDataset.load(
            self.pairs, self.ecg_dir, self.cmr_dir, ("train", "val"), sides=sides, device=engine.device, data=data
        )


def pretrain(method: str, seed: int, settings: Mapping[str, Any], inputs: Inputs, how: How = How()) -> None:  # noqa: B008
    """Writes model.safetensors, config.yaml and history.parquet into `inputs.out_dir`.

    `settings`: encoder, method, scale, cmr, phase, augment, and those of the method's objective. A run that was killed
    goes on from last.ckpt, which is removed at the end. With `how.gpus` above 1, torchrun starts as many processes.
    """
    if how.gpus > 1 and settings["method"]["objective"] not in UNTRAINED and not launched():
        launch("pretrain", method, seed, settings, inputs, how)
        return
    with how.engine(inputs.out_dir) as engine:
        torch.manual_seed(seed)
        model, progress = _trained(seed, settings, inputs, how, engine)
        if engine.part.rank == 0:
            write_model(inputs.out_dir, method, seed, settings, engine, model, progress)


def write_model(
    out_dir: Path, method: str, seed: int, settings: Mapping[str, Any], engine: Engine, model: nn.Module,
    progress: Progress,
) -> None:  # fmt: skip
    """The files of a finished training; the checkpoint goes."""
    trained_on = {"device": engine.device.type, "precision": "bf16" if engine.bf16 else "fp32"}
    about = {"name": method, "seed": seed, "trained_on": trained_on, **settings}
    save_weights(out_dir / "model.safetensors", model.state_dict())
    write_bytes(out_dir / "config.yaml", yaml.safe_dump(about).encode())
    write_table(
        out_dir / "history.parquet", pa.Table.from_pylist(progress.history, schema=HISTORY_SCHEMA), kind=HISTORY,
        version=VERSION, settings=settings,
    )  # fmt: skip
    (out_dir / "last.ckpt").unlink(missing_ok=True)


def _trained(
    seed: int, settings: Mapping[str, Any], inputs: Inputs, how: How, engine: Engine
) -> tuple[nn.Module, Progress]:
    """The model that remains of a method's training."""
    objective, kept = build_objective(settings, inputs)
    if objective is None:
        return kept, Progress()
    data = inputs.load(objective.sides, engine, how.data)
    if isinstance(objective, ContrastiveObjective):
        _warn_of_few_phases(data, objective.settings)
    section = settings[settings["method"]["objective"]]
    starts = [load_weights(p) for p in (inputs.warm_start_ecg, inputs.warm_start_cmr) if p is not None]
    digest = training_digest(settings, seed, how, engine, inputs.pairs, starts)
    progress = train(objective, data, section, seed, inputs.out_dir / "last.ckpt", digest, engine)
    if isinstance(objective, MaeObjective):
        _warn_of_plateau(progress.history)
    return kept, progress


def training_digest(
    settings: Mapping[str, Any],
    seed: int,
    how: How,
    engine: Engine,
    pairs: Path,
    tensors: Sequence[Mapping[str, Tensor]],
) -> str:
    """What decides whether a checkpoint belongs to this training: `pairs` holds digests of the recordings.

    `tensors`: weights it starts from, labels. Kind of device and precision count too, since they change numbers.
    """
    return settings_digest({
        "settings": dict(settings), "seed": seed, "torch": torch.__version__, "code": how.code,
        "device": engine.device.type, "bf16": engine.bf16, "pairs": hashlib.sha256(pairs.read_bytes()).hexdigest(),
        "tensors": [tensor_digest({k: v.double().numpy() for k, v in t.items()}) for t in tensors],
    })  # fmt: skip


def build_objective(settings: Mapping[str, Any], inputs: Inputs) -> tuple[Objective | None, nn.Module]:
    """What a method trains, and the part of its model that is kept. Without training (`random`, `scratch`): None."""
    name, encoder, scale = settings["method"]["objective"], settings["encoder"], settings["scale"]
    if name in UNTRAINED:
        return None, EcgOnly(ecg_encoder(encoder))
    if name == "mae":
        ecg = EcgOnly(ecg_encoder(encoder))
        return MaeObjective(MaskedAutoencoder(ecg.ecg, settings["mae"]["mask"]), scale), ecg
    augmentation = Augmentation(**settings["augment"])
    if name == "cine_mae":
        cine = CmrOnly(cmr_encoder(encoder, settings["cmr"]))
        return MaeObjective(MaskedAutoencoder(cine.cmr, settings["cine_mae"]["mask"]), scale, augmentation), cine
    model = Ptacl.from_settings(settings)
    for side, path in (("ecg", inputs.warm_start_ecg), ("cmr", inputs.warm_start_cmr)):
        if path is not None:
            load_into(getattr(model, side), start_weights(path, side, settings), path)
    drop = settings["contrastive"]["cine_drop"]
    return ContrastiveObjective(model, scale, loss_settings(settings), augmentation, drop), model


def start_weights(path: Path, side: str, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights that an encoder starts from. Raises ArtifactError, also for an ECG encoder of another input scale."""
    about = description(path)
    if side == "ecg" and about.get("scale", settings["scale"]) != settings["scale"]:
        raise ArtifactError(
            f"{path}: learnt on ECGs over {about['scale']} mV; this study has ecg.scale {settings['scale']}"
        )
    return encoder_weights(load_weights(path), side)


def encoder_weights(weights: Mapping[str, Tensor], side: str) -> dict[str, Tensor]:
    """The weights of one encoder out of a model's, or all of them where the file holds a bare encoder."""
    own = {k.removeprefix(f"{side}."): v for k, v in weights.items() if k.startswith(f"{side}.")}
    return own or dict(weights)


def _warn_of_few_phases(data: PairedDataset, settings: LossSettings) -> None:
    rows = data.of_split("train").to(data.device)
    usable = int(data.timing.usable[rows].sum())
    if settings.correspondence != "index" and settings.beta > 0 and usable < FEW_PHASES * len(rows):
        warnings.warn(
            f"only {usable} of {len(rows)} training pairs have a usable cardiac phase: the local loss sees no others",
            stacklevel=2,
        )


def _warn_of_plateau(history: list[dict[str, Any]]) -> None:
    unexplained = [r["value"] for r in history if r["name"] == "unexplained" and r["split"] == "train"]
    if unexplained and unexplained[-1] > PLATEAU:
        warnings.warn(
            f"the masked autoencoder still leaves {unexplained[-1]:.0%} of the variance unexplained: it has hardly"
            " learnt anything; more steps may help", stacklevel=2,
        )  # fmt: skip
