"""The paired model: which bins meet under each option of the losses, and that they can be learnt."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ptacl.model.blocks import Size
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.losses import global_loss, local_loss, residual, residual_loss
from ptacl.model.ptacl import LossSettings, Ptacl, ecg_bin_weights
from ptacl.store.timing import Timing
from ptacl.training.stage import Inputs, build_objective
from tests.model.timings import steady, timing

DIM, K = 32, 10
SIZE = Size(DIM, 1, 2)
SETTINGS = LossSettings(bins=K, kappa=20.0)
OPTIONS = {
    "correspondence": ["phase", "index", "shuffled", "other_patient"],
    "warp": ["linear", "systole"],
    "soft": [None, 1.0],
    "center": [False, True],
    "residual": ["none", "within", "across"],
}
COMBINATIONS = [dict(zip(OPTIONS, values, strict=True)) for values in product(*OPTIONS.values())]


def model(ecg: EcgEncoder | None = None, cmr: CmrEncoder | TinyCmrEncoder | None = None) -> Ptacl:
    """10 slots of two frames of two slices of 16 x 16 pixels."""
    return Ptacl(ecg or EcgEncoder(SIZE), cmr or TinyCmrEncoder(SIZE, 2, 20, 16, 2))


def slots_of(b: int, gradient: bool = False) -> tuple[Tensor, Tensor]:
    """Slots of both sides as the encoders might give them."""
    return torch.randn(b, 50, DIM, requires_grad=gradient), torch.randn(b, 10, DIM, requires_grad=gradient)


def regular(b: int, **values: object) -> Timing:
    """RR 500 from sample 0: the ten slots of a beat, and those of the cine, lie at the centres of the ten bins."""
    return timing(*[steady(500)] * b, **{"phase_0": 0.025, "dtype": torch.float32} | values)


def aligned(b: int, own: float = 0.0) -> tuple[Ptacl, Tensor, Tensor]:
    """A model with the same head on both sides, and slots that say their bin in both recordings of every patient.

    `own`: what a patient's slots say beside, the same on both sides.
    """
    m = model()
    m.cmr_head.load_state_dict(m.ecg_head.state_dict())
    code = 10 * torch.eye(K, DIM).expand(b, K, DIM) + own * torch.randn(b, K, DIM)
    return m, code.repeat(1, 5, 1), code


def random_orders(b: int) -> Tensor:
    return torch.rand(b, K).argsort(1)


# Parts and weights.


def settings_of_stage(**loss: object) -> dict:
    """Settings of the stage pretrain for a tiny contrastive method."""
    return {
        "encoder": {"size": "tiny", "tokens": "time", "tubelet": 2, "patch": 16}, "scale": 0.5,
        "cmr": {"slices": 2, "frames": 20, "size": 16}, "phase": {"bins": K, "kappa": 20.0}, "augment": {},
        "contrastive": {"tau_g": 0.1, "tau_l": 0.1, "cine_drop": 0.75},
        "method": {"objective": "contrastive", "loss": loss},
    }  # fmt: skip


def test_no_option_of_the_losses_adds_a_weight() -> None:
    nowhere = Inputs(Path(), Path(), Path(), Path())
    counts = set()
    for options in [{"beta": 0.0}, {"beta": 2.0}, *({"beta": 1.0, "gamma": 1.0, **c} for c in COMBINATIONS[::7])]:
        objective, kept = build_objective(settings_of_stage(**options), nowhere)
        assert objective.settings == LossSettings(bins=K, kappa=20.0, **options)
        counts.add((sum(p.numel() for p in objective.parameters()), len(kept.state_dict())))
    assert len(counts) == 1


def test_computing_the_losses_adds_no_weight() -> None:
    m = model()
    before = {k: v.clone() for k, v in m.state_dict().items()}
    m.losses(*slots_of(3), regular(3), SETTINGS)
    assert m.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in m.state_dict().items())


def test_the_loss_is_the_weighted_sum_of_its_parts() -> None:
    m, slots = model(), slots_of(3)
    parts = m.losses(*slots, regular(3), replace(SETTINGS, beta=0.3, gamma=0.7, residual="across"))
    expected = parts["global"] + 0.3 * parts["local"] + 0.7 * parts["residual"]
    assert parts["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_each_part_is_its_loss_on_the_projections_with_its_own_temperature() -> None:
    m, slots, t = model(), slots_of(4), regular(4, usable=[True, True, False, True])
    u, v = m.project(*slots)
    assert torch.equal(u, m.ecg_head(slots[0].mean(1))) and torch.equal(v, m.cmr_head(slots[1].mean(1)))
    e, f, valid = m.phase_bins(*slots, t, SETTINGS)
    assert e.shape == f.shape == (4, K, 128) and valid.tolist() == [True, True, False, True]
    settings = replace(SETTINGS, tau_g=0.3, tau_l=0.05, residual="across")
    parts = m.losses(*slots, t, settings)
    assert parts["global"].item() == pytest.approx(global_loss(u, v, 0.3).item())
    assert parts["local"].item() == pytest.approx(local_loss(e, f, 0.05, valid).item())
    across = residual_loss(residual(e, valid), residual(f, valid), 0.3, valid)
    assert parts["residual"].item() == pytest.approx(across.item())
    within = m.losses(*slots, t, replace(settings, residual="within"))["local"]
    assert within.item() == pytest.approx(local_loss(residual(e, valid), residual(f, valid), 0.05, valid).item())
    soft = m.losses(*slots, t, replace(settings, soft=0.5))["local"]
    assert soft.item() == pytest.approx(local_loss(e, f, 0.05, valid, soft=0.5).item())


def test_a_beta_of_zero_is_the_global_loss_alone() -> None:
    parts = model().losses(*slots_of(3), regular(3), replace(SETTINGS, beta=0.0))
    assert parts.keys() == {"loss", "global"} and parts["loss"] is parts["global"]


@pytest.mark.parametrize("kind", ["time", "lead_time"])
@pytest.mark.parametrize("cmr", [lambda: TinyCmrEncoder(SIZE, 2, 20, 16, 2), lambda: CmrEncoder(SIZE, 2, 20, 16, 2, 8)])
def test_the_model_gives_the_slots_of_both_encoders(kind: str, cmr: Callable[[], nn.Module]) -> None:
    m = model(EcgEncoder(SIZE, kind), cmr())
    ecg, cine = torch.randn(2, 12, 2500), torch.randn(2, 2, 20, 16, 16)
    e, c = m(ecg, cine)
    assert torch.equal(e, m.ecg(ecg)) and torch.equal(c, m.cmr(cine))
    if isinstance(m.cmr, CmrEncoder):
        keep = m.cmr.random_subset(torch.rand(2, m.cmr.length), 0.5)
        assert torch.equal(m(ecg, cine, keep)[1], m.cmr(cine, keep))


# Who takes part in the local loss.


def test_a_patient_is_valid_with_weight_in_every_bin_and_a_usable_rhythm() -> None:
    """The others are a crop with four slots in a complete beat, a heart in fibrillation, and a strip without beats."""
    t = timing(steady(400), [0, 200], steady(400), [], usable=[True, True, False, True], dtype=torch.float32)
    m, slots = model(), slots_of(4, gradient=True)
    assert m.phase_bins(*slots, t, SETTINGS)[2].tolist() == [True, False, False, False]
    parts = m.losses(*slots, t, SETTINGS)
    assert parts["valid"].item() == 0.25
    parts["local"].backward()
    assert [x.abs().sum() > 0 for s in slots for x in s.grad] == [True, False, False, False] * 2


def test_without_a_valid_patient_the_local_loss_is_zero_and_the_global_one_still_teaches() -> None:
    m, slots = model(), slots_of(3, gradient=True)
    for name in ("none", "within", "across"):
        parts = m.losses(*slots, regular(3, usable=False), replace(SETTINGS, residual=name))
        assert parts["local"].item() == 0 and parts.get("residual", torch.zeros(())).item() == 0
        assert parts["loss"].item() == parts["global"].item() > 0
        parts["loss"].backward()
        assert all(x.grad.isfinite().all() and x.grad.abs().sum() > 0 for x in slots)


def test_too_few_slots_of_the_cine_leave_no_one_valid() -> None:
    """4 slots can't fill 20 narrow bins."""
    m = model(cmr=TinyCmrEncoder(SIZE, 2, 20, 16, 5))
    slots = torch.randn(2, 50, DIM), torch.randn(2, 4, DIM)
    assert not m.phase_bins(*slots, regular(2), LossSettings(bins=20, kappa=80.0))[2].any()


