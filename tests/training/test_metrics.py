"""Scores of the validation split on embeddings and predictions whose scores are known, and counted operations."""

import numpy as np
import pytest
import torch

from ptacl.model.blocks import Size
from ptacl.model.build import Regressor
from ptacl.model.ecg import EcgEncoder
from ptacl.training.augment import Augmentation
from ptacl.training.metrics import patient_retrieval, phase_retrieval, r2
from ptacl.training.objectives import SupervisedObjective
from ptacl.training.speed import flops_per_row
from tests.training.study import Study


def test_perfect_embeddings_find_every_partner_and_equal_ones_none() -> None:
    eye = torch.eye(20)
    assert patient_retrieval(eye, 3 * eye) == {"patient_r1": 1.0, "patient_r10": 1.0, "patient_mrr": 1.0}
    # Ties count against the true partner.
    assert patient_retrieval(torch.ones(20, 4), torch.ones(20, 4)) == {
        "patient_r1": 0.0, "patient_r10": 0.0, "patient_mrr": pytest.approx(0.05),
    }  # fmt: skip


def test_patient_retrieval_counts_ranks_in_both_directions() -> None:
    """The naive double loop."""
    e, c = torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), torch.randn(30, 8)
    c = e + 0.8 * torch.randn(30, 8, generator=torch.Generator().manual_seed(1))
    a, b = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (e, c))
    ranks = [sum(x[i] @ y[j] >= x[i] @ y[i] for j in range(30)) for x, y in ((a, b), (b, a)) for i in range(30)]
    found = patient_retrieval(e, c)
    assert found["patient_r1"] == pytest.approx(np.mean([r <= 1 for r in ranks]))
    assert found["patient_r10"] == pytest.approx(np.mean([r <= 10 for r in ranks]))
    assert found["patient_mrr"] == pytest.approx(np.mean([1 / r for r in ranks]))
    assert 0.1 < found["patient_r1"] < 0.9


def test_phase_retrieval_tells_own_frames_from_another_patients() -> None:
    bins = torch.eye(10)[None].repeat(3, 1, 1)
    assert phase_retrieval(bins, bins) == {"phase_acc_own": 1.0, "phase_acc_other": 1.0, "frame_cosine": 0.0}
    # Patients whose frames lie in spaces of their own: another patient's frames say nothing.
    apart = torch.zeros(3, 4, 12)
    for i in range(3):
        apart[i, :, 4 * i : 4 * i + 4] = torch.eye(4)
    found = phase_retrieval(apart, apart)
    assert found["phase_acc_own"] == 1.0 and found["phase_acc_other"] == 0.25
    assert phase_retrieval(torch.ones(3, 4, 5), torch.ones(3, 4, 5))["frame_cosine"] == pytest.approx(1.0)
    assert phase_retrieval(bins[:1], bins[:1]) == {}


def test_r2_is_the_mean_over_labels_of_their_known_values() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=(40, 3)) * [1, 5, 2] + [0, 10, -3]
    predicted = labels + rng.normal(size=(40, 3)) * [0.5, 1, 4]
    labels[rng.random((40, 3)) < 0.3] = np.nan
    expected, losses = [], []
    for j in range(3):
        known = ~np.isnan(labels[:, j])
        y, p = labels[known, j], predicted[known, j]
        expected.append(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())
        losses.append(((y - p) ** 2).mean())
    found = r2(torch.tensor(predicted), torch.tensor(labels))
    assert found["r2"] == pytest.approx(np.mean(expected)) and found["loss"] == pytest.approx(np.mean(losses))


def test_r2_leaves_out_labels_that_hardly_anyone_has() -> None:
    labels = torch.tensor([[1.0, 7.0], [2.0, torch.nan], [3.0, torch.nan]])
    assert r2(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), labels) == {"r2": 1.0, "loss": 0.0}
    assert r2(torch.zeros(3, 2), torch.full((3, 2), torch.nan)) == {}


def test_operations_of_a_step_are_those_of_the_formula(study: Study) -> None:
    """A transformer of depth 2 over 600 tokens of one lead: a matrix product m x n x k counts 2 m n k.

    Backward costs twice the forward pass, but for the stem, whose input needs no gradient.
    """
    length, patch, d, depth, targets = 600, 50, 32, 2, 3
    model = Regressor(EcgEncoder(Size(d, depth, 4), "lead_time"), targets)
    data = study.dataset(sides=("ecg",))
    (batch,) = data.batches([torch.arange(2)])
    objective = SupervisedObjective(model, torch.zeros(len(data), targets), 0.5, Augmentation())
    linear = 2 * length * (d * 3 * d + d * d + 2 * d * 4 * d)
    attention = 2 * 2 * length**2 * d
    stem, head = 2 * length * patch * d, 2 * d * targets
    expected = 3 * (depth * (linear + attention) + head) + 2 * stem
    assert flops_per_row(objective, batch) == pytest.approx(expected, rel=1e-9)
    assert all(p.grad is None for p in model.parameters())
