"""Fine-tuning learns labels end to end, from any method's ECG encoder, and predicts them in their units."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ptacl.artifacts import read_table
from ptacl.errors import ArtifactError, PtaclError
from ptacl.model.build import Regressor, ecg_encoder
from ptacl.training import finetune as stage
from ptacl.training.checkpoint import load_weights
from ptacl.training.engine import Interrupted
from ptacl.training.finetune import Inputs, finetune
from ptacl.training.options import How
from tests.training.study import (
    COMMON,
    Study,
    after_every_step,
    curve,
    furthest,
    history,
    mae,
    make_study,
    same,
    write_subjects,
)

pytestmark = pytest.mark.filterwarnings("ignore:the masked autoencoder still leaves")
SECTION = {"epochs": 12, "batch": 8, "lr": 3e-3, "weight_decay": 0.05, "layer_decay": 0.75}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """64 people of whom 16 are held out."""
    study = make_study(tmp_path_factory.mktemp("labelled"), people=64, splits=("val", "train", "train", "test"))
    study.train(study.folder / "scratch", COMMON | {"method": {"objective": "supervised"}})
    study.train(study.folder / "mae", mae(epochs=4))
    return study


def learn(
    study: Study, out: Path, method: str = "scratch", *, subjects: Path | None = None, targets: tuple[str, ...] = ("LVM",),
    how: How = How(device="cpu"), **changes: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Fine-tunes into `out`; the predictions."""
    objective = "supervised" if method == "scratch" else "mae"
    settings = {k: COMMON[k] for k in ("encoder", "scale", "augment")}
    settings |= {"method": {"objective": objective}, "finetune": SECTION | changes, "targets": list(targets)}
    model = study.folder / method / "model.safetensors"
    finetune(
        method, 0, settings, Inputs(study.pairs, study.folder / "ecg", subjects or study.subjects, model, out), how
    )
    return read_table(out / "predictions.parquet", kind=stage.PREDICTIONS, version=stage.VERSION).to_pylist()


def truth(study: Study, rows: list[dict[str, Any]]) -> np.ndarray:
    """LVM of everyone, in g, also of those whose label was kept from training."""
    return np.array([40 + 100 * study.size[int(r["subject_id"][1:])] for r in rows])


def held_out_r2(study: Study, rows: list[dict[str, Any]]) -> float:
    rows = [r for r in rows if r["split"] == "test"]
    y, p = truth(study, rows), np.array([r["predicted"] for r in rows])
    return 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("method", ["scratch", "mae"])
def test_a_label_that_follows_from_the_ecg_is_learnt(labelled: Study, tmp_path: Path, method: str) -> None:
    rows = learn(labelled, tmp_path, method)
    assert held_out_r2(labelled, rows) > 0.8
    assert max(curve(tmp_path, "r2", "val")) > 0.8
    losses = curve(tmp_path, "loss")
    assert losses[0] > 0.5 > 0.3 > losses[-1]
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors", "config.yaml", "history.parquet", "predictions.parquet",
    }  # fmt: skip


def test_every_pair_has_a_prediction_in_the_units_of_the_label(labelled: Study, tmp_path: Path) -> None:
    """Also those of other splits, and those whose own label is not known."""
    rows = learn(labelled, tmp_path)
    pairs = pq.read_table(labelled.pairs).to_pylist()
    assert [(r["subject_id"], r["visit"], r["split"]) for r in rows] == [
        (p["subject_id"], p["visit"], p["split"]) for p in pairs
    ]
    assert {r["phenotype"] for r in rows} == {"LVM"}
    assert np.abs(np.array([r["predicted"] for r in rows]) - truth(labelled, rows)).mean() < 6  # g, of 80 to 130 g