# Which bins correspond.


def test_an_aligned_model_solves_the_local_loss() -> None:
    m, e, f = aligned(4)
    assert m.losses(e, f, regular(4), SETTINGS)["local"].item() < 0.3
    wrong = m.losses(e, f.roll(1, 1), regular(4), SETTINGS)["local"].item()
    assert wrong > math.log(K)


@pytest.mark.parametrize("shift", [1, 3, 7])
def test_frames_that_start_later_in_the_cycle_are_put_back_by_phase_0(shift: int) -> None:
    m, e, f = aligned(2)
    at_the_r_wave = m.losses(e, f, regular(2), SETTINGS)["local"].item()
    later = m.losses(e, f.roll(-shift, 1), regular(2, phase_0=0.025 + shift / K), SETTINGS)["local"].item()
    assert later == pytest.approx(at_the_r_wave, abs=1e-4)


def test_an_ecg_that_starts_later_in_the_beat_is_put_back_by_its_r_peaks() -> None:
    m, e, f = aligned(2)
    later = timing(*[steady(500, first=-150)] * 2, phase_0=0.025, dtype=torch.float32)
    from_the_r_wave = m.losses(e, f, regular(2), SETTINGS)["local"].item()
    assert m.losses(e.roll(-3, 1), f, later, SETTINGS)["local"].item() == pytest.approx(from_the_r_wave, abs=1e-4)


