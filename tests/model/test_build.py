"""Encoders as files that stand for themselves, the heads around them, and what importing the model brings along."""

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from ptacl.artifacts import write_tensors
from ptacl.errors import ArtifactError
from ptacl.model.blocks import Size
from ptacl.model.build import (
    EcgOnly,
    Regressor,
    cmr_encoder,
    ecg_encoder,
    load_encoder,
    load_into,
    projection_head,
    read_encoder,
    save_encoder,
)
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.ptacl import Ptacl
from ptacl.store import schema
from ptacl.training.checkpoint import save_weights

CMR = {"slices": 2, "frames": 20, "size": 16}
TINY = {"encoder": {"size": "tiny", "tokens": "time", "tubelet": 2, "patch": 16}, "cmr": CMR, "scale": 0.5}
LEAD_TIME = TINY | {"encoder": TINY["encoder"] | {"tokens": "lead_time"}}
SMALL = TINY | {"encoder": TINY["encoder"] | {"size": "small"}}


def exported(folder: Path, side: str = "ecg", settings: dict = TINY) -> tuple[Path, Ptacl]:
    """A file with one encoder of an untrained model, and the model."""
    model, path = Ptacl.from_settings(settings), folder / f"{side}.safetensors"
    save_encoder(path, model.state_dict(), side, settings)
    return path, model


@pytest.mark.parametrize("settings", [TINY, LEAD_TIME, SMALL], ids=["tiny", "lead_time", "small"])
def test_an_exported_ecg_encoder_gives_the_same_slots_without_any_settings(tmp_path: Path, settings: dict) -> None:
    path, model = exported(tmp_path, "ecg", settings)
    encoder, x = load_encoder(path), torch.randn(2, 12, 2500)
    assert isinstance(encoder, EcgEncoder) and not encoder.training
    with torch.no_grad():
        assert torch.equal(encoder(x), model.ecg(x))


@pytest.mark.parametrize(("settings", "kind"), [(TINY, TinyCmrEncoder), (SMALL, CmrEncoder)], ids=["tiny", "small"])
def test_an_exported_cmr_encoder_gives_the_same_slots_without_any_settings(
    tmp_path: Path, settings: dict, kind: type
) -> None:
    path, model = exported(tmp_path, "cmr", settings)
    encoder, x = load_encoder(path), torch.randn(2, 2, 20, 16, 16)
    assert isinstance(encoder, kind) and not encoder.training
    with torch.no_grad():
        assert torch.equal(encoder(x), model.cmr(x))


def test_an_exported_file_says_which_encoder_it_is_and_in_which_unit_its_input_comes(tmp_path: Path) -> None:
    about, weights = read_encoder(exported(tmp_path, "cmr", TINY | {"scale": 0.25})[0])
    assert about["side"] == "cmr" and about["scale"] == 0.25
    assert about["encoder"] == TINY["encoder"] and about["cmr"] == CMR
    assert weights.keys() == TinyCmrEncoder(Size(64, 2, 4), 2, 20, 16, 2).state_dict().keys()


