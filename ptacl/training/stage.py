"""Stage pretrain: one method with one seed."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml

from ptacl.artifacts import read_table, settings_digest, write_bytes, write_table
from ptacl.model.encoders import EcgEncoder, MaskedAutoencoder
from ptacl.model.ptacl import Ptacl
from ptacl.store import schema
from ptacl.store.dataset import PairedDataset
from ptacl.training.checkpoint import load_weights, save_weights
from ptacl.training.loop import train
from ptacl.training.objectives import ContrastiveObjective, MaeObjective, loss_settings

HISTORY, VERSION = "history", 1
HISTORY_SCHEMA = pa.schema(
    {"epoch": pa.int32(), "step": pa.int32(), "split": pa.string(), "name": pa.string(), "value": pa.float64()}
)
# Above this share of the variance the autoencoder has learnt little more than the mean.
PLATEAU = 0.9


def pretrain(
    method: str,
    seed: int,
    settings: Mapping[str, Any],
    pairs: Path,
    ecg_dir: Path,
    cmr_dir: Path,
    out_dir: Path,
    *,
    warm_start_ecg: Path | None,
    device: str = "auto",
    threads: int = 1,
) -> None:
    """Writes model.safetensors, config.yaml and history.parquet into `out_dir`.

    `settings`: encoder, method, scale, cmr, phase, and those of the method's objective. A run that was killed goes on
    from last.ckpt, which is removed at the end.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    where = pick_device(device)
    objective = settings["method"]["objective"]
    history: list[dict[str, Any]] = []
    if objective == "none":
        weights = {f"ecg.{k}": v for k, v in EcgEncoder().state_dict().items()}
    else:
        data = PairedDataset.load(pairs, ecg_dir, cmr_dir, ("train", "val")).to(where)
        inputs = read_table(
            pairs, kind=schema.PAIRS, version=schema.VERSION[schema.PAIRS], columns=["ecg_digest", "cmr_digest"]
        )
        digest = settings_digest({
            "settings": dict(settings), "seed": seed, "torch": torch.__version__,
            "inputs": sorted({str(r) for r in inputs.to_pylist()}),
        })  # fmt: skip
        checkpoint = out_dir / "last.ckpt"
        if objective == "mae":
            model = MaskedAutoencoder(EcgEncoder(), settings["mae"]["mask"]).to(where)
            progress = train(
                MaeObjective(model, data, settings["scale"], seed), data, settings["mae"], seed, checkpoint, digest
            )
            _warn_of_plateau(progress.history)
            weights = {f"ecg.{k}": v for k, v in model.encoder.state_dict().items()}
        else:
            paired = Ptacl(**settings["cmr"])
            if warm_start_ecg is not None:
                start = {k.removeprefix("ecg."): v for k, v in load_weights(warm_start_ecg).items()}
                paired.ecg.load_state_dict(start)
            contrastive = ContrastiveObjective(paired.to(where), data, settings["scale"], loss_settings(settings))
            progress = train(contrastive, data, settings["contrastive"], seed, checkpoint, digest)
            weights = paired.state_dict()
        history = progress.history
    save_weights(out_dir / "model.safetensors", weights)
    write_bytes(out_dir / "config.yaml", yaml.safe_dump({"method": method, "seed": seed, **settings}).encode())
    write_table(
        out_dir / "history.parquet", pa.Table.from_pylist(history, schema=HISTORY_SCHEMA), kind=HISTORY,
        version=VERSION, settings=settings,
    )  # fmt: skip
    (out_dir / "last.ckpt").unlink(missing_ok=True)


def pick_device(device: str) -> torch.device:
    """`auto`: the GPU where there is one."""
    return torch.device(
        "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    )


def _warn_of_plateau(history: list[dict[str, Any]]) -> None:
    unexplained = [r["value"] for r in history if r["name"] == "unexplained" and r["split"] == "train"]
    if unexplained and unexplained[-1] > PLATEAU:
        warnings.warn(
            f"the masked autoencoder still leaves {unexplained[-1]:.0%} of the variance unexplained: it has hardly"
            " learnt anything; more steps may help", stacklevel=2,
        )  # fmt: skip