@pytest.mark.parametrize("make", [lambda: aligned(4), lambda: (model(), *slots_of(4))], ids=["aligned", "untrained"])
def test_shuffled_bins_can_not_be_solved_by_any_model(make: Callable[[], tuple[Ptacl, Tensor, Tensor]]) -> None:
    """Over the ten rotations of an order every query meets every candidate once: the mean loss is at least log K."""
    m, e, f = make()
    settings, order = replace(SETTINGS, correspondence="shuffled"), random_orders(4)
    of_orders = [m.losses(e, f, regular(4), settings, order.roll(r, 1))["local"].item() for r in range(K)]
    assert sum(of_orders) / K >= math.log(K) - 1e-6


def test_shuffling_destroys_a_perfect_alignment() -> None:
    """Worse than not knowing anything, as long as the model believes in phase."""
    m, e, f = aligned(8)
    shuffled = m.losses(e, f, regular(8), replace(SETTINGS, correspondence="shuffled"), random_orders(8))["local"]
    assert shuffled.item() > 1.3 * math.log(K)


def test_shuffled_bins_are_permuted_within_each_patient_and_as_told() -> None:
    m, slots, order = model(), slots_of(3), random_orders(3)
    settings = replace(SETTINGS, correspondence="shuffled")
    e, f, _ = m.phase_bins(*slots, regular(3), settings)
    expected = local_loss(e, torch.stack([f[i, order[i]] for i in range(3)]), 0.1)
    assert m.losses(*slots, regular(3), settings, order)["local"].item() == pytest.approx(expected.item())
    unchanged = m.losses(*slots, regular(3), settings, torch.arange(K).expand(3, K))["local"].item()
    assert unchanged == pytest.approx(m.losses(*slots, regular(3), SETTINGS)["local"].item())


def test_training_on_shuffled_bins_ends_at_log_k_and_on_phase_below_it() -> None:
    """Free embeddings of 8 patients, with another order at every step."""
    ends = {}
    for correspondence in ("phase", "shuffled"):
        torch.manual_seed(1)
        m, slots = model(), slots_of(8, gradient=True)
        optimizer = torch.optim.Adam([*m.parameters(), *slots], lr=2e-2)
        settings, losses = replace(SETTINGS, correspondence=correspondence, tau_l=0.3), []
        for _ in range(120):
            losses.append(m.losses(*slots, regular(8), settings, random_orders(8))["local"])
            optimizer.zero_grad()
            losses[-1].backward()
            optimizer.step()
        ends[correspondence] = torch.stack(losses[-30:]).mean().item()
    assert ends["phase"] < 0.5
    assert ends["shuffled"] == pytest.approx(math.log(K), abs=0.1)