def test_an_untrained_head_predicts_the_mean_of_the_training_split(labelled: Study, tmp_path: Path) -> None:
    rows = learn(labelled, tmp_path, epochs=1, lr=1e-12)
    known = [r for r in rows if r["split"] == "train" and int(r["subject_id"][1:]) % 5 != 4]
    mean = truth(labelled, known).mean()
    assert [r["predicted"] for r in rows] == pytest.approx([mean] * 64, rel=1e-6)


def test_training_starts_from_the_encoder_of_the_method(labelled: Study, tmp_path: Path) -> None:
    start = load_weights(labelled.folder / "mae" / "model.safetensors")
    learn(labelled, tmp_path, "mae", epochs=1, lr=1e-12)
    found = load_weights(tmp_path / "model.safetensors")
    assert found.keys() == start.keys() | {"head.weight", "head.bias"}
    assert all(torch.allclose(found[k], v, atol=1e-6) for k, v in start.items())


def test_labels_that_are_not_known_do_not_count(labelled: Study, tmp_path: Path) -> None:
    """Two labels, known for different people, are learnt as well as each alone would be."""
    rows = pq.read_table(labelled.pairs).to_pylist()
    sizes = labelled.size
    write_subjects(
        tmp_path / "subjects.parquet", rows, {i: 40 + 100 * s if i % 3 else None for i, s in enumerate(sizes)},
        {i: 80 - 40 * s if i % 3 != 1 else None for i, s in enumerate(sizes)},
    )  # fmt: skip
    subjects = tmp_path / "subjects.parquet"
    predicted = learn(labelled, tmp_path / "out", "mae", subjects=subjects, targets=("LVM", "LVEF"))
    assert [r["phenotype"] for r in predicted] == ["LVM", "LVEF"] * 64
    assert held_out_r2(labelled, predicted[::2]) > 0.8
    lvef = np.array([r["predicted"] for r in predicted[1::2]])
    assert np.corrcoef(lvef, truth(labelled, predicted[1::2]))[0, 1] < -0.9
    assert 44 < lvef.min() < lvef.max() < 66


def test_a_label_that_hardly_anyone_has_is_left_out_and_when_none_remains_refused(
    labelled: Study, tmp_path: Path
) -> None:
    rows = pq.read_table(labelled.pairs).to_pylist()
    train = sorted(int(r["subject_id"][1:]) for r in rows if r["split"] == "train")
    for n in (9, 10):  # of the training split; everyone else has the label
        path = tmp_path / f"{n}.parquet"
        write_subjects(path, rows, {i: None if i in train[n:] else 100.0 + i for i in range(64)})
        if n == 10:
            learn(labelled, tmp_path / "out", subjects=path, epochs=1)
        else:
            with pytest.raises(PtaclError, match="LVM: fewer than 10 people of the training split have a value"):
                learn(labelled, tmp_path / "out", subjects=path)
    write_subjects(tmp_path / "same.parquet", rows, {i: 7.0 for i in range(64)})
    with pytest.raises(PtaclError, match="or all the same: nothing to learn"):
        learn(labelled, tmp_path / "out", subjects=tmp_path / "same.parquet")
    # A column of nulls, and no column at all.
    with pytest.warns(UserWarning, match="left out of evaluate.targets: LVEF, RVEDV"):
        predicted = learn(labelled, tmp_path / "out", epochs=1, targets=("LVEF", "LVM", "RVEDV"))
    assert {r["phenotype"] for r in predicted} == {"LVM"}


def test_the_labels_of_the_test_split_do_not_matter(labelled: Study, tmp_path: Path) -> None:
    rows = pq.read_table(labelled.pairs).to_pylist()
    split = {int(r["subject_id"][1:]): r["split"] for r in rows}
    lvm = {i: 40 + 100 * s for i, s in enumerate(labelled.size)}
    other = {i: v if split[i] != "test" else 500.0 for i, v in lvm.items()}
    for name, labels in (("a", lvm), ("b", other)):
        write_subjects(tmp_path / f"{name}.parquet", rows, labels)
        learn(labelled, tmp_path / name, subjects=tmp_path / f"{name}.parquet", epochs=2)
    assert same(*(load_weights(tmp_path / name / "model.safetensors") for name in "ab"))


