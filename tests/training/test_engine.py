"""What the engine refuses, warns of and records, whatever it trains."""

import math
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ptacl.errors import PtaclError
from ptacl.model.blocks import Size
from ptacl.model.build import Regressor
from ptacl.model.ecg import EcgEncoder
from ptacl.model.mae import MaskedAutoencoder
from ptacl.store.dataset import Batch
from ptacl.training.augment import Augmentation, middle_crop
from ptacl.training.dice import Dice
from ptacl.training.engine import Engine, _first_visits, epoch_order, train
from ptacl.training.objectives import MaeObjective, Objective, SupervisedObjective
from ptacl.training.optimizer import rate
from ptacl.training.options import How
from ptacl.training.stage import pretrain
from tests.training.study import Study, after_every_step, curve, furthest, history, mae, make_study, ptacl, same

pytestmark = pytest.mark.filterwarnings("ignore:the masked autoencoder still leaves")


def test_an_empty_training_split_is_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path, people=8)
    study.rewrite(split="test")
    for settings, least in ((ptacl(), 2), (mae(), 1)):
        with pytest.raises(PtaclError, match=f"the training split has 0 usable pairs, at least {least} are needed"):
            study.train(tmp_path / "out", settings)


def test_one_person_with_two_visits_is_too_few_to_contrast(tmp_path: Path) -> None:
    study = make_study(tmp_path, people=1, second_visits=1, splits=("train",))
    with pytest.raises(PtaclError, match="the training split has 1 usable pairs, at least 2 are needed"):
        study.train(tmp_path / "out", ptacl())


def test_a_batch_larger_than_the_training_split_is_cut_with_a_warning(tmp_path: Path) -> None:
    study = make_study(tmp_path, people=8)
    with pytest.warns(UserWarning, match="batch cut from 64 to 6: the training split has 6 pairs"):
        study.train(tmp_path / "out", ptacl(batch=64))
    assert [r["step"] for r in history(tmp_path / "out") if r["name"] == "lr"] == [1, 2, 3]


def test_a_cohort_with_few_usable_phases_is_warned_of(tmp_path: Path) -> None:
    study = make_study(tmp_path, people=8)
    study.rewrite(phase_ok=False)
    with pytest.warns(UserWarning, match="only 0 of 6 training pairs have a usable cardiac phase"):
        study.train(tmp_path / "ptacl", ptacl(batch=6))
    assert curve(tmp_path / "ptacl", "local") == [0.0, 0.0, 0.0]
    # The methods that ask for no phase are not warned of.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in ({"beta": 0.0}, {"correspondence": "index"}):
            study.train(tmp_path / "other", ptacl(loss=loss, batch=6))


def test_no_batch_holds_two_visits_of_one_person_and_either_may_come() -> None:
    person = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    drawn = set()
    for seed in range(50):
        order = epoch_order(person, True, torch.Generator().manual_seed(seed))
        assert sorted(person[order].tolist()) == [0, 1, 2, 3]
        drawn |= set(order.tolist())
    assert drawn == set(range(7))
    assert sorted(epoch_order(person, False, torch.Generator()).tolist()) == list(range(7))


def test_a_loss_that_is_no_number_stops_with_a_clear_word_and_leaves_no_spoilt_checkpoint(
    study: Study, tmp_path: Path
) -> None:
    with pytest.raises(PtaclError, match=r"no finite number any more at step \d+ of 90; nothing of this was kept"):
        study.train(tmp_path, ptacl(epochs=30, lr=1e30), checkpoint_steps=1)
    for path in tmp_path.glob("last.ckpt"):
        assert all(v.isfinite().all() for v in load_file(path).values())
    assert not list(tmp_path.glob("*.safetensors"))