def test_other_patient_compares_with_the_frames_of_the_patient_before() -> None:
    m, slots = model(), slots_of(4)
    settings = replace(SETTINGS, correspondence="other_patient")
    e, f, _ = m.phase_bins(*slots, regular(4), settings)
    expected = local_loss(e, torch.stack([f[3], f[0], f[1], f[2]]), 0.1)
    assert m.losses(*slots, regular(4), settings)["local"].item() == pytest.approx(expected.item())


def test_other_patient_drops_patients_whose_neighbour_is_invalid() -> None:
    """Patients 0 and 1 are valid: only patient 1 has a valid neighbour, whose frames lead the gradient."""
    m, slots = model(), slots_of(4, gradient=True)
    parts = m.losses(
        *slots, regular(4, usable=[True, True, False, False]), replace(SETTINGS, correspondence="other_patient")
    )
    assert parts["valid"].item() == 0.25
    parts["local"].backward()
    assert [bool(x.abs().sum() > 0) for x in slots[0].grad] == [False, True, False, False]
    assert [bool(x.abs().sum() > 0) for x in slots[1].grad] == [True, False, False, False]


def test_other_patients_frames_of_the_right_phase_solve_the_local_loss_but_not_that_on_residuals() -> None:
    m, e, f = aligned(6, own=0.5)
    found = {
        (c, r): m.losses(e, f, regular(6), replace(SETTINGS, correspondence=c, residual=r))
        for c in ("phase", "other_patient")
        for r in ("none", "within", "across")
    }
    assert found["other_patient", "none"]["local"].item() < 0.3
    assert found["phase", "within"]["local"].item() < 0.1
    assert found["phase", "across"]["residual"].item() < 0.1
    assert found["other_patient", "within"]["local"].item() > math.log(K)
    assert found["other_patient", "across"]["residual"].item() > math.log(6)


def test_index_meets_the_parts_of_both_recordings_in_order_whatever_the_rhythm() -> None:
    """The aligned slots repeat every beat; those of five successive slots are a part of the recording."""
    m, _, f = aligned(3)
    e = f.repeat_interleave(5, dim=1)
    settings = replace(SETTINGS, correspondence="index")
    without_rhythm = timing([], [], [], usable=False, phase_0=0.3, dtype=torch.float32)
    parts = m.losses(e, f, without_rhythm, settings)
    assert parts["valid"].item() == 1 and parts["local"].item() < 0.3
    assert parts["local"].item() == m.losses(e, f, regular(3), settings)["local"].item()
    bins_e, bins_f, _ = m.phase_bins(e, f, without_rhythm, settings)
    torch.testing.assert_close(bins_e, m.ecg_head(f))
    torch.testing.assert_close(bins_f, m.cmr_head(f))


# Warp, centre, residual.


def test_the_warp_brings_the_end_of_the_t_wave_to_the_bin_of_the_end_systolic_frame() -> None:
    """T end 225 samples after R in a beat of 500, phase 0.45; end-systole at frame 7 of 20."""
    t = regular(1, t_end=225.0, es_phase=7 / 20, phase_0=0.0)
    frames = model().cmr_bin_weights(t, SETTINGS)[0, :, 3].argmax().item()  # slot 3 holds frames 6 and 7
    slot = {w: ecg_bin_weights(t, replace(SETTINGS, warp=w))[0, :, 4].argmax().item() for w in ("linear", "systole")}
    assert slot == {"linear": 4, "systole": 3} and frames == 3


def test_the_warp_leaves_patients_alone_whose_systole_is_unknown_and_counts_the_others() -> None:
    m, slots = model(), slots_of(4)
    known = [200.0, math.nan, 220.0, 210.0]
    t = regular(4, t_end=known, es_phase=[0.35, 0.35, math.nan, 0.4])
    linear, warped = (m.phase_bins(*slots, t, replace(SETTINGS, warp=w))[0] for w in ("linear", "systole"))
    assert (linear != warped).any(-1).any(-1).tolist() == [True, False, False, True]
    parts = m.losses(*slots, t, replace(SETTINGS, warp="systole"))
    assert parts["warped"].item() == 0.5
    assert "warped" not in m.losses(*slots, t, SETTINGS)


