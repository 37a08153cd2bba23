"""A training that was killed or asked to stop goes on, and ends as if nothing had happened."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ptacl.training.engine import Interrupted
from tests.training.study import Study, after_every_step, history, mae, ptacl, same

pytestmark = pytest.mark.filterwarnings("ignore:the masked autoencoder still leaves")
REPOSITORY = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("PTACL_KILLS", "2"))
# The study has 24 people in its training split: 3 steps of 8 an epoch.
STEPS_PER_EPOCH = 3
SETTINGS = {"ptacl": ptacl(epochs=4), "mae": mae(epochs=4, batch=9)}


class Killed:
    """A training in a process of its own, which is started again and again."""

    def __init__(self, study: Study, folder: Path, settings: dict[str, Any], checkpoint_steps: int) -> None:
        self.out, self.steps, self.log = folder / "out", folder / "steps", folder / "log"
        task = {
            "folder": str(study.folder), "out": str(self.out), "settings": settings, "log": str(self.log),
            "checkpoint_steps": checkpoint_steps, "steps": str(self.steps),
        }  # fmt: skip
        self.task = folder / "task.json"
        self.task.write_text(json.dumps(task))

    def start(self, kill_after: int | None, fraction: float = 0.0) -> tuple[int, int, int]:
        """First step and step reached of one life, and its exit code.

        The process is killed once it has made `kill_after` steps and then, for the part `fraction` of a step, goes on.
        """
        self.steps.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-m", "tests.training.killable", str(self.task)], cwd=REPOSITORY)
        try:
            if kill_after is not None:
                started = None
                while process.poll() is None and self._made() < kill_after:
                    started = started or (time.monotonic() if self._made() else None)
                    time.sleep(0.001)
                step_s = (time.monotonic() - (started or time.monotonic())) / kill_after
                time.sleep(fraction * step_s)
                process.send_signal(signal.SIGKILL)
            code = process.wait(timeout=300)
        finally:
            process.kill()
        resumed = re.search(r"resumed after step (\d+)", self.log.read_text())
        first = int(resumed[1]) if resumed else 0
        return first, first + self._made(), code

    def _made(self) -> int:
        return self.steps.stat().st_size if self.steps.exists() else 0


def test_a_training_killed_at_random_steps_ends_like_an_unbroken_one(study: Study, tmp_path: Path) -> None:
    """SIGKILL, as often as PTACL_KILLS says: weights and history agree in every bit, and few steps were made twice."""
    dice = random.Random(20)
    checkpoint_steps = 4
    lives = [dice.randint(2, 14) for _ in range(KILLS)]
    # Long enough for all of these lives, and for the moment between the count and the kill.
    settings = ptacl(epochs=(sum(lives) + 8 * KILLS) // STEPS_PER_EPOCH + 10)
    unbroken = study.train(tmp_path / "unbroken", settings)
    killed = Killed(study, tmp_path, settings, checkpoint_steps)
    reached = 0
    for life in lives:
        first, last, code = killed.start(life, fraction=dice.random())
        assert code == -signal.SIGKILL and last >= first + life
        assert 0 <= reached - first <= checkpoint_steps
        assert not (killed.out / "model.safetensors").exists()
        reached = last
    first, last, code = killed.start(None)
    assert code == 0 and 0 <= reached - first <= checkpoint_steps
    assert last == settings["contrastive"]["epochs"] * STEPS_PER_EPOCH
    assert same(unbroken, load_file(killed.out / "model.safetensors"))
    assert history(killed.out) == history(tmp_path / "unbroken")
    # Neither the checkpoint nor half a file of a killed life remains under a final name.
    assert {p.name for p in killed.out.iterdir() if not p.name.startswith(".")} == {
        "model.safetensors", "config.yaml", "history.parquet",
    }  # fmt: skip


def stop_after(step: int, number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """What sends this process a signal after `step` steps."""
    made = iter(range(1, 1000))
    return lambda: os.kill(os.getpid(), number) if next(made) == step else None


def checkpoint_of(out: Path) -> dict[str, Any]:
    with safe_open(str(out / "last.ckpt"), "pt") as file:
        return json.loads(file.metadata()["ptacl"])


@pytest.fixture(scope="module")
def unbroken(study: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Tensor], list[dict]]]:
    """Weights and history of a training that nothing disturbed, by method."""
    out = tmp_path_factory.mktemp("unbroken")
    return {name: (study.train(out / name, s), history(out / name)) for name, s in SETTINGS.items()}


@pytest.mark.parametrize(
    ("name", "step"), [("ptacl", 1), ("ptacl", 3), ("ptacl", 5), ("ptacl", 12), ("mae", 5), ("mae", 6)]
)
def test_sigterm_leaves_a_checkpoint_at_that_very_step_from_which_the_next_start_goes_on(
    study: Study, tmp_path: Path, unbroken: dict, name: str, step: int
) -> None:
    """In the middle of an epoch (1, 5), at its end (3, 6), and at the end of all (12)."""
    with (
        after_every_step(stop_after(step)),
        pytest.raises(Interrupted, match=f"stopped as asked after step {step} of 12; start again to go on"),
    ):
        study.train(tmp_path, SETTINGS[name])
    about = checkpoint_of(tmp_path)
    assert about["step"] == step and about["epoch"] == (step - 1) // STEPS_PER_EPOCH
    steps_made = []
    with after_every_step(lambda: steps_made.append(1)):
        weights = study.train(tmp_path, SETTINGS[name])
    assert len(steps_made) == 12 - step
    assert same(unbroken[name][0], weights) and unbroken[name][1] == history(tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("every", [2, 3])
def test_a_run_that_dies_without_warning_goes_on_from_its_last_checkpoint(
    study: Study, tmp_path: Path, unbroken: dict, every: int
) -> None:
    """Checkpoints in the middle of an epoch (2, 4), and exactly at its end (3, 6)."""

    def die() -> None:
        steps.append(1)
        if len(steps) == 8:
            raise MemoryError

    steps: list[int] = []
    with after_every_step(die), pytest.raises(MemoryError):
        study.train(tmp_path, SETTINGS["ptacl"], checkpoint_steps=every)
    assert checkpoint_of(tmp_path)["step"] == 6
    weights = study.train(tmp_path, SETTINGS["ptacl"], checkpoint_steps=every)
    assert same(unbroken["ptacl"][0], weights) and unbroken["ptacl"][1] == history(tmp_path)


def test_a_second_interrupt_ends_at_once_and_handlers_are_put_back(study: Study, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice does not want to wait."""

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # What a shell starts in the background begins with SIGINT ignored.
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        before = signal.getsignal(signal.SIGTERM)
        with after_every_step(twice), pytest.raises(KeyboardInterrupt):
            study.train(tmp_path, SETTINGS["ptacl"])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGINT, usual)