class Cusp(Objective):
    """A loss of 1 whose gradient is no number from the given step on."""

    sides = ("ecg",)

    def __init__(self, step: int) -> None:
        super().__init__()
        self.model, self.step = nn.Linear(1, 1), step

    def forward(self, batch: Batch, dice: Dice) -> dict[str, Tensor]:
        """The root of 0 has no slope."""
        self.step -= 1
        zero = self.model.weight.sum() * 0 + self.model.bias.sum() * 0
        return {"loss": 1 + (zero.abs().sqrt() if self.step < 0 else zero)}

    def validate(self, batches: Iterable[Batch], dice: Dice, batch: int) -> dict[str, float]:
        """Nothing is validated."""
        return {}


@pytest.mark.parametrize("step", [0, 3, 5])
def test_a_gradient_that_is_no_number_spoils_neither_checkpoint_nor_model(
    study: Study, tmp_path: Path, step: int
) -> None:
    """Though the loss is finite, the weights are lost: at a step with a checkpoint, before one, and at the last step."""
    data, settings = study.dataset(sides=("ecg",)), {"epochs": 2, "batch": 9, "lr": 0.1, "weight_decay": 0.0}
    with pytest.raises(PtaclError, match="no finite number any more"):
        train(Cusp(step), data, settings, 0, tmp_path / "last.ckpt", "digest", Engine(checkpoint_steps=1))
    assert (tmp_path / "last.ckpt").exists() == (step > 0)
    for path in tmp_path.glob("last.ckpt"):
        assert all(v.isfinite().all() for v in load_file(path).values())


class Fixed(Objective):
    """An objective that draws nothing: the same middle crops, and the same tokens hidden of each row."""

    sides = ("ecg",)

    def __init__(self, inner: MaeObjective) -> None:
        super().__init__()
        self.model, self.inner = inner.model, inner

    def forward(self, batch: Batch, dice: Dice) -> dict[str, Tensor]:
        """The autoencoder's loss, of rows as they are."""
        length = self.model.length
        noise = torch.stack(
            [torch.rand(length, generator=torch.Generator().manual_seed(r)) for r in batch.rows.tolist()]
        )
        return {"loss": self.model(middle_crop(batch.ecg, batch.timing, 0.5)[0], noise)[0]}

    def validate(self, batches: Iterable[Batch], dice: Dice, batch: int) -> dict[str, float]:
        """Nothing is validated."""
        return {}


def test_a_batch_in_two_parts_makes_the_steps_of_the_whole_batch(study: Study, tmp_path: Path) -> None:
    """Where nothing is drawn, since every part draws anew, and where the loss is a mean over equally weighted rows.

    So not for `unexplained`, a ratio of two means, nor with labels that only some rows of a part have; contrastive losses
    compare the rows of a batch, and the config refuses to cut them.
    """
    data, found = study.dataset(sides=("ecg",)), []
    for parts in (1, 2, 4):
        torch.manual_seed(0)
        objective = Fixed(MaeObjective(MaskedAutoencoder(EcgEncoder(Size(16, 1, 2)), 0.5), 0.5, Augmentation()))
        settings = {"epochs": 2, "batch": 8, "lr": 1e-3, "weight_decay": 0.05, "accumulate": parts}
        progress = train(objective, data, settings, 0, tmp_path / f"{parts}.ckpt", "digest", Engine())
        curves = [r["value"] for r in progress.history if r["name"] in ("loss", "grad_norm")]
        found.append((progress.step, curves, {k: v.clone() for k, v in objective.model.state_dict().items()}))
    (steps, curves, weights), *others = found
    assert steps == 6 and len(curves) == 4
    for other in others:
        assert other[0] == steps and other[1] == pytest.approx(curves, rel=1e-5)
        # Adam makes full steps of gradients near zero, whose sign is rounding: a few weights differ by a step or two.
        assert furthest(weights, other[2]) < 4e-3
        assert sum((weights[k] - v).abs().sum() for k, v in other[2].items()) < 1e-3 * sum(
            v.abs().sum() for v in weights.values()
        )