def test_the_same_encoder_makes_the_same_bytes(tmp_path: Path) -> None:
    model = Ptacl.from_settings(TINY)
    for name in ("a", "b"):
        save_encoder(tmp_path / name, model.state_dict(), "ecg", TINY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_an_encoder_takes_twenty_lines_at_most() -> None:
    assert len(inspect.getsource(load_encoder).splitlines()) <= 20


def test_a_model_without_the_wanted_encoder_has_none_to_export(tmp_path: Path) -> None:
    weights = EcgOnly(ecg_encoder(TINY["encoder"])).state_dict()
    save_encoder(tmp_path / "ecg.safetensors", weights, "ecg", TINY)
    with pytest.raises(ArtifactError, match="the model has no cmr encoder"):
        save_encoder(tmp_path / "cmr.safetensors", weights, "cmr", TINY)
    assert not (tmp_path / "cmr.safetensors").exists()


# Files that are something else.


def test_a_whole_model_is_not_an_encoder(tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", Ptacl.from_settings(TINY).state_dict())
    with pytest.raises(ArtifactError, match=r"model.safetensors: no encoder of version 1; `ptacl export-encoder`"):
        load_encoder(tmp_path / "model.safetensors")


def test_tensors_of_another_stage_are_not_an_encoder(tmp_path: Path) -> None:
    kind = schema.ECG_TENSORS
    write_tensors(
        tmp_path / "0000.safetensors", {"ecg": np.zeros((1, 12, 5000), np.int16)}, kind=kind,
        version=schema.VERSION[kind], settings={},
    )  # fmt: skip
    with pytest.raises(ArtifactError, match="no encoder of version 1"):
        load_encoder(tmp_path / "0000.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_safetensors_of_another_program_are_not_an_encoder(tmp_path: Path, metadata: dict | None) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(ArtifactError, match="no encoder of version 1"):
        load_encoder(tmp_path / "other.safetensors")


def test_an_encoder_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path, _ = exported(tmp_path)
    later = path.read_bytes().replace(rb"\"ptacl.version\": \"1\"", rb"\"ptacl.version\": \"2\"")
    assert later != path.read_bytes()
    path.write_bytes(later)
    with pytest.raises(ArtifactError, match="no encoder of version 1"):
        load_encoder(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path, _ = exported(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtifactError, match="ecg.safetensors: no readable safetensors file"):
        load_encoder(path)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("size: tiny\n" * 100)])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nothing at all, a folder, and a text."""
    make(tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match="x.safetensors: (no readable safetensors file|not there)"):
        load_encoder(tmp_path / "x.safetensors")


# Weights that do not fit.


def misfit(tmp_path: Path, change: Callable[[dict], None]) -> str:
    """What is said of a file whose weights were changed before they were written."""
    weights = Ptacl.from_settings(TINY).state_dict()
    change(weights)
    save_encoder(tmp_path / "ecg.safetensors", weights, "ecg", TINY)
    with pytest.raises(ArtifactError, match="ecg.safetensors: does not fit the encoder") as raised:
        load_encoder(tmp_path / "ecg.safetensors")
    return str(raised.value).split("encoder: ")[1]


def test_the_first_weight_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """First in the order of their names; that of the last norm does not fit either."""

    def narrow(weights: dict) -> None:
        for name in ("ecg.transformer.norm.weight", "ecg.stem.0.weight"):
            weights[name] = weights[name][..., :7]

    assert misfit(tmp_path, narrow) == "`stem.0.weight` should be [32, 12, 15], found [32, 12, 7]"


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    said = misfit(tmp_path, lambda w: w.pop("ecg.transformer.blocks.1.qkv.bias"))
    assert said == "`transformer.blocks.1.qkv.bias` should be [192], found nothing"


def test_a_weight_too_many_is_named(tmp_path: Path) -> None:
    said = misfit(tmp_path, lambda w: w.update({"ecg.cls": torch.zeros(3)}))
    assert said == "`cls` should be nothing, found [3]"


def test_misfit_weights_leave_the_encoder_as_it_was() -> None:
    encoder = ecg_encoder(TINY["encoder"])
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    other = ecg_encoder(TINY["encoder"]).state_dict() | {"stem.0.bias": torch.zeros(5)}
    with pytest.raises(ArtifactError, match=r"FILE: .* `stem.0.bias` should be \[32\], found \[5\]"):
        load_into(encoder, other, Path("FILE"))
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())


def test_an_encoder_fits_another_number_of_slices_but_not_another_kind() -> None:
    three, eleven = (cmr_encoder(SMALL["encoder"], CMR | {"slices": s}) for s in (3, 11))
    load_into(eleven, three.state_dict(), Path("FILE"))
    assert torch.equal(eleven.stem.weight, three.stem.weight)
    with pytest.raises(ArtifactError, match=r"`position` should be nothing, found \[10, 64\]"):
        load_into(three, cmr_encoder(TINY["encoder"], CMR).state_dict(), Path("FILE"))


# Heads.


def test_a_projection_head_is_one_hidden_layer_to_128() -> None:
    head = projection_head(32)
    assert head(torch.randn(2, 5, 32)).shape == (2, 5, 128)
    assert sum(p.numel() for p in head.parameters()) == 32 * 32 + 32 + 32 * 128 + 128


def test_an_untrained_regressor_predicts_the_mean_of_every_label_and_can_learn() -> None:
    """Labels are standardised: 0 is their mean. The encoder learns from the second step on."""
    model = Regressor(EcgEncoder(Size(16, 1, 2)), 3)
    x, labels = torch.randn(8, 12, 2500), torch.randn(8, 3)
    assert torch.equal(model(x), torch.zeros(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100):
        loss = nn.functional.mse_loss(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2
    assert all(p.grad.any() for p in model.parameters())


# Imports.


def test_model_training_and_store_import_little() -> None:
    """A machine that trains needs torch, numpy, pyarrow, safetensors, yaml, tqdm, and TensorBoard where asked for."""
    code = (
        "import sys; import ptacl.model.ptacl, ptacl.model.mae, ptacl.training.stage, ptacl.training.finetune,"
        " ptacl.training.worker, ptacl.training.monitor, ptacl.store.pairs;"
        "heavy={'scipy','pandas','pydicom','nibabel','lxml','sklearn','matplotlib','snakemake','sleepecg','wfdb',"
        "'jsonschema','jinja2','numba','isal','tensorboard'};"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}), 'torch.utils.tensorboard' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


@pytest.mark.parametrize("said", ["{", "[1]", '"text"'])
def test_a_foreign_description_is_none(tmp_path: Path, said: str) -> None:
    (tmp_path / "x.safetensors").write_bytes(save({"a": torch.zeros(1)}, metadata={"ptacl": said}))
    with pytest.raises(ArtifactError, match="no encoder of version 1"):
        load_encoder(tmp_path / "x.safetensors")


@pytest.mark.parametrize("change", [{"side": None}, {"encoder": {}}, {"encoder": {"size": "huge", "tokens": "time"}}])
def test_a_damaged_description_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    settings = {"encoder": {"size": "tiny", "tokens": "time"}, "cmr": {}, "scale": 0.5}
    path = tmp_path / "x.safetensors"
    save_encoder(path, {"ecg.a": torch.zeros(1)}, "ecg", settings)
    about, weights = read_encoder(path)
    path.write_bytes(save(weights, metadata={"ptacl": json.dumps(about | change)}))
    with pytest.raises(ArtifactError, match="description of the encoder is damaged"):
        load_encoder(path)