def test_layers_near_the_input_move_less(labelled: Study, tmp_path: Path) -> None:
    start = load_weights(labelled.folder / "mae" / "model.safetensors")
    moved = {}
    for decay in (1.0, 0.1):
        learn(labelled, tmp_path / str(decay), "mae", epochs=2, layer_decay=decay)
        found = load_weights(tmp_path / str(decay) / "model.safetensors")
        stem = {k: v for k, v in found.items() if ".stem." in k}
        moved[decay] = furthest(stem, {k: start[k] for k in stem})
    assert moved[0.1] < 0.02 * moved[1.0]


def test_all_layers_of_an_untrained_encoder_move_alike(labelled: Study, tmp_path: Path) -> None:
    found = []
    for decay in (1.0, 0.1):
        learn(labelled, tmp_path / str(decay), "scratch", epochs=1, layer_decay=decay)
        found.append(load_weights(tmp_path / str(decay) / "model.safetensors"))
    assert same(*found)


def test_an_encoder_that_does_not_fit_is_named(labelled: Study, tmp_path: Path) -> None:
    settings = COMMON | {"encoder": COMMON["encoder"] | {"tokens": "lead_time"}, "method": {"objective": "none"}}
    labelled.train(labelled.folder / "other", settings)
    with pytest.raises(ArtifactError, match="model.safetensors: does not fit the encoder: `position` should be"):
        learn(labelled, tmp_path, "other")


def test_fine_tuning_goes_on_where_it_was_stopped(labelled: Study, tmp_path: Path) -> None:
    steps: list[int] = []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    unbroken = learn(labelled, tmp_path / "a", epochs=3)
    with after_every_step(stop), pytest.raises(Interrupted, match="stopped as asked after step 7 of 12"):
        learn(labelled, tmp_path / "b", epochs=3)
    assert not (tmp_path / "b" / "predictions.parquet").exists()
    assert learn(labelled, tmp_path / "b", epochs=3) == unbroken
    assert history(tmp_path / "a") == history(tmp_path / "b")


def test_mapped_recordings_give_the_same_predictions(labelled: Study, tmp_path: Path) -> None:
    resident, mapped = (
        learn(labelled, tmp_path / data, epochs=2, how=How(device="cpu", data=data)) for data in ("resident", "mapped")
    )
    assert resident == mapped


def test_a_new_head_starts_at_zero() -> None:
    """So that training begins at the mean of the labels, and the encoder is not torn away by a random head."""
    model = Regressor(ecg_encoder(COMMON["encoder"]), 3)
    assert model(torch.randn(2, 12, 2500)).abs().max() == 0
    assert model.head.weight.shape == (3, 64)


def test_a_checkpoint_of_other_recordings_or_labels_is_left_aside(
    labelled: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pq.read_table(labelled.pairs).to_pylist()
    lvm = {i: 40 + 100 * s for i, s in enumerate(labelled.size)}
    # The same mean and SD: two people of the training split change places.
    first, second = [int(r["subject_id"][1:]) for r in rows if r["split"] == "train"][:2]
    write_subjects(tmp_path / "a.parquet", rows, lvm)
    write_subjects(tmp_path / "b.parquet", rows, lvm | {first: lvm[second], second: lvm[first]})
    steps: list[int] = []

    def stop() -> None:
        steps.append(1)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with after_every_step(stop), pytest.raises(Interrupted):
        learn(labelled, tmp_path / "out", epochs=1, subjects=tmp_path / "a.parquet")
    learn(labelled, tmp_path / "out", epochs=1, subjects=tmp_path / "b.parquet")
    assert "a checkpoint of other settings is left aside" in capsys.readouterr().out