def test_the_rates_that_were_used_are_recorded(study: Study, tmp_path: Path) -> None:
    study.train(tmp_path, ptacl(epochs=4))
    assert curve(tmp_path, "lr") == pytest.approx([rate(step, 12, 2e-3) for step in (2, 5, 8, 11)])


def test_the_best_weights_by_validation_are_kept_also_by_a_training_that_breaks_off(
    study: Study, tmp_path: Path
) -> None:
    """With labels that have nothing to do with the ECG, what is learnt later only does harm."""
    data = study.dataset(sides=("ecg",))
    labels = torch.randn(len(data), 1, generator=torch.Generator().manual_seed(3))
    kept = []

    def objective() -> SupervisedObjective:
        torch.manual_seed(0)
        return SupervisedObjective(Regressor(EcgEncoder(Size(16, 1, 2)), 1), labels, 0.5, Augmentation())

    longer, settings = objective(), {"epochs": 12, "batch": 8, "lr": 3e-3, "weight_decay": 0.0}
    steps = 3 * 12

    def keep() -> None:
        kept.append({k: v.detach().clone() for k, v in longer.model.state_dict().items()})

    with after_every_step(keep):
        progress = train(longer, data, settings, 0, tmp_path / "a.ckpt", "digest", Engine())
    assert len(kept) == steps
    scores = [r["value"] for r in progress.history if (r["split"], r["name"]) == ("val", "r2")]
    best = max(range(12), key=scores.__getitem__)
    assert progress.best == scores[best] and best < 11
    assert same(longer.model.state_dict(), kept[3 * (best + 1) - 1])

    def break_off() -> None:
        made.append(1)
        if len(made) == 3 * (best + 1) + 2:
            raise InterruptedError

    made: list[int] = []
    with after_every_step(break_off), pytest.raises(InterruptedError):
        train(objective(), data, settings, 0, tmp_path / "b.ckpt", "digest", Engine(checkpoint_steps=1))
    resumed = objective()
    train(resumed, data, settings, 0, tmp_path / "b.ckpt", "digest", Engine())
    assert same(longer.model.state_dict(), resumed.model.state_dict())


