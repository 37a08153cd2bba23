"""Training learns, is the same every time, and goes on after a kill as if nothing had happened."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ptacl.artifacts import read_table, write_table, write_tensors
from ptacl.errors import PtaclError
from ptacl.evaluation.embed import embed
from ptacl.store import schema
from ptacl.store.dataset import PairedDataset
from ptacl.store.pairs import _pairs_schema
from ptacl.training import loop
from ptacl.training.augment import augment_cine, augment_ecg
from ptacl.training.checkpoint import load_weights
from ptacl.training.loop import _order
from ptacl.training.metrics import patient_retrieval, phase_retrieval
from ptacl.training.stage import pretrain

COMMON = {
    "encoder": {"size": "tiny"}, "scale": 0.5, "cmr": {"slices": 2, "frames": 20, "size": 16},
    "phase": {"bins": 10, "kappa": 20.0},
}  # fmt: skip
CONTRASTIVE = {
    "epochs": 3, "batch": 8, "lr": 2e-3, "weight_decay": 0.05, "tau_g": 0.1, "tau_l": 0.1, "bins": 10, "kappa": 20.0,
}  # fmt: skip
MAE = {"epochs": 3, "batch": 8, "lr": 3e-3, "weight_decay": 0.05, "mask": 0.5}
PTACL = COMMON | {"method": {"objective": "contrastive", "loss": {"beta": 1.0}}, "contrastive": CONTRASTIVE}


def study(folder: Path, n: int = 32, repeat: int = 0) -> dict[str, Path]:
    """People whose ECG amplitude and rate go with the size and timing of a pulsating disc."""
    rng = np.random.default_rng(0)
    t = np.arange(5000) / 500
    y, x = np.mgrid[-1:1:16j, -1:1:16j]
    strips, cines, rows = [], [], []
    for i in range(n + repeat):
        person = i if i < n else i - n
        size, rr = 0.4 + 0.5 * (person % 8) / 8, 0.8 + 0.02 * (person // 8)
        peaks = np.arange(0.2, 10, rr)
        beats = sum(
            np.exp(-0.5 * ((t - p) / 0.02) ** 2) + 0.3 * np.exp(-0.5 * ((t - p - 0.3) / 0.05) ** 2) for p in peaks
        )
        leads = np.outer(np.linspace(0.5, 1.5, 12) * size, beats) + 0.01 * rng.standard_normal((12, 5000))
        strips.append(np.round(leads / 0.005).astype(np.int16))
        radius = size * (1 - 0.3 * np.sin(np.pi * np.arange(20) / 20) ** 2)
        disc = 200 / (1 + np.exp((np.hypot(x, y)[None] - radius[:, None, None]) * 12))
        cines.append(np.repeat((disc + rng.normal(0, 3, disc.shape)).clip(0, 255).astype(np.uint8)[None], 2, axis=0))
        rows.append(
            {
                "subject_id": f"P{person:03d}", "visit": 0 if i < n else 1, "split": "train" if person % 4 else "val",
                "shard": 0, "ecg_row": i, "cmr_row": i, "r_peaks": (peaks * 500).tolist(), "phase_ok": person != 3,
                "phase_0": 0.0, "heart_rate_bpm": 60 / rr, "lead_mask": [True] * 12, "ecg_digest": "e", "cmr_digest": "c",
            }
        )  # fmt: skip
    paths = {"pairs": folder / "pairs.parquet", "ecg_dir": folder / "ecg", "cmr_dir": folder / "cmr"}
    rows.sort(key=lambda r: (r["subject_id"], r["visit"]))
    table = pa.Table.from_pylist(rows, schema=_pairs_schema())
    write_table(paths["pairs"], table, kind=schema.PAIRS, version=1, settings={})
    for folder_name, kind, name, data in (
        ("ecg_dir", schema.ECG_TENSORS, "ecg", np.stack(strips)), ("cmr_dir", schema.CMR_TENSORS, "cine", np.stack(cines)),
    ):  # fmt: skip
        write_tensors(paths[folder_name] / "0000.safetensors", {name: data}, kind=kind, version=1, settings={})
    return paths


def run(
    paths: dict[str, Path], out: Path, settings: dict, warm: Path | None = None, seed: int = 0
) -> dict[str, torch.Tensor]:
    pretrain(
        "x", seed, settings, paths["pairs"], paths["ecg_dir"], paths["cmr_dir"], out, warm_start_ecg=warm, device="cpu"
    )
    return load_weights(out / "model.safetensors")


def history(out: Path, name: str, split: str) -> list[float]:
    rows = read_table(out / "history.parquet", kind="history", version=1).to_pylist()
    return [r["value"] for r in rows if r["name"] == name and r["split"] == split]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_both_losses_fall_and_patients_are_found(tmp_path: Path) -> None:
    paths = study(tmp_path)
    run(paths, tmp_path / "out", PTACL | {"contrastive": CONTRASTIVE | {"epochs": 40}})
    for name in ("global", "local"):
        losses = history(tmp_path / "out", name, "train")
        assert losses[-1] < 0.8 * losses[0]
    assert history(tmp_path / "out", "phase_acc_own", "val")[-1] > 0.5
    assert not (tmp_path / "out" / "last.ckpt").exists()


def test_the_autoencoder_explains_variance(tmp_path: Path) -> None:
    paths = study(tmp_path)
    settings = COMMON | {"method": {"objective": "mae"}, "mae": MAE | {"epochs": 60}}
    run(paths, tmp_path / "out", settings)
    unexplained = history(tmp_path / "out", "unexplained", "train")
    assert unexplained[-1] < 0.85 < unexplained[0]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    paths = study(tmp_path)
    first = run(paths, tmp_path / "a", PTACL)
    assert same(first, run(paths, tmp_path / "b", PTACL))
    assert not same(first, run(paths, tmp_path / "c", PTACL, seed=1))
    files = [(tmp_path / f / "history.parquet") for f in "ab"]
    assert [r for r in pq.read_table(files[0]).to_pylist() if r["name"] != "samples_per_s"] == [
        r for r in pq.read_table(files[1]).to_pylist() if r["name"] != "samples_per_s"
    ]


@pytest.mark.parametrize("kill_after", [1, 2])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, monkeypatch, kill_after: int) -> None:
    paths = study(tmp_path)
    unbroken = run(paths, tmp_path / "a", PTACL)
    saved, save = [], loop.save_checkpoint

    def save_and_die(*arguments) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) == kill_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        run(paths, tmp_path / "b", PTACL)
    assert (tmp_path / "b" / "last.ckpt").exists() and not (tmp_path / "b" / "model.safetensors").exists()
    monkeypatch.setattr(loop, "save_checkpoint", save)
    assert same(unbroken, run(paths, tmp_path / "b", PTACL))


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_left_aside(tmp_path: Path, monkeypatch) -> None:
    paths = study(tmp_path)
    fresh = run(paths, tmp_path / "a", PTACL)
    for content in (b"", b"PK\3\4 half"):
        (tmp_path / "b").mkdir(exist_ok=True)
        (tmp_path / "b" / "last.ckpt").write_bytes(content)
        assert same(fresh, run(paths, tmp_path / "b", PTACL))


def test_a_warm_start_begins_with_the_given_encoder(tmp_path: Path) -> None:
    paths = study(tmp_path)
    mae = run(paths, tmp_path / "mae", COMMON | {"method": {"objective": "mae"}, "mae": MAE})
    still = PTACL | {"contrastive": CONTRASTIVE | {"epochs": 1, "lr": 1e-12, "weight_decay": 0.0}}
    warm = run(paths, tmp_path / "warm", still, tmp_path / "mae" / "model.safetensors")
    assert all(torch.allclose(warm[k], v, atol=1e-6) for k, v in mae.items())
    assert {k for k in mae if not k.startswith("ecg.")} == set()


def test_an_empty_training_split_is_refused_and_a_small_one_cuts_the_batch(tmp_path: Path) -> None:
    paths = study(tmp_path, n=8)
    with pytest.warns(UserWarning, match="batch cut from 64 to the 6 pairs"):
        run(paths, tmp_path / "a", PTACL | {"contrastive": CONTRASTIVE | {"batch": 64}})
    rows = [r | {"split": "test"} for r in pq.read_table(paths["pairs"]).to_pylist()]
    table = pa.Table.from_pylist(rows, schema=_pairs_schema())
    write_table(paths["pairs"], table, kind=schema.PAIRS, version=1, settings={})
    with pytest.raises(PtaclError, match="the training split has 0 usable pairs"):
        run(paths, tmp_path / "b", PTACL)


def test_a_loss_that_is_no_number_stops_with_a_clear_word(tmp_path: Path) -> None:
    paths = study(tmp_path)
    with pytest.raises(PtaclError, match="no finite number"):
        run(paths, tmp_path / "a", PTACL | {"contrastive": CONTRASTIVE | {"lr": 1e30}})


def test_no_epoch_holds_two_visits_of_one_person() -> None:
    person = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    for seed in range(20):
        order = _order(person, True, torch.Generator().manual_seed(seed))
        assert sorted(person[order].tolist()) == [0, 1, 2, 3]
    assert len(_order(person, False, torch.Generator())) == 7


def test_crops_carry_their_r_peaks_along(tmp_path: Path) -> None:
    paths = study(tmp_path)
    data = PairedDataset.load(paths["pairs"], paths["ecg_dir"], paths["cmr_dir"])
    rows, start = torch.arange(4), torch.tensor([0, 137, 1250, 2500])
    x, peaks = data.ecg_batch(rows, start, 0.5)
    for i in range(4):
        inside = peaks[i][(peaks[i] > 30) & (peaks[i] < 2470)].long()
        around = x[i, 11].unfold(0, 41, 1).argmax(1)
        assert all(abs(around[p - 20].item() - 20) <= 5 for p in inside)


def test_augmentation_moves_all_frames_together_and_keeps_the_ecg_in_time() -> None:
    generator = torch.Generator().manual_seed(0)
    cine = torch.zeros(8, 2, 4, 16, 16)
    cine[..., 8, 8] = 1
    moved = augment_cine(cine, generator)
    peak = moved.flatten(-2).argmax(-1)
    assert (peak == peak[:, :1, :1]).all() and len(peak[:, 0, 0].unique()) > 1
    ecg = torch.zeros(8, 12, 2500)
    ecg[..., 1000] = 5
    assert (augment_ecg(ecg, generator).argmax(-1) == 1000).all()


def test_retrieval_metrics_on_known_embeddings() -> None:
    eye = torch.eye(20)
    assert patient_retrieval(eye, eye) == {"patient_r1": 1.0, "patient_r10": 1.0, "patient_mrr": 1.0}
    assert patient_retrieval(torch.ones(20, 4), torch.ones(20, 4))["patient_r10"] == 0.0
    bins = torch.eye(10)[None].repeat(3, 1, 1)
    assert phase_retrieval(bins, bins) == {"phase_acc_own": 1.0, "phase_acc_other": 1.0, "frame_cosine": 0.0}


def test_embeddings_have_the_columns_a_method_has(tmp_path: Path) -> None:
    paths = study(tmp_path)
    run(paths, tmp_path / "p", PTACL)
    run(paths, tmp_path / "r", COMMON | {"method": {"objective": "none"}})
    found = {}
    for name in "pr":
        out = tmp_path / f"{name}.parquet"
        embed(tmp_path / name, paths["pairs"], paths["ecg_dir"], paths["cmr_dir"], COMMON, out, device="cpu")
        found[name] = pq.read_table(out).to_pylist()
    row, random = found["p"][0], found["r"][0]
    lengths = {k: len(v) for k, v in row.items() if isinstance(v, list)}
    assert lengths == {
        "ecg_feature": 64, "cmr_feature": 64, "ecg_proj": 128, "cmr_proj": 128, "ecg_phase": 1280, "cmr_phase": 1280,
        "ecg_phase_feature": 640,
    }  # fmt: skip
    assert np.linalg.norm(row["ecg_proj"]) == pytest.approx(1, abs=1e-5)
    assert random["ecg_feature"] and random["ecg_proj"] is None and random["cmr_feature"] is None
    assert found["p"][3]["ecg_phase"] is None  # no usable phase


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_training_runs_on_the_gpu(tmp_path: Path) -> None:
    paths = study(tmp_path)
    pretrain("x", 0, PTACL, paths["pairs"], paths["ecg_dir"], paths["cmr_dir"], tmp_path / "g", warm_start_ecg=None,
             device="cuda")  # fmt: skip
    assert np.isfinite(history(tmp_path / "g", "loss", "train")).all()
