"""Losses against naive loops, phase against its definition."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from ptacl.ecg.phase import phase_of
from ptacl.model import phase
from ptacl.model.encoders import CROP, CmrEncoder, EcgEncoder, MaskedAutoencoder
from ptacl.model.losses import global_loss, local_loss
from ptacl.model.ptacl import LossSettings, Ptacl

SETTINGS = LossSettings(tau_g=0.1, tau_l=0.1, beta=1.0, bins=10, kappa=20.0)


def naive_infonce(similarity: list[list[float]]) -> float:
    """Mean over both directions of -log softmax of the diagonal, by loops."""
    n, total = len(similarity), 0.0
    for i in range(n):
        row, column = similarity[i], [similarity[j][i] for j in range(n)]
        for line in (row, column):
            total += math.log(sum(math.exp(v - max(line)) for v in line)) + max(line) - line[i]
    return total / (2 * n)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def test_the_global_loss_equals_the_naive_one() -> None:
    a, b = torch.randn(2, 7, 5, dtype=torch.float64)
    expected = naive_infonce((unit(a) @ unit(b).T / 0.1).tolist())
    assert global_loss(a, b, 0.1).item() == pytest.approx(expected, abs=1e-6)
    assert global_loss(3 * a, 0.5 * b, 0.1).item() == pytest.approx(expected, abs=1e-6)


def test_the_local_loss_equals_the_naive_one_over_valid_patients() -> None:
    a, b = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    valid = torch.tensor([True, False, True, True])
    each = [naive_infonce((unit(a[i]) @ unit(b[i]).T / 0.2).tolist()) for i in (0, 2, 3)]
    assert local_loss(a, b, 0.2, valid).item() == pytest.approx(sum(each) / 3, abs=1e-6)


def test_invalid_bins_are_neither_query_nor_candidate() -> None:
    a, b = torch.randn(2, 1, 6, 5, dtype=torch.float64)
    valid = torch.tensor([[True, True, False, True, False, True]])
    keep = valid[0].nonzero()[:, 0]
    expected = local_loss(a[:, keep], b[:, keep], 0.1)
    assert local_loss(a, b, 0.1, valid).item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.parametrize("shape", [(3,), (3, 6)])
def test_without_anything_valid_the_local_loss_is_zero_with_a_gradient(shape: tuple[int, ...]) -> None:
    a = torch.randn(3, 6, 5, requires_grad=True)
    loss = local_loss(a, torch.randn(3, 6, 5), 0.1, torch.zeros(shape, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and torch.equal(a.grad, torch.zeros_like(a))


def test_gradients_of_both_losses_are_right() -> None:
    a, b = (torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    valid = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(lambda x, y: local_loss(x, y, 0.3, valid), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: global_loss(x[:, 0], y[:, 0], 0.3), (a, b))


def test_perfect_phase_alignment_solves_the_local_loss_and_shuffling_does_not() -> None:
    e = torch.eye(10)[None].repeat(4, 1, 1)
    assert local_loss(e, e, 0.1).item() < 0.01
    assert local_loss(e, e.roll(1, 1), 0.1).item() > math.log(10)


def test_slot_phase_is_that_of_the_ecg_package() -> None:
    peaks = np.array([-200.0, 210, 600, 1010, 1400, 2200, 2600])
    found, inside = phase.ecg_slot_phase(torch.tensor(np.r_[peaks, np.nan, np.nan], dtype=torch.float64)[None])
    expected = phase_of(50 * (np.arange(50) + 0.5), peaks)
    assert np.array_equal(inside[0].numpy(), np.isfinite(expected))
    np.testing.assert_allclose(found[0].numpy()[inside[0]], expected[inside[0]], atol=1e-9)
    assert not inside[0][29:43].any()  # the long beat is masked


def test_frames_have_their_mean_phase_and_the_offset_of_the_first_frame() -> None:
    psi = phase.cmr_slot_phase(torch.tensor([0.0, 0.025]), 20)
    np.testing.assert_allclose(psi[0], (np.arange(10) * 2 + 0.5) / 20, atol=1e-6)
    np.testing.assert_allclose(psi[1] - psi[0], 0.025, atol=1e-6)


def test_bins_are_circular_and_peak_at_their_centre() -> None:
    w = phase.bin_weights(torch.tensor([[0.05, 0.95, 0.5]]), 10, 20.0)[0]
    assert w[0, 0] == pytest.approx(1.0) and w[9, 1] == pytest.approx(1.0)
    assert w[0, 1] == pytest.approx(w[1, 0].item(), abs=1e-5)  # 0.95 is as near to bin 0 as 0.05 to bin 1
    assert w[4, 2] == pytest.approx(w[5, 2].item(), abs=1e-5)


def test_a_patient_is_valid_only_with_weight_in_every_bin_and_usable_phase() -> None:
    model = Ptacl(2, 20, 16)
    e, c = torch.randn(3, 50, 64), torch.randn(3, 10, 64)
    steady = torch.arange(-1, 8) * 400.0
    one_beat = torch.full((9,), torch.nan)
    one_beat[:2] = torch.tensor([0.0, 200.0])
    peaks = torch.stack([steady, one_beat, steady])
    ok = torch.tensor([True, True, False])
    valid = model.phase_bins(e, c, peaks, torch.zeros(3), ok, SETTINGS)[2]
    assert valid.tolist() == [True, False, False]


def test_the_local_loss_adds_no_weights_and_both_losses_share_the_heads() -> None:
    model = Ptacl(3, 20, 32)
    count = sum(p.numel() for p in model.parameters())
    tokens = model(torch.randn(4, 12, CROP), torch.randn(4, 3, 20, 32, 32))
    peaks = (torch.arange(8) * 400.0).repeat(4, 1)
    arguments = (*tokens, peaks, torch.zeros(4), torch.ones(4, dtype=torch.bool))
    both = model.losses(*arguments, SETTINGS)
    assert both["loss"].item() == pytest.approx((both["global"] + both["local"]).item(), rel=1e-6)
    both["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert count == sum(p.numel() for p in model.parameters())


def test_input_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected ECG crops of shape \[B, 12, 2500\]"):
        EcgEncoder()(torch.zeros(1, 12, 5000))
    with pytest.raises(ValueError, match="expected cines"):
        CmrEncoder(3, 20, 32)(torch.zeros(1, 3, 25, 32, 32))


def test_the_autoencoder_is_scored_on_hidden_tokens_only() -> None:
    model = MaskedAutoencoder(EcgEncoder(), 0.5)
    x, noise = torch.randn(2, 12, CROP), torch.rand(2, 50)
    hidden = noise.argsort(1)[:, 25:]
    loss, variance = model(x, noise)
    tokens = x.view(2, 12, 50, 50).transpose(1, 2).reshape(2, 50, 600)
    picked = torch.stack([tokens[i, hidden[i]] for i in range(2)])
    assert variance.item() == pytest.approx(picked.square().mean().item(), rel=1e-4)
    assert loss.item() > 0


def test_model_training_and_store_import_little() -> None:
    code = (
        "import sys; import ptacl.model.ptacl, ptacl.training.stage, ptacl.store.pairs;"
        "allowed={'torch','numpy','pyarrow','safetensors','yaml','tqdm','ptacl'};"
        "heavy={'scipy','pandas','pydicom','nibabel','lxml','sklearn','matplotlib','snakemake','sleepecg','wfdb',"
        "'jsonschema','jinja2'};"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
