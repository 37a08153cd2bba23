"""The stage pretrain: every objective learns, starts from what it is told to, and writes its files."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from ptacl.artifacts import write_tensors
from ptacl.errors import ArtifactError
from ptacl.evaluation.embed import embed
from ptacl.model.blocks import Size
from ptacl.model.build import load_encoder, save_encoder
from ptacl.model.cmr import CmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.ptacl import LossSettings, Ptacl
from ptacl.store import schema
from ptacl.training.augment import Augmentation, augment_cine, augment_ecg, random_crop
from ptacl.training.checkpoint import load_weights
from ptacl.training.dice import Dice
from ptacl.training.objectives import ContrastiveObjective
from tests.training.study import (
    COMMON,
    CONTRASTIVE,
    FRAMES,
    PIXELS,
    SLICES,
    Study,
    curve,
    history,
    mae,
    make_study,
    ptacl,
    same,
)

QUIET = pytest.mark.filterwarnings("ignore:the masked autoencoder still leaves")


def test_both_losses_fall_and_phases_are_found(study: Study, tmp_path: Path) -> None:
    study.train(tmp_path, ptacl(epochs=30))
    for name, share in (("global", 0.85), ("local", 0.3)):
        losses = curve(tmp_path, name)
        assert losses[-1] < share * losses[0]
    assert curve(tmp_path, "phase_acc_own", "val")[-1] > 0.7
    assert not (tmp_path / "last.ckpt").exists()


def test_the_autoencoder_learns_more_than_the_mean(tmp_path: Path) -> None:
    """Of waves of about 0.5 Hz the hidden parts follow from the others; it soon leaves its plateau at the mean, 1.0."""
    study, rng, t = make_study(tmp_path), np.random.default_rng(1), np.arange(5000) / 500
    hz, start = 0.5 * rng.uniform(0.8, 1.2, (32, 1, 1)), rng.random((32, 1, 1))
    waves = np.broadcast_to(np.sin(2 * np.pi * hz * t + start) / 0.005, (32, 12, 5000)).astype(np.int16)  # 1 mV
    path = study.folder / "ecg" / "0000.safetensors"
    write_tensors(path, {"ecg": waves}, kind=schema.ECG_TENSORS, version=1, settings={})
    study.train(tmp_path / "out", mae(epochs=40))
    unexplained = curve(tmp_path / "out", "unexplained")
    assert unexplained[-1] < 0.5 < 0.95 < unexplained[0]
    assert curve(tmp_path / "out", "unexplained", "val")[-1] < 0.5


def test_an_autoencoder_on_its_plateau_is_warned_of(study: Study, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"still leaves \d+% of the variance unexplained"):
        study.train(tmp_path, mae(epochs=2))


def test_random_and_scratch_leave_the_encoder_as_it_was_drawn(study: Study, tmp_path: Path) -> None:
    for seed in (0, 1):
        for name in ("none", "supervised"):
            study.train(tmp_path / f"{name}{seed}", COMMON | {"method": {"objective": name}}, seed=seed)
    found = {p.name: (p / "model.safetensors").read_bytes() for p in tmp_path.iterdir()}
    assert found["none0"] == found["supervised0"] != found["none1"] == found["supervised1"]
    assert history(tmp_path / "none0") == []


@QUIET
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(study: Study, tmp_path: Path) -> None:
    for name, settings in (("ptacl", ptacl()), ("mae", mae())):
        first = study.train(tmp_path / f"{name}a", settings)
        assert same(first, study.train(tmp_path / f"{name}b", settings))
        assert not same(first, study.train(tmp_path / f"{name}c", settings, seed=1))
        assert history(tmp_path / f"{name}a") == history(tmp_path / f"{name}b")


def test_the_files_of_a_training_say_what_made_them(study: Study, tmp_path: Path) -> None:
    study.train(tmp_path, ptacl(), seed=5)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config == {"name": "x", "seed": 5, "trained_on": {"device": "cpu", "precision": "fp32"}} | ptacl()
    rows = history(tmp_path)
    assert [(r["epoch"], r["step"]) for r in rows if (r["split"], r["name"]) == ("train", "loss")] == [
        (1, 3), (2, 6), (3, 9),
    ]  # fmt: skip
    assert {r["name"] for r in rows if r["split"] == "train"} >= {"loss", "global", "local", "valid", "lr"}
    assert {r["name"] for r in rows if r["split"] == "val"} >= {
        "loss", "patient_r1", "patient_r10", "patient_mrr", "phase_acc_own", "phase_acc_other", "frame_cosine",
    }  # fmt: skip
    # Of 36 rows, those of one person have no usable phase: the others see the local loss.
    assert all(0.85 < v <= 1 for v in curve(tmp_path, "valid"))


@QUIET
def test_a_warm_start_begins_with_the_given_encoder(study: Study, tmp_path: Path) -> None:
    encoder = study.train(tmp_path / "mae", mae())
    assert {k for k in encoder if not k.startswith("ecg.")} == set()
    still = ptacl(epochs=1, lr=1e-12, weight_decay=0.0)
    warm = study.train(tmp_path / "warm", still, tmp_path / "mae" / "model.safetensors")
    cold = study.train(tmp_path / "cold", still)
    for name, weight in encoder.items():
        assert torch.allclose(warm[name], weight, atol=1e-6)
    assert not torch.allclose(cold["ecg.stem.0.weight"], encoder["ecg.stem.0.weight"], atol=1e-3)
    assert torch.allclose(cold["cmr.stem.0.weight"], warm["cmr.stem.0.weight"], atol=1e-6)


@QUIET
def test_a_warm_start_may_be_an_exported_encoder(study: Study, tmp_path: Path) -> None:
    """A file of one encoder alone starts a method as the model it was taken from does."""
    encoder = study.train(tmp_path / "mae", mae())
    save_encoder(tmp_path / "encoder.safetensors", encoder, "ecg", COMMON)
    a = study.train(tmp_path / "a", ptacl(epochs=1), tmp_path / "mae" / "model.safetensors")
    b = study.train(tmp_path / "b", ptacl(epochs=1), tmp_path / "encoder.safetensors")
    assert same(a, b)


def vision(section: str, **values: Any) -> dict[str, Any]:
    """Settings of the vision transformer on small cines: 2 slices x 10 slots x 2 x 2 patches."""
    return COMMON | {
        "encoder": {"size": "small", "tokens": "time", "tubelet": 2, "patch": 16},
        "cmr": {"slices": 2, "frames": 20, "size": 32},
        "method": {"objective": section},
        section: values,
    }


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """12 people with cines of 32 x 32 pixels."""
    return make_study(tmp_path_factory.mktemp("large"), people=12, pixels=32)


@pytest.fixture(scope="module")
def cine_mae(large: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cine autoencoder."""
    out = tmp_path_factory.mktemp("cine_mae")
    settings = vision("cine_mae", epochs=14, batch=3, lr=1e-3, weight_decay=0.05, mask=0.9)
    large.train(out, settings)
    return out


