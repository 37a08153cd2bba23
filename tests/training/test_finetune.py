"""Fine-tuning learns labels end to end, from any method's ECG encoder, and predicts them in their units."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from ptacl.artifacts import read_table
from ptacl.errors import ArtifactError, PtaclError
from ptacl.model.build import Regressor, ecg_encoder
from ptacl.store.dataset import PairedDataset
from ptacl.store.labels import labelled as labelled_people
from ptacl.training import finetune as stage
from ptacl.training.checkpoint import Progress, load_weights
from ptacl.training.engine import Interrupted, train
from ptacl.training.finetune import LEAST_STEPS, Inputs, finetune
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


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many epochs as a test says: most need far fewer steps than a study does."""
    monkeypatch.setattr(stage, "LEAST_STEPS", 1)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """64 people of whom 16 are held out."""
    study = make_study(tmp_path_factory.mktemp("labelled"), people=64, splits=("val", "train", "train", "test"))
    study.train(study.folder / "scratch", COMMON | {"method": {"objective": "supervised"}})
    study.train(study.folder / "mae", mae(epochs=4))
    return study


def learn(
    study: Study, out: Path, method: str = "scratch", *, subjects: Path | None = None, targets: tuple[str, ...] = ("LVM",),
    how: How = How(device="cpu"), fraction: float = 1.0, seed: int = 0, **changes: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Fine-tunes into `out`; the predictions."""
    objective = "supervised" if method == "scratch" else "mae"
    settings = {k: COMMON[k] for k in ("encoder", "scale", "augment")}
    settings |= {"method": {"objective": objective}, "finetune": SECTION | changes, "targets": list(targets)}
    settings["label_fraction"] = fraction
    model = study.folder / method / "model.safetensors"
    finetune(
        method, seed, settings, Inputs(study.pairs, study.folder / "ecg", subjects or study.subjects, model, out), how
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


def people_of(study: Study, split: str) -> list[str]:
    return [r["subject_id"] for r in pq.read_table(study.pairs).to_pylist() if r["split"] == split]


@pytest.mark.parametrize("split", ["train", "val"])
def test_at_a_tenth_of_the_labels_those_of_everyone_else_do_not_matter(
    labelled: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """Neither to learn from nor to choose the weights by; those of the tenth do, in both splits."""
    monkeypatch.setattr(stage, "LEAST_LABELS", 2)
    rows = pq.read_table(labelled.pairs).to_pylist()
    people = people_of(labelled, split)
    known = labelled_people(people, 0.1, 0)
    lvm = {i: 40 + 100 * s for i, s in enumerate(labelled.size)}
    # The other way round, so that the best weights would be others.
    other = {"nobody": {}} | {
        name: {int(s[1:]): 105 - 10 * (lvm[int(s[1:])] - 105) for s in people if (s in known) == them}
        for name, them in (("others", False), ("them", True))
    }
    found = {}
    for name, changed in other.items():
        write_subjects(tmp_path / f"{name}.parquet", rows, lvm | changed)
        found[name] = learn(labelled, tmp_path / name, subjects=tmp_path / f"{name}.parquet", fraction=0.1)
    assert found["others"] == found["nobody"] != found["them"]
    assert [(r["subject_id"], r["visit"], r["split"]) for r in found["nobody"]] == [
        (r["subject_id"], r["visit"], r["split"]) for r in rows
    ]
    assert history(tmp_path / "others") == history(tmp_path / "nobody") != history(tmp_path / "them")


@pytest.mark.parametrize(("fraction", "seed"), [(0.5, 0), (0.5, 1), (1.0, 0)])
def test_all_methods_learn_from_the_same_people(
    labelled: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fraction: float, seed: int
) -> None:
    taught: list[dict[str, list[str]]] = []

    def spy(objective: Any, data: PairedDataset, *rest: Any) -> Any:
        taught.append({s: [data.subject_id[i] for i in data.of_split(s)] for s in ("train", "val")})
        return train(objective, data, *rest)

    monkeypatch.setattr(stage, "train", spy)
    for method in ("scratch", "mae"):
        learn(labelled, tmp_path / method, method, fraction=fraction, seed=seed, epochs=1)
    expected = {s: sorted(labelled_people(people_of(labelled, s), fraction, seed)) for s in ("train", "val")}
    assert taught == [expected, expected]
    assert [len(v) for v in expected.values()] == [32 * fraction, 16 * fraction]


def test_labels_are_standardised_by_the_people_whose_are_known(labelled: Study, tmp_path: Path) -> None:
    rows = learn(labelled, tmp_path, epochs=1, lr=1e-12, fraction=0.5)
    people = labelled_people(people_of(labelled, "train"), 0.5, 0)
    known = [r for r in rows if r["subject_id"] in people and int(r["subject_id"][1:]) % 5 != 4]
    assert [r["predicted"] for r in rows] == pytest.approx([truth(labelled, known).mean()] * 64, rel=1e-6)


@pytest.mark.parametrize(
    ("least", "epochs", "batch", "accumulate", "done"),
    [
        (30, 1, 2, 1, (4, 32)),  # 16 people: 8 steps an epoch
        (30, 5, 2, 1, (5, 40)),
        (32, 1, 2, 1, (4, 32)),
        (33, 1, 2, 1, (5, 40)),
        (7, 2, 32, 1, (7, 7)),  # a batch cut to 16
        (7, 2, 18, 3, (7, 7)),  # to 15, of three parts
        (7, 2, 9, 3, (7, 7)),  # one of 9, the other 7 wait for another epoch
    ],
)
def test_few_labels_are_seen_more_often(
    labelled: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, epochs: int, batch: int,
    accumulate: int, done: tuple[int, int],
) -> None:  # fmt: skip
    monkeypatch.setattr(stage, "LEAST_STEPS", least)
    learn(labelled, tmp_path, fraction=0.5, epochs=epochs, batch=batch, accumulate=accumulate)
    last = history(tmp_path)[-1]
    assert (last["epoch"], last["step"]) == done


def test_a_study_makes_three_hundred_steps_at_least(
    labelled: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all labels of a small study too, or half of them would be seen more often than all."""
    epochs = []

    def spy(_objective: Any, _data: Any, section: dict[str, Any], *_rest: Any) -> Progress:
        epochs.append(section["epochs"])
        return Progress()

    monkeypatch.setattr(stage, "train", spy)
    monkeypatch.setattr(stage, "LEAST_STEPS", LEAST_STEPS)
    for fraction in (0.5, 1.0):
        learn(labelled, tmp_path, epochs=30, batch=16, fraction=fraction)
    assert LEAST_STEPS == 300 and epochs == [300, 150]


def test_too_few_labels_leave_an_empty_table_and_the_start_model_with_a_warning(
    labelled: Study, tmp_path: Path
) -> None:
    """Four people of 32. The study's larger fractions come out all the same."""
    whole = learn(labelled, tmp_path / "whole", epochs=1)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "last.ckpt").write_bytes(b"of another time")
    with pytest.warns(
        UserWarning,
        match=r"left out of evaluate.targets: LVM, LVEF \(fewer than 10 people of the training split have a value at"
        r" label_fraction 0.1, or all the same\): nothing to learn, and no predictions",
    ):
        assert learn(labelled, tmp_path / "few", "mae", targets=("LVM", "LVEF"), fraction=0.1) == []
    assert whole
    empty, full = (pq.read_schema(tmp_path / f / "predictions.parquet") for f in ("few", "whole"))
    assert empty.equals(full) and history(tmp_path / "few") == []
    start, found = (load_weights(p / "model.safetensors") for p in (labelled.folder / "mae", tmp_path / "few"))
    head = {"head.weight": torch.zeros(2, 64), "head.bias": torch.zeros(2)}
    assert found.keys() == start.keys() | head.keys() and same(found, start | head)
    about = yaml.safe_load((tmp_path / "few" / "config.yaml").read_text())
    assert (about["name"], about["label_fraction"], about["targets"]) == ("mae", 0.1, ["LVM", "LVEF"])
    assert {p.name for p in (tmp_path / "few").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}


def test_fewer_people_than_parts_of_a_batch_are_too_few(labelled: Study, tmp_path: Path) -> None:
    """Sixteen people, of whom a batch of 17 parts would have none to give to one of them."""
    with pytest.warns(UserWarning, match="fewer than 17 people"):
        assert learn(labelled, tmp_path, fraction=0.5, batch=17, accumulate=17) == []
