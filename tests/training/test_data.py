"""Pairs as batches: resident and mapped data are the same, and mapped data costs neither memory nor threads."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ptacl.artifacts import read_tensors, write_tensors
from ptacl.errors import ArtifactError
from ptacl.store import dataset, schema
from ptacl.store.dataset import AHEAD, READERS, Batch, PairedDataset, _read_ahead
from ptacl.training.engine import Interrupted
from tests.training.study import Study, after_every_step, curve, history, mae, make_study, ptacl, same

pytestmark = pytest.mark.filterwarnings("ignore:the masked autoencoder still leaves")


def parts_of(data: PairedDataset, size: int = 5) -> list[torch.Tensor]:
    """All rows, shuffled, in parts."""
    return list(torch.randperm(len(data), generator=torch.Generator().manual_seed(1)).split(size))


def equal(a: Batch, b: Batch) -> bool:
    tensors = [(a.rows, b.rows), (a.ecg, b.ecg), (a.cine, b.cine)]
    tensors += [(getattr(a.timing, f), getattr(b.timing, f)) for f in a.timing.__dataclass_fields__]
    return all(x.dtype == y.dtype and torch.equal(x.nan_to_num(-1), y.nan_to_num(-1)) for x, y in tensors)


@pytest.mark.parametrize("data", ["resident", "mapped"])
def test_a_row_of_the_pairs_table_brings_its_own_recordings_from_its_own_shard(study: Study, data: str) -> None:
    rows = pq.read_table(study.pairs).to_pylist()
    assert {r["shard"] for r in rows} == {0, 1}
    shards = {
        (side, s): read_tensors(study.folder / side / f"{s:04d}.safetensors", kind=kind, version=1)[name]
        for side, name, kind in (("ecg", "ecg", schema.ECG_TENSORS), ("cmr", "cine", schema.CMR_TENSORS))
        for s in (0, 1)
    }
    dataset = study.dataset(data=data)
    for batch in dataset.batches(parts_of(dataset)):
        for i, r in enumerate(batch.rows.tolist()):
            row = rows[r]
            assert np.array_equal(batch.ecg[i], shards["ecg", row["shard"]][row["ecg_row"]])
            assert np.array_equal(batch.cine[i], shards["cmr", row["shard"]][row["cmr_row"]])
            assert batch.timing.r_peaks[i].isfinite().sum() == len(row["r_peaks"])
            assert batch.timing.r_peaks[i, 1] == np.float32(row["r_peaks"][1])
            assert batch.timing.usable[i] == row["phase_ok"]
            assert batch.timing.t_end[i] == pytest.approx(190)  # 380 ms in samples
            assert batch.timing.es_phase[i] == pytest.approx(0.5)  # frame 10 of 20


def test_resident_and_mapped_data_give_the_same_batches_bit_for_bit(study: Study) -> None:
    resident, mapped = study.dataset(data="resident"), study.dataset(data="mapped")
    assert resident.is_resident and not mapped.is_resident
    parts = parts_of(resident)
    pairs = list(zip(resident.batches(parts), mapped.batches(parts), strict=True))
    assert len(pairs) == len(parts) and all(equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("settings", [ptacl(), mae()], ids=["ptacl", "mae"])
def test_resident_and_mapped_data_give_the_same_weights_and_history(
    study: Study, tmp_path: Path, settings: dict
) -> None:
    a, b = (study.train(tmp_path / data, settings, data=data) for data in ("resident", "mapped"))
    assert same(a, b)
    assert history(tmp_path / "resident") == history(tmp_path / "mapped")


def test_a_batch_holds_only_what_was_asked_for(study: Study) -> None:
    data = study.dataset(sides=("ecg",), data="mapped", splits=("val",))
    (batch,) = data.batches([torch.arange(2)])
    assert batch.cine is None and batch.ecg.shape == (2, 12, 5000) and batch.ecg.dtype == torch.int16
    assert batch.timing.es_phase.isnan().all()  # without the cine's frames there is no phase to tell
    assert set(data.split) == {"val"} and len(data.of_split("train")) == 0


def test_visits_of_one_person_carry_one_number(study: Study) -> None:
    data = study.dataset()
    numbers = dict(zip(data.subject_id, data.person.tolist(), strict=True))
    assert [numbers[s] for s in data.subject_id] == data.person.tolist()
    assert len(set(numbers.values())) == 32 and len(data) == 36


def test_mapped_data_are_read_ahead_of_the_reader_but_not_without_bound() -> None:
    fetched: list[int] = []

    def fetch(part: torch.Tensor) -> int:
        fetched.append(int(part))
        return int(part)

    reader = _read_ahead(fetch, list(torch.arange(20)))
    assert next(reader) == 0
    deadline = time.monotonic() + 10
    while len(fetched) < 1 + AHEAD and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(fetched) == 1 + AHEAD
    assert list(reader) == list(range(1, 20)) and sorted(fetched) == list(range(20))


def test_an_error_of_the_reading_thread_is_raised_where_the_batch_is_asked_for(study: Study) -> None:
    data, before = study.dataset(data="mapped"), threading.active_count()
    batches = data.batches([torch.tensor([0]), torch.tensor([1]), torch.tensor([len(data)]), torch.tensor([2])])
    assert next(batches).rows.tolist() == [0] and next(batches).rows.tolist() == [1]
    with pytest.raises(IndexError):
        next(batches)
    assert threading.active_count() == before


def test_a_reader_that_stops_early_leaves_no_thread_behind(study: Study) -> None:
    data, before = study.dataset(data="mapped"), threading.active_count()
    batches = data.batches([torch.tensor([i % len(data)]) for i in range(1000)])
    next(batches)
    assert before < threading.active_count() <= before + READERS
    batches.close()
    assert threading.active_count() == before


def test_a_training_that_is_stopped_leaves_no_thread_behind(study: Study, tmp_path: Path) -> None:
    before = threading.active_count()
    stopped = False
    with after_every_step(lambda: os.kill(os.getpid(), signal.SIGTERM)):
        try:
            study.train(tmp_path / "out", ptacl(epochs=50), data="mapped")
        except Interrupted:  # not pytest.raises, which would keep the frames that hold the reader
            stopped = True
    assert stopped and threading.active_count() == before


def test_auto_keeps_data_in_memory_only_where_they_fit(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(store.tensor.nbytes for store in study.dataset(data="resident").recordings.values())
    for room, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(dataset, "CPU_RESIDENT_BYTES", room)
        assert study.dataset(data="auto").is_resident == fits


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by /proc")
def test_mapped_data_cost_no_memory(tmp_path: Path) -> None:
    """Opening reads nothing; after a whole epoch only the file's own pages, which the system takes back, have come."""
    study = make_study(tmp_path, people=128)
    cine = np.zeros((128, 2, 20, 192, 192), np.uint8)
    path = tmp_path / "cmr" / "0000.safetensors"
    write_tensors(path, {"cine": cine}, kind=schema.CMR_TENSORS, version=1, settings={})
    size_kb = cine.nbytes // 1024
    del cine

    def kilobytes(*names: str) -> int:
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        return sum(int(words[1]) for words in lines if words[0].rstrip(":") in names)

    before, own_before = kilobytes("VmRSS"), kilobytes("RssAnon")
    data = study.dataset(data="mapped")
    assert kilobytes("VmRSS") - before < 0.1 * size_kb
    for batch in data.batches(list(torch.arange(128).split(1))):
        assert batch.cine.shape == (1, 2, 20, 192, 192)
    assert kilobytes("RssAnon") - own_before < 0.5 * size_kb  # a few batches, in use or ahead
    resident = study.dataset(data="resident")
    assert kilobytes("RssAnon") - own_before > 0.9 * size_kb
    assert resident.is_resident


def test_a_shard_that_is_not_there_or_is_another_kind_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="0000.safetensors: not there"):
        PairedDataset.load(study.pairs, tmp_path, study.folder / "cmr")
    with pytest.raises(ArtifactError, match="expected a ecg_tensors"):
        PairedDataset.load(study.pairs, study.folder / "cmr", study.folder / "cmr")


def test_the_share_of_time_spent_waiting_for_data_is_recorded(study: Study, tmp_path: Path) -> None:
    study.train(tmp_path / "out", ptacl(), data="mapped")
    rows = pq.read_table(tmp_path / "out" / "history.parquet").to_pylist()
    waits = [r["value"] for r in rows if r["name"] == "data_wait"]
    assert len(waits) == 3 and all(0 < w < 1 for w in waits)
    assert len(curve(tmp_path / "out", "loss")) == 3