def test_a_second_sigterm_changes_nothing(study: Study, tmp_path: Path) -> None:
    """A scheduler sends it to all processes of a job, and torchrun, which gets one too, passes it on to its own."""

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    def fail(*_: Any) -> None:
        raise AssertionError("the second SIGTERM went to the handler that was there before")

    before = signal.signal(signal.SIGTERM, fail)
    try:
        with after_every_step(twice), pytest.raises(Interrupted, match="stopped as asked after step 1 of 12"):
            study.train(tmp_path, SETTINGS["ptacl"])
        assert signal.getsignal(signal.SIGTERM) is fail
    finally:
        signal.signal(signal.SIGTERM, before)
    assert checkpoint_of(tmp_path)["step"] == 1


@pytest.fixture(scope="module")
def checkpoint(study: Study, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of a training that was stopped after step 5 of 12."""
    out = tmp_path_factory.mktemp("stopped")
    with after_every_step(stop_after(5)), pytest.raises(Interrupted):
        study.train(out, SETTINGS["ptacl"])
    return (out / "last.ckpt").read_bytes()


@pytest.fixture
def stopped(tmp_path: Path, checkpoint: bytes) -> Path:
    """The folder of that training."""
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "last.ckpt").write_bytes(checkpoint)
    return tmp_path / "stopped"


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_zip(path: Path) -> None:
    path.write_bytes(b"PK\3\4 half a file of torch.save")


def without_its_description(path: Path) -> None:
    save_file(load_file(path), path)


def of_a_version_to_come(path: Path) -> None:
    with safe_open(str(path), "pt") as file:
        about = json.loads(file.metadata()["ptacl"]) | {"colour": "red"}
    save_file(load_file(path), path, metadata={"ptacl": json.dumps(about)})


def without_a_weight(path: Path) -> None:
    with safe_open(str(path), "pt") as file:
        about = file.metadata()
    save_file({k: v for k, v in load_file(path).items() if k != "model/ecg.stem.0.weight"}, path, metadata=about)


def without_a_moment(path: Path) -> None:
    with safe_open(str(path), "pt") as file:
        about = file.metadata()
    tensors = {k: v for k, v in load_file(path).items() if k != "optimizer/ecg.stem.0.weight/exp_avg_sq"}
    save_file(tensors, path, metadata=about)


def with_a_weight_of_another_shape(path: Path) -> None:
    with safe_open(str(path), "pt") as file:
        about = file.metadata()
    save_file(load_file(path) | {"model/ecg.stem.0.weight": torch.zeros(3)}, path, metadata=about)


@pytest.mark.parametrize(
    "damage",
    [
        truncated, emptied, a_zip, without_its_description, of_a_version_to_come, without_a_weight, without_a_moment,
        with_a_weight_of_another_shape,
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_left_aside(
    study: Study, stopped: Path, unbroken: dict, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(stopped / "last.ckpt")
    steps_made = []
    with after_every_step(lambda: steps_made.append(1)):
        assert same(unbroken["ptacl"][0], study.train(stopped, SETTINGS["ptacl"]))
    assert len(steps_made) == 12
    assert "left aside" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["settings", "seed", "warm start"])
def test_a_checkpoint_of_another_training_is_left_aside(
    study: Study, stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    settings, options, start = SETTINGS["ptacl"], {}, None
    if change == "settings":
        settings = ptacl(epochs=4, lr=1e-3)
    elif change == "seed":
        options = {"seed": 1}
    else:
        study.train(tmp_path / "mae", mae(epochs=1))
        start = tmp_path / "mae" / "model.safetensors"
    fresh = study.train(tmp_path / "fresh", settings, start, **options)
    assert same(fresh, study.train(stopped, settings, start, **options))
    assert "a checkpoint of other settings is left aside" in capsys.readouterr().out


def test_how_a_training_runs_may_change_when_it_goes_on(study: Study, stopped: Path, unbroken: dict) -> None:
    """Where data lie, and how often checkpoints are written, decide no result."""
    assert same(unbroken["ptacl"][0], study.train(stopped, SETTINGS["ptacl"], data="mapped", checkpoint_steps=3))
