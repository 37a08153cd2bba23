"""The losses against loops over numbers, and what must hold of them whatever the numbers are."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ptacl.model.losses import circular_distance, global_loss, local_loss, residual, residual_loss
from tests.model import naive_losses as naive

B, K, D = 5, 6, 4
EVERYONE = torch.ones(B, dtype=torch.bool)
SOME = torch.tensor([True, False, True, True, False])
SOME_BINS = torch.tensor(
    [[True] * K, [False] * K, [True, False, True, True, False, True], [False, True, False, False, False, False],
     [True, True, False, False, True, True]]
)  # fmt: skip
LOCAL_MASKS = {"everyone": None, "some patients": SOME, "some bins": SOME_BINS}
# Each loss as a function of bins [B, K, D] of both sides and of who is valid [B].
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "global": lambda e, f, valid: global_loss(e[:, 0], f[:, 0], 0.3, valid),
    "local": lambda e, f, valid: local_loss(e, f, 0.3, valid),
    "local, bins": lambda e, f, valid: local_loss(
        e, f, 0.3, valid[:, None] & torch.ones(e.shape[:2], dtype=torch.bool)
    ),
    "local, soft": lambda e, f, valid: local_loss(e, f, 0.3, valid, soft=0.7),
    "residual, within": lambda e, f, valid: local_loss(residual(e, valid), residual(f, valid), 0.3, valid),
    "residual, across": lambda e, f, valid: residual_loss(residual(e, valid), residual(f, valid), 0.3, valid),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def draw(*shape: int, gradient: bool = False) -> tuple[Tensor, Tensor]:
    """Normal numbers for both sides, in fp64."""
    e, f = torch.randn(2, *shape, dtype=torch.float64)
    return e.requires_grad_(gradient), f.requires_grad_(gradient)


# Values and gradients.


@pytest.mark.parametrize("valid", [None, SOME], ids=["everyone", "some"])
def test_the_global_loss_equals_the_naive_one(valid: Tensor | None) -> None:
    e, f = draw(B, D)
    assert global_loss(e, f, 0.1, valid).item() == pytest.approx(naive.global_loss(e, f, 0.1, valid), abs=1e-12)


@pytest.mark.parametrize("soft", [None, 0.7, 3.0])
@pytest.mark.parametrize("valid", LOCAL_MASKS.values(), ids=LOCAL_MASKS.keys())
def test_the_local_loss_equals_the_naive_one(valid: Tensor | None, soft: float | None) -> None:
    e, f = draw(B, K, D)
    expected = naive.local_loss(e, f, 0.2, valid, soft)
    # The weights of soft positives are computed in fp32.
    tolerance = 1e-12 if soft is None else 1e-7
    assert local_loss(e, f, 0.2, valid, soft=soft).item() == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("valid", [None, SOME], ids=["everyone", "some"])
def test_the_residual_loss_equals_the_naive_one(valid: Tensor | None) -> None:
    e, f = draw(B, K, D)
    assert residual_loss(e, f, 0.1, valid).item() == pytest.approx(naive.residual_loss(e, f, 0.1, valid), abs=1e-12)


@pytest.mark.parametrize("valid", [EVERYONE, SOME], ids=["everyone", "some"])
def test_residuals_are_unit_vectors_from_the_mean_of_the_valid_patients(valid: Tensor) -> None:
    x, _ = draw(B, K, D)
    expected = torch.tensor(naive.residual(x, valid), dtype=torch.float64)
    torch.testing.assert_close(residual(x, valid), expected, rtol=0, atol=1e-12)


@each_loss
@pytest.mark.parametrize("valid", [EVERYONE, SOME], ids=["everyone", "some"])
def test_gradients_are_those_of_finite_differences(loss: Callable[..., Tensor], valid: Tensor) -> None:
    e, f = draw(B, K, D, gradient=True)
    assert torch.autograd.gradcheck(lambda x, y: loss(x, y, valid), (e, f))


@pytest.mark.parametrize("soft", [None, 0.7])
def test_gradients_with_invalid_bins_are_those_of_finite_differences(soft: float | None) -> None:
    e, f = draw(B, K, D, gradient=True)
    assert torch.autograd.gradcheck(lambda x, y: local_loss(x, y, 0.3, SOME_BINS, soft=soft), (e, f))


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4)),
    temperature=st.floats(0.02, 5),
    soft=st.none() | st.floats(0, 20),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
def test_all_losses_equal_the_naive_ones(
    shape: tuple[int, int, int], temperature: float, soft: float | None, seed: int, share: float
) -> None:
    """For any shape, temperature and mask, nothing valid and a single patient, bin or dimension included."""
    g = torch.Generator().manual_seed(seed)
    e, f = torch.randn(2, *shape, dtype=torch.float64, generator=g)
    bins = torch.rand(shape[:2], generator=g) < share
    patients = bins[:, 0]
    close = {"rel": 1e-6, "abs": 1e-9}
    assert global_loss(e[:, 0], f[:, 0], temperature, patients).item() == pytest.approx(
        naive.global_loss(e[:, 0], f[:, 0], temperature, patients), **close
    )
    for valid in (None, patients, bins):
        assert local_loss(e, f, temperature, valid, soft=soft).item() == pytest.approx(
            naive.local_loss(e, f, temperature, valid, soft), **close
        )
    assert residual_loss(e, f, temperature, patients).item() == pytest.approx(
        naive.residual_loss(e, f, temperature, patients), **close
    )


# What must hold.


def test_identical_embeddings_leave_the_log_of_the_number_of_candidates() -> None:
    one = torch.randn(D).expand(B, K, D)
    assert global_loss(one[:, 0], one[:, 0], 0.1).item() == pytest.approx(math.log(B), abs=1e-6)
    assert global_loss(one[:, 0], one[:, 0], 0.1, SOME).item() == pytest.approx(math.log(3), abs=1e-6)
    assert local_loss(one, one, 0.1).item() == pytest.approx(math.log(K), abs=1e-6)
    assert local_loss(one, one, 0.1, soft=1.0).item() == pytest.approx(math.log(K), abs=1e-6)
    assert residual_loss(one, one, 0.1).item() == pytest.approx(math.log(B), abs=1e-6)


def test_a_single_candidate_costs_nothing() -> None:
    e, f = draw(B, K, D)
    only = torch.tensor([False, False, True, False, False])
    assert global_loss(e[:1, 0], f[:1, 0], 0.1).item() == 0
    assert global_loss(e[:, 0], f[:, 0], 0.1, only).item() == 0
    assert local_loss(e[:, :1], f[:, :1], 0.1).item() == 0
    assert residual_loss(e[:1], f[:1], 0.1).item() == 0


def test_aligned_embeddings_solve_the_losses_and_a_shift_does_not() -> None:
    e = torch.eye(10).expand(10, 10, 10)
    assert local_loss(e, e, 0.1).item() < 0.01
    assert local_loss(e, e.roll(1, 1), 0.1).item() > 9
    assert global_loss(e[0], e[0], 0.1).item() < 0.01
    assert global_loss(e[0], e[0].roll(1, 0), 0.1).item() > 9


@each_loss
def test_swapping_the_modalities_changes_nothing(loss: Callable[..., Tensor]) -> None:
    e, f = draw(B, K, D)
    assert loss(f, e, SOME).item() == pytest.approx(loss(e, f, SOME).item(), abs=1e-12)


@each_loss
def test_the_order_of_the_patients_changes_nothing(loss: Callable[..., Tensor]) -> None:
    e, f = draw(B, K, D)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert loss(e[order], f[order], SOME[order]).item() == pytest.approx(loss(e, f, SOME).item(), abs=1e-12)


def test_losses_normalise_what_they_are_given() -> None:
    """Any positive factor of any embedding changes nothing."""
    e, f = draw(B, K, D)
    p, q = torch.rand(2, B, K, 1, dtype=torch.float64) + 0.1
    assert global_loss((p * e)[:, 0], (q * f)[:, 0], 0.1).item() == pytest.approx(
        global_loss(e[:, 0], f[:, 0], 0.1).item(), abs=1e-12
    )
    assert local_loss(p * e, q * f, 0.1).item() == pytest.approx(local_loss(e, f, 0.1).item(), abs=1e-12)
    assert residual_loss(p * e, q * f, 0.1).item() == pytest.approx(residual_loss(e, f, 0.1).item(), abs=1e-12)
    torch.testing.assert_close(residual(7 * e, SOME), residual(e, SOME))


@given(soft=st.floats(0.01, 20), seed=st.integers(0, 2**32 - 1))
def test_soft_positives_are_never_solved_below_their_own_entropy(soft: float, seed: int) -> None:
    e, f = torch.randn(2, 2, K, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    weights = [math.exp(-soft * min(d, K - d)) for d in range(K)]
    shares = [w / sum(weights) for w in weights]
    entropy = -sum(p * math.log(p) for p in shares if p > 0)
    assert local_loss(e, f, 0.1, soft=soft).item() >= entropy - 1e-9


def test_very_sharp_soft_positives_are_hard_ones() -> None:
    e, f = draw(B, K, D)
    assert local_loss(e, f, 0.1, SOME_BINS, soft=60.0).item() == pytest.approx(
        local_loss(e, f, 0.1, SOME_BINS).item(), abs=1e-12
    )


def test_the_distance_between_bins_goes_around_the_cycle() -> None:
    assert circular_distance(5, torch.zeros(1)).tolist() == [
        [0, 1, 2, 2, 1], [1, 0, 1, 2, 2], [2, 1, 0, 1, 2], [2, 2, 1, 0, 1], [1, 2, 2, 1, 0]
    ]  # fmt: skip


# What is left out.


def test_invalid_bins_are_neither_query_nor_candidate() -> None:
    e, f = draw(1, K, D)
    valid = torch.tensor([[True, True, False, True, False, True]])
    kept = valid[0].nonzero()[:, 0]
    assert local_loss(e, f, 0.1, valid).item() == pytest.approx(
        local_loss(e[:, kept], f[:, kept], 0.1).item(), abs=1e-12
    )


@each_loss
def test_invalid_patients_have_no_influence_and_a_gradient_of_exactly_zero(loss: Callable[..., Tensor]) -> None:
    e, f = draw(B, K, D, gradient=True)
    value = loss(e, f, SOME)
    value.backward()
    for x in (e, f):
        assert torch.equal(x.grad[~SOME], torch.zeros_like(x.grad[~SOME]))
        assert x.grad[SOME].abs().amax((1, 2)).min() > 0
    with torch.no_grad():
        e[~SOME], f[~SOME] = 100.0, torch.randn_like(f[~SOME])
        assert loss(e, f, SOME).item() == value.item()


@pytest.mark.parametrize("soft", [None, 0.7])
def test_invalid_bins_have_no_influence_and_a_gradient_of_exactly_zero(soft: float | None) -> None:
    e, f = draw(B, K, D, gradient=True)
    value = local_loss(e, f, 0.3, SOME_BINS, soft=soft)
    value.backward()
    # A patient with a single valid bin has nothing to choose from, and so no gradient either.
    learns = SOME_BINS & (SOME_BINS.sum(1, keepdim=True) > 1)
    for x in (e, f):
        assert torch.equal(x.grad[~SOME_BINS], torch.zeros_like(x.grad[~SOME_BINS]))
        assert x.grad[learns].abs().amax(1).min() > 0
    with torch.no_grad():
        e[~SOME_BINS] = 100.0
        assert local_loss(e, f, 0.3, SOME_BINS, soft=soft).item() == value.item()


@each_loss
def test_without_anyone_valid_the_loss_is_zero_with_a_gradient_of_zero(loss: Callable[..., Tensor]) -> None:
    e, f = draw(B, K, D, gradient=True)
    value = loss(e, f, torch.zeros(B, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert torch.equal(e.grad, torch.zeros_like(e)) and torch.equal(f.grad, torch.zeros_like(f))


# Numbers at the edge.

EXTREMES = torch.tensor(
    [
        torch.finfo(torch.bfloat16).max,
        -torch.finfo(torch.bfloat16).max,
        torch.finfo(torch.bfloat16).tiny,
        1e-40,
        0.0,
        1.0,
    ]
)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
@pytest.mark.parametrize("fill", ["largest", "smallest", "zero", "mixed"])
def test_losses_are_finite_at_the_extremes_of_bf16(fill: str, temperature: float) -> None:
    if fill == "mixed":
        x = EXTREMES[torch.randint(len(EXTREMES), (2, B, K, D))]
    else:
        sign = torch.randn(2, B, K, D).sign()
        x = sign * {"largest": EXTREMES[0], "smallest": EXTREMES[2], "zero": EXTREMES[4]}[fill]
    e, f = (side.bfloat16().requires_grad_() for side in x)
    for value in (
        global_loss(e[:, 0], f[:, 0], temperature),
        local_loss(e, f, temperature, SOME_BINS),
        local_loss(e, f, temperature, soft=1.0),
        residual_loss(e, f, temperature, SOME),
    ):
        e.grad = f.grad = None
        value.backward()
        assert value.dtype == torch.float32 and value.isfinite()
        assert e.grad.isfinite().all() and f.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e-30, 1e-15, 1.0, 1e15])
def test_residuals_of_bf16_embeddings_of_any_size_are_finite(size: float) -> None:
    e, f = (size * torch.randn(2, B, K, D)).bfloat16()
    e, f = e.requires_grad_(), f.requires_grad_()
    value = residual_loss(residual(e, SOME), residual(f, SOME), 0.1, SOME)
    value.backward()
    assert value.dtype == torch.float32 and value.isfinite()
    assert e.grad.isfinite().all() and f.grad.isfinite().all()


def test_losses_of_bf16_embeddings_are_those_of_the_same_numbers_in_fp64() -> None:
    e, f = torch.randn(2, B, K, D).bfloat16()
    for loss in LOSSES.values():
        assert loss(e, f, SOME).item() == pytest.approx(loss(e.double(), f.double(), SOME).item(), abs=1e-4)


@each_loss
def test_losses_stay_in_full_precision_under_autocast(loss: Callable[..., Tensor]) -> None:
    e, f = torch.randn(2, B, K, D)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(e, f, SOME)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(loss(e, f, SOME).item(), abs=1e-6)


# The shortcut: an embedding that holds nothing but phase.


@pytest.mark.parametrize("noise", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_pure_phase_code_solves_the_local_loss_and_leaves_both_residual_losses_at_the_log(
    dtype: torch.dtype, noise: float
) -> None:
    """Differences of the size of rounding between patients are no signal either."""
    code = torch.eye(K, dtype=dtype).expand(B, K, K)
    code = (3 * code + noise * torch.randn(B, K, K)).to(dtype)
    assert local_loss(code, code, 0.1, SOME).item() < 0.01
    r = residual(code, SOME)
    assert torch.equal(r, torch.zeros_like(r))
    assert local_loss(r, r, 0.1, SOME).item() == pytest.approx(math.log(K), abs=1e-6)
    assert residual_loss(r, r, 0.1, SOME).item() == pytest.approx(math.log(3), abs=1e-6)


def test_what_sets_patients_apart_solves_the_residual_loss_behind_a_large_phase_code() -> None:
    """Own signs of 1 % of the phase code are enough; a negligible residual has no gradient to grow from noise."""
    code = 10 * torch.eye(K).expand(B, K, K)
    own = 0.1 * torch.randn(B, K, K)
    e, f = residual(code + own, EVERYONE), residual(2 * code + own, EVERYONE)
    assert residual_loss(e, f, 0.1, EVERYONE).item() < 0.1
    assert residual_loss(e, f.roll(1, 0), 0.1, EVERYONE).item() > math.log(B)


def test_negligible_residuals_have_a_gradient_of_zero() -> None:
    x = (torch.eye(K).expand(B, K, K) + 1e-6 * torch.randn(B, K, K)).requires_grad_()
    (residual(x, EVERYONE) * torch.randn(B, K, K)).sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