def test_bf16_trains_weights_that_stay_in_full_precision(study: Study, tmp_path: Path) -> None:
    dtypes = set()

    def look(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        dtypes.add(output.dtype)

    handle = nn.modules.module.register_module_forward_hook(
        lambda m, i, o: look(m, i, o) if isinstance(m, nn.Linear) and m.training else None
    )
    try:
        weights = study.train(tmp_path / "bf16", ptacl(epochs=2), precision="bf16")
    finally:
        handle.remove()
    assert torch.bfloat16 in dtypes
    assert all(v.dtype == torch.float32 and v.isfinite().all() for v in weights.values())
    losses = curve(tmp_path / "bf16", "loss")
    full = study.train(tmp_path / "fp32", ptacl(epochs=2))
    assert not same(full, weights)
    assert losses == pytest.approx(curve(tmp_path / "fp32", "loss"), rel=0.05)


def test_tensorboard_shows_what_the_history_holds(study: Study, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    study.train(tmp_path, ptacl(epochs=2), tensorboard=True, checkpoint_steps=2)
    board = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    rows = history(tmp_path)
    shown = {(tag, e.step): e.value for tag in board.Tags()["scalars"] for e in board.Scalars(tag)}
    for r in rows:
        assert shown[f"{r['split']}/{r['name']}", r["step"]] == pytest.approx(r["value"], rel=1e-6)
    assert {step for tag, step in shown if tag == "running/loss"} == {1, 2, 4, 6}
    assert {tag for tag, _ in shown} >= {"train/samples_per_s", "train/data_wait", "running/global"}


def test_tensorboard_that_is_not_installed_is_asked_for_by_name(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(PtaclError, match="pretrain.tensorboard: true, but tensorboard is not installed: pip install"):
        study.train(tmp_path, ptacl(), tensorboard=True)
    study.train(tmp_path, ptacl(epochs=1))


def test_without_tensorboard_nothing_of_it_is_written(study: Study, tmp_path: Path) -> None:
    study.train(tmp_path, ptacl(epochs=1))
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU on this machine")
def test_a_gpu_that_is_not_there_is_told_from_auto(study: Study, tmp_path: Path) -> None:
    with pytest.raises(
        PtaclError, match="pretrain.device: cuda, but torch finds no GPU here; `auto` would train on the"
    ):
        study.train(tmp_path, ptacl(), device="cuda")
    study.train(tmp_path, ptacl(epochs=1), device="auto")


@pytest.mark.parametrize(("settings", "parts"), [(ptacl(), 2), (mae(), 1)], ids=["ptacl", "mae"])
def test_compiled_parts_are_whole_graphs_of_one_shape_and_keep_the_names_of_weights(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict, parts: int
) -> None:
    """Traced but not translated, which would take a minute: the numbers are those of eager training."""
    compile_module, compiled = nn.Module.compile, []

    def trace(module: nn.Module, **options: Any) -> None:
        compiled.append(module)
        compile_module(module, backend="eager", fullgraph=True, **options)

    eager = study.train(tmp_path / "eager", settings)
    monkeypatch.setattr(nn.Module, "compile", trace)
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        weights = study.train(tmp_path / "compiled", settings, compile=True)
    assert same(eager, weights) and history(tmp_path / "eager") == history(tmp_path / "compiled")
    assert len(compiled) == parts and torch._dynamo.utils.counters["stats"]["unique_graphs"] == parts


@pytest.mark.skipif("PTACL_COMPILE" not in os.environ, reason="takes a minute; set PTACL_COMPILE to run it")
@pytest.mark.parametrize("settings", [ptacl(epochs=2), mae(epochs=2)], ids=["ptacl", "mae"])
def test_compiled_training_gives_the_losses_of_eager_training(study: Study, tmp_path: Path, settings: dict) -> None:
    eager = study.train(tmp_path / "eager", settings, compile=False)
    compiled = study.train(tmp_path / "compiled", settings, compile=True)
    assert eager.keys() == compiled.keys()
    assert curve(tmp_path / "compiled", "loss") == pytest.approx(curve(tmp_path / "eager", "loss"), rel=1e-3)
    assert not same(eager, compiled)  # else nothing was compiled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
@pytest.mark.parametrize("data", ["resident", "mapped"])
def test_training_runs_on_the_gpu_in_bf16_and_compiled(study: Study, tmp_path: Path, data: str) -> None:
    for name, settings in (("mae", mae()), ("ptacl", ptacl())):
        how = How(device="cuda", precision="bf16", compile=True, data=data)
        pretrain("x", 0, settings, study.inputs(tmp_path / name), how)
        assert all(math.isfinite(v) for v in curve(tmp_path / name, "loss"))
    study.train(tmp_path / "cpu", ptacl())
    assert curve(tmp_path / "ptacl", "loss") == pytest.approx(curve(tmp_path / "cpu", "loss"), rel=0.2)


def test_only_the_first_visit_of_a_person_is_validated() -> None:
    person = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    assert _first_visits(torch.tensor([0, 1, 2, 3, 4, 5, 6]), person).tolist() == [0, 2, 3, 6]
    assert _first_visits(torch.tensor([1, 4, 5]), person).tolist() == [1, 4]
    assert _first_visits(torch.zeros(0, dtype=torch.int64), person).tolist() == []


def test_validation_losses_are_those_of_batches_as_large_as_in_training(study: Study, tmp_path: Path) -> None:
    """Of a model that has learnt nothing the global loss is near the log of the batch, on either split."""
    settings = ptacl(epochs=1, lr=1e-12, batch=4)
    study.train(tmp_path, settings)
    for split in ("train", "val"):
        assert abs(curve(tmp_path, "global", split)[0] - math.log(4)) < 0.1