@pytest.mark.parametrize("correspondence", ["phase", "index"])
def test_centring_takes_away_what_a_patient_says_all_the_time(correspondence: str) -> None:
    m, (e, f), t = model(), slots_of(3), regular(3)
    constants = 5 * torch.randn(2, 3, 1, DIM)
    settings = replace(SETTINGS, correspondence=correspondence)
    for center in (True, False):
        bins = [
            m.phase_bins(*s, t, replace(settings, center=center))
            for s in ((e, f), (e + constants[0], f + constants[1]))
        ]
        for side in (0, 1):
            assert torch.allclose(bins[0][side], bins[1][side], atol=1e-4) is center


def test_centring_is_of_the_local_loss_only() -> None:
    m, slots = model(), slots_of(3)
    a, b = (m.losses(*slots, regular(3), replace(SETTINGS, center=c)) for c in (False, True))
    assert a["global"].item() == b["global"].item() and a["local"].item() != b["local"].item()


def test_a_pure_phase_code_solves_the_local_loss_and_leaves_both_residual_losses_at_the_log() -> None:
    """Slots that say nothing but their bin; one patient of six has no usable rhythm."""
    m, e, f = aligned(6)
    t = regular(6, usable=[True, True, False, True, True, True])
    assert m.losses(e, f, t, SETTINGS)["local"].item() < 0.3
    assert m.losses(e, f, t, replace(SETTINGS, residual="within"))["local"].item() == pytest.approx(
        math.log(K), abs=1e-5
    )
    across = m.losses(e, f, t, replace(SETTINGS, residual="across"))
    assert across["local"].item() < 0.3
    assert across["residual"].item() == pytest.approx(math.log(5), abs=1e-5)


def test_the_residual_loss_stands_without_the_local_one() -> None:
    parts = model().losses(*slots_of(3), regular(3), replace(SETTINGS, beta=0.0, residual="across"))
    assert "local" not in parts
    assert parts["loss"].item() == pytest.approx((parts["global"] + parts["residual"]).item())


@pytest.mark.parametrize("options", COMBINATIONS, ids=lambda o: "-".join(map(str, o.values())))
def test_every_combination_of_options_gives_a_finite_loss_with_gradients_for_all_weights(options: dict) -> None:
    m = model(EcgEncoder(Size(16, 1, 1)), TinyCmrEncoder(Size(16, 1, 1), 1, 20, 16, 2))
    t = regular(4, usable=[True, True, False, True], t_end=[200.0, math.nan, 210.0, 220.0], es_phase=0.35)
    slots = m(torch.randn(4, 12, 2500), torch.randn(4, 1, 20, 16, 16))
    parts = m.losses(*slots, t, LossSettings(bins=K, kappa=20.0, **options), random_orders(4))
    assert all(p.isfinite() for p in parts.values())
    assert parts["local"].item() > 0 and parts["global"].item() > 0
    parts["loss"].backward()
    for name, p in m.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.any(), name


def test_slots_in_bf16_give_losses_in_fp32() -> None:
    m, slots = model(), [s.bfloat16() for s in slots_of(4)]
    with torch.autocast("cpu", torch.bfloat16):
        parts = m.losses(*slots, regular(4), replace(SETTINGS, residual="across"))
    assert all(p.dtype == torch.float32 and p.isfinite() for p in parts.values())


# Learning.

PAIRS = {
    "time, tiny": lambda: model(),
    "lead_time, tiny": lambda: model(ecg=EcgEncoder(Size(16, 1, 2), "lead_time")),
    "time, vit": lambda: model(cmr=CmrEncoder(SIZE, 2, 20, 16, 2, 8)),
}


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS.keys())
def test_a_model_learns_one_batch_by_heart(make: Callable[[], Ptacl]) -> None:
    """Eight pairs of noise, whose beats start at different samples."""
    m = make()
    ecg, cine = torch.randn(8, 12, 2500), torch.randn(8, 2, 20, 16, 16)
    t = timing(*[steady(400 + 10 * i, first=30 * i) for i in range(8)], dtype=torch.float32)
    optimizer, loss = torch.optim.AdamW(m.parameters(), lr=3e-3), torch.tensor(math.inf)
    for _ in range(150):
        loss = m.losses(*m(ecg, cine), t, SETTINGS)["loss"]
        if loss < 0.2:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2