def test_the_cine_autoencoder_learns(cine_mae: Path) -> None:
    losses = curve(cine_mae, "loss")
    assert losses[-1] < 0.5 * losses[0]
    assert curve(cine_mae, "unexplained", "val")[-1] < 0.8


def test_the_cine_autoencoder_warm_starts_the_vision_transformer(large: Study, cine_mae: Path, tmp_path: Path) -> None:
    encoder = load_weights(cine_mae / "model.safetensors")
    assert all(k.startswith("cmr.") for k in encoder) and "cmr.stem.weight" in encoder
    still = vision("contrastive", **CONTRASTIVE | {"epochs": 1, "lr": 1e-12, "weight_decay": 0.0})
    save_encoder(tmp_path / "encoder.safetensors", encoder, "cmr", still)
    for start in (cine_mae / "model.safetensors", tmp_path / "encoder.safetensors"):
        warm = large.train(tmp_path / start.stem, still, cmr=start)
        for name, weight in encoder.items():
            assert torch.allclose(warm[name], weight, atol=1e-6)
    cine = torch.randn(2, 2, 20, 32, 32, generator=torch.Generator().manual_seed(0))
    assert load_encoder(tmp_path / "encoder.safetensors")(cine).shape == (2, 10, 384)


def test_a_warm_start_that_does_not_fit_is_named(large: Study, study: Study, cine_mae: Path, tmp_path: Path) -> None:
    start = cine_mae / "model.safetensors"
    with pytest.raises(
        ArtifactError, match=r"model.safetensors: does not fit the encoder: `.+` should be \[.*\], found"
    ):
        study.train(tmp_path / "a", ptacl(), cmr=start)
    # A model without an ECG encoder.
    with pytest.raises(ArtifactError, match="does not fit the encoder"):
        study.train(tmp_path / "b", ptacl(), ecg=start)
    with pytest.raises(ArtifactError, match="nowhere.safetensors: not there"):
        study.train(tmp_path / "c", ptacl(), ecg=tmp_path / "nowhere.safetensors")
    assert not any((tmp_path / name / "model.safetensors").exists() for name in "abc")


