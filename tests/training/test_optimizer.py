"""Learning rates: warm-up and cosine by hand, layers slower the lower they lie, no decay for vectors."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from ptacl.model.blocks import Size
from ptacl.model.build import EcgOnly, Regressor
from ptacl.model.ecg import EcgEncoder
from ptacl.training.optimizer import adamw, rate, set_rate


def by_name(model: nn.Module, optimizer: torch.optim.Optimizer, key: str) -> Mapping[str, float]:
    """A value of each parameter's group."""
    of = {id(p): g[key] for g in optimizer.param_groups for p in g["params"]}
    return {name: of[id(p)] for name, p in model.named_parameters()}


def test_the_rate_rises_in_a_line_then_falls_as_a_cosine_to_zero() -> None:
    """100 steps: 8 of warm-up, 92 of cosine."""
    expected = {0: 1 / 8, 3: 4 / 8, 7: 1.0, 8: 1.0, 31: 0.853553, 54: 0.5, 77: 0.146447, 100: 0.0}
    for step, share in expected.items():
        assert rate(step, 100, 2e-3) == pytest.approx(2e-3 * share, rel=1e-5, abs=1e-12)
    rates = [rate(step, 100, 1.0) for step in range(100)]
    assert rates[:8] == sorted(rates[:8]) and rates[8:] == sorted(rates[8:], reverse=True)
    assert 0 < rates[99] < 0.001


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_training_of_very_few_steps_has_a_rate_above_zero_at_its_first_step(steps: int) -> None:
    assert rate(0, steps, 1.0) == 1.0


def test_each_layer_has_its_share_of_the_rate() -> None:
    """Head and last norm learn at the full rate, the stem slowest."""
    model = Regressor(EcgEncoder(Size(32, 3, 4)), 2)
    optimizer = adamw(model, {"lr": 1.0, "weight_decay": 0.05, "layer_decay": 0.5})
    set_rate(optimizer, 0.016)
    rates = by_name(model, optimizer, "lr")
    expected = {
        "head.": 0.016, "ecg.transformer.norm.": 0.016, "ecg.transformer.blocks.2.": 0.008,
        "ecg.transformer.blocks.1.": 0.004, "ecg.transformer.blocks.0.": 0.002, "ecg.stem.": 0.001, "ecg.position": 0.001,
    }  # fmt: skip
    for name, found in rates.items():
        (share,) = [v for k, v in expected.items() if name.startswith(k)]
        assert found == pytest.approx(share), name
    assert {v for v in rates.values()} == {0.016, 0.008, 0.004, 0.002, 0.001}


def test_without_layer_decay_all_layers_learn_at_one_rate() -> None:
    model = EcgOnly(EcgEncoder(Size(32, 3, 4), "lead_time"))
    optimizer = adamw(model, {"lr": 1.0, "weight_decay": 0.05})
    set_rate(optimizer, 0.3)
    assert set(by_name(model, optimizer, "lr").values()) == {0.3}


def test_biases_and_norms_are_not_decayed() -> None:
    model = Regressor(EcgEncoder(Size(32, 2, 4)), 2)
    decays = by_name(model, adamw(model, {"lr": 1.0, "weight_decay": 0.05}), "weight_decay")
    for name, parameter in model.named_parameters():
        assert decays[name] == (0.05 if parameter.ndim > 1 else 0.0)
    assert decays["ecg.transformer.norm.weight"] == decays["head.bias"] == 0.0


def test_the_rate_scales_the_steps_of_each_layer() -> None:
    """With the first step of Adam every weight moves by its rate, whatever the gradient."""
    model = Regressor(EcgEncoder(Size(32, 2, 4)), 1)
    optimizer = adamw(model, {"lr": 1.0, "weight_decay": 0.0, "layer_decay": 0.5})
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    set_rate(optimizer, 0.01)
    optimizer.step()
    moved = {k: (before[k] - v.detach()).mean().item() for k, v in model.named_parameters()}
    assert moved["head.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["ecg.transformer.blocks.1.qkv.weight"] == pytest.approx(0.005, rel=1e-3)
    assert moved["ecg.stem.0.weight"] == pytest.approx(0.00125, rel=1e-3)
