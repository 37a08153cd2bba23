"""A training in several processes is the same training: gloo on the CPU stands for NCCL on GPUs."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from ptacl.artifacts import read_table
from ptacl.errors import PtaclError
from ptacl.training.dice import Part
from ptacl.training.engine import Engine, train
from tests.training.joint_loss import CASES, build, loss_and_gradients, operations, resumed_history
from tests.training.study import Study, curve, furthest, make_study, ptacl

pytestmark = pytest.mark.filterwarnings("ignore:the masked autoencoder still leaves")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study, str]:
    """The folder into which two processes wrote their losses and gradients, and what they printed."""
    folder = tmp_path_factory.mktemp("shared")
    study = make_study(folder / "study", people=12)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "-m", "tests.training.joint_loss", str(folder)], cwd=REPOSITORY, text=True, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    return folder, study, done.stdout


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_and_the_gradients_of_the_joint_batch(shared: tuple, case: str) -> None:
    folder, study, output = shared
    path = folder / f"{case}.safetensors"
    assert path.exists(), output[-2000:]
    found, expected = load_file(path), loss_and_gradients(case, study, Part())
    assert found.keys() == expected.keys()
    assert sum(v.abs().sum() > 0 for k, v in expected.items() if k.startswith("gradient/")) > 10
    # The autoencoder's loss is computed in float32 whatever the model; a ratio of means is no mean of ratios.
    tolerance = 1e-5 if "mae" in case else 1e-9
    for name, value in expected.items():
        if name != "loss/unexplained":
            assert (found[name] - value).abs().max() <= tolerance * value.abs().max() + 1e-12, name


def test_some_patients_of_the_joint_batch_have_no_usable_phase(shared: tuple) -> None:
    """Else the case above would say less than it seems to."""
    share = loss_and_gradients("phase", shared[1], Part())["loss/valid"].item()
    assert 0.3 < share < 1
    assert loss_and_gradients("other_patient", shared[1], Part())["loss/valid"].item() < share


def test_a_training_in_two_processes_that_breaks_off_keeps_the_means_of_both(shared: tuple, tmp_path: Path) -> None:
    """A checkpoint must not hold the sums of the first process alone."""
    folder, study, output = shared
    assert (folder / "history.json").exists(), output[-2000:]
    found = {(r["epoch"], r["split"], r["name"]): r["value"] for r in json.loads((folder / "history.json").read_text())}
    rows = resumed_history(study, tmp_path / "last.ckpt", Engine(checkpoint_steps=2))
    expected = {(r["epoch"], r["split"], r["name"]): r["value"] for r in rows}
    assert found.keys() == expected.keys() and {name for *_, name in found} >= {"loss", "unexplained", "lr"}
    for key, value in expected.items():
        if key[1:] != ("train", "unexplained"):  # a ratio: its mean depends on who shares a batch with whom
            assert found[key] == pytest.approx(value, rel=1e-3), key


def test_operations_are_counted_in_every_process_as_in_one(shared: tuple) -> None:
    folder, study, output = shared
    assert (folder / "operations.json").exists(), output[-2000:]
    counted = json.loads((folder / "operations.json").read_text())
    assert counted == {case: pytest.approx(operations(case, study)) for case in counted}
    assert set(counted) == {"phase", "shuffled"}


def processes_of(folder: Path) -> list[int]:
    """Ids of processes that were started with a file below `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in path.read_text(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


class Stop(threading.Thread):
    """Sends this process a SIGTERM as soon as there is a checkpoint."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(daemon=True)
        self.checkpoint, self.running = checkpoint, 0

    def run(self) -> None:
        deadline = time.monotonic() + 120
        while not self.checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        self.running = len(processes_of(Path(tempfile.gettempdir())))
        os.kill(os.getpid(), signal.SIGTERM)


def steps_of(checkpoint: Path) -> int:
    with safe_open(str(checkpoint), "pt") as file:
        return json.loads(file.metadata()["ptacl"])["step"]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are told by /proc")
def test_a_training_in_two_processes_can_be_stopped_and_ends_with_the_weights_of_one_process(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM to the launcher stops all, with a checkpoint; the next start goes on from it."""
    settings, out = ptacl(epochs=16, lr=2e-4), tmp_path / "two"
    alone = study.train(tmp_path / "alone", settings)
    (tmp_path / "tasks").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tasks"))
    stop = Stop(out / "last.ckpt")
    stop.start()
    with pytest.raises(PtaclError, match="training in 2 processes ended with exit code"):
        study.train(out, settings, gpus=2, checkpoint_steps=3)
    stop.join()
    assert stop.running >= 3 and processes_of(tmp_path / "tasks") == []  # the launcher and two processes
    printed = capsys.readouterr().out
    word = re.search(r"stopped as asked after step (\d+) of 48; start again to go on", printed)
    assert word and int(word[1]) == steps_of(out / "last.ckpt"), printed[-3000:]
    assert not (out / "model.safetensors").exists()

    together = study.train(out, settings, gpus=2)
    assert f"resumed after step {word[1]}" in capsys.readouterr().out
    assert furthest(alone, together) < 1e-3
    for name in ("loss", "global", "local"):
        assert curve(out, name) == pytest.approx(curve(tmp_path / "alone", name), rel=1e-3)
    # Written once, by the first process, and nothing else remains.
    assert sorted(p.name for p in out.iterdir()) == ["config.yaml", "history.parquet", "model.safetensors"]
    rows = [read_table(p / "history.parquet", kind="history", version=1).num_rows for p in (out, tmp_path / "alone")]
    assert rows[0] == rows[1]
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_batch_that_several_processes_cannot_share_is_refused(study: Study, tmp_path: Path) -> None:
    objective, data = build("phase", 0), study.dataset()
    settings = {"epochs": 1, "batch": 7, "lr": 1e-3, "weight_decay": 0.05}
    with pytest.raises(PtaclError, match="a batch of 7 can't be shared evenly by 2 processes or parts"):
        train(objective, data, settings, 0, tmp_path / "last.ckpt", "digest", Engine(part=Part(0, 2)))
    with pytest.raises(PtaclError, match="the training split has 24 usable pairs, at least 32 are needed"):
        train(objective, data, settings, 0, tmp_path / "last.ckpt", "digest", Engine(part=Part(0, 32)))