def test_tubelets_are_left_out_of_the_augmented_cine_as_if_it_were_whole(study: Study) -> None:
    """They are picked as eight-bit pixels, before gain and offset: the losses are those of picking them afterwards."""
    everything = Augmentation(0.02, 0.03, 0.1, 2, 0.1, 0.1, True)
    torch.manual_seed(0)
    model = Ptacl(EcgEncoder(Size(64, 1, 4)), CmrEncoder(Size(64, 1, 4), SLICES, FRAMES, PIXELS, tubelet=2, patch=4))
    objective = ContrastiveObjective(model, 0.5, LossSettings(10, 20.0), everything, cine_drop=0.75)
    data = study.dataset()
    (batch,) = data.batches([torch.arange(8)])
    found = objective(batch, Dice(data.device).of_step(1))

    dice = Dice(data.device).of_step(1)
    x, timing = random_crop(batch.ecg, batch.timing, 0.5, everything, dice)
    cine, timing = augment_cine(batch.cine, timing, everything, dice)
    keep = model.cmr.random_subset(dice.uniform(8, model.cmr.length), 0.75)
    assert keep.shape == (8, model.cmr.length // 4)
    slots = model(augment_ecg(x, 0.5, everything, dice), cine, keep)
    for name, value in model.losses(*slots, timing, objective.settings).items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5)


def test_embeddings_have_the_columns_a_method_has(study: Study, tmp_path: Path) -> None:
    study.train(tmp_path / "p", ptacl())
    study.train(tmp_path / "r", COMMON | {"method": {"objective": "none"}})
    found = {}
    for name, settings in (("p", ptacl()), ("r", COMMON | {"method": {"objective": "none"}})):
        out = tmp_path / f"{name}.parquet"
        inputs = (study.pairs, study.folder / "ecg", study.folder / "cmr")
        embed(tmp_path / name, *inputs, settings, out, device="cpu")
        found[name] = pq.read_table(out).to_pylist()
    row, random = found["p"][0], found["r"][0]
    lengths = {k: len(v) for k, v in row.items() if isinstance(v, list)}
    assert lengths == {
        "ecg_feature": 64, "cmr_feature": 64, "ecg_proj": 128, "cmr_proj": 128, "ecg_phase": 1280, "cmr_phase": 1280,
        "cmr_phase_shifted": 1280, "ecg_phase_feature": 640,
    }  # fmt: skip
    assert np.linalg.norm(row["ecg_proj"]) == pytest.approx(1, abs=1e-5)
    assert random["ecg_feature"] and random["ecg_proj"] is None and random["cmr_feature"] is None
    (without,) = {r["subject_id"] for r in found["p"] if r["ecg_phase"] is None}
    assert without == "P003"
