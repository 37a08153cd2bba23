"""Loss curves as they were: a change of any number in training, meant or not, shows here.

Where it was meant, `python -m tests.training.test_golden` prints the new numbers.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from ptacl.model.blocks import Size
from ptacl.model.cmr import CmrEncoder, TinyCmrEncoder
from ptacl.model.ecg import EcgEncoder
from ptacl.model.ptacl import LossSettings, Ptacl
from ptacl.training.augment import Augmentation
from ptacl.training.engine import Engine, train
from ptacl.training.objectives import ContrastiveObjective
from tests.training.study import FRAMES, PIXELS, SLICES, Study, make_study

STEPS = 20
PARTS = ("global", "local", "residual", "grad_norm")
SIZE = Size(64, 2, 4)
AUGMENTATION = {
    "tiny": Augmentation(0.02, 0.03, 0.0, 2, 0.1, 0.1),
    "vision": Augmentation(0.02, 0.03, 0.05, 2, 0.1, 0.1, cine_roll=True),
}
EXPECTED: dict[str, dict[str, list[float]]] = {
    "tiny": {
        "global": [
            3.17935, 3.17835, 3.1781, 3.17804, 3.17807, 3.17812, 3.17786, 3.17637, 3.17145, 3.16627,
            3.15794, 3.11782, 3.08347, 3.05853, 2.949, 2.93445, 2.90573, 2.95781, 2.91272, 2.86239,
        ],
        "grad_norm": [
            3.20014, 4.09081, 0.170401, 0.162019, 0.163537, 0.255118, 0.477155, 0.817566, 1.19277, 1.52195,
            1.64317, 1.80261, 2.40919, 2.00176, 3.81271, 2.58315, 3.08663, 1.66261, 1.74988, 2.14085,
        ],
        "local": [
            2.39905, 2.57434, 2.29966, 2.29751, 2.28942, 2.26835, 2.2202, 2.13067, 1.96783, 1.75393,
            1.55311, 1.36235, 1.23459, 1.10901, 1.06627, 1.00977, 0.970389, 0.92605, 0.951066, 0.960446,
        ],
    },
    "vision": {
        "global": [
            3.18063, 3.17678, 3.17377, 3.15231, 3.10695, 3.06138, 3.02028, 3.00722, 3.03477, 3.00215,
            2.98088, 2.95797, 2.91783, 2.82298, 2.82909, 2.73123, 2.76449, 2.82349, 2.93764, 2.78383,
        ],
        "grad_norm": [
            2.42907, 3.09328, 6.2433, 1.88277, 2.34122, 3.07021, 4.49159, 3.13475, 3.97313, 3.36313,
            2.20908, 2.19308, 2.72331, 3.81053, 3.57279, 1.88968, 7.54507, 8.40137, 9.31062, 4.21525,
        ],
        "local": [
            2.3315, 2.31234, 2.30871, 2.29829, 2.31651, 2.32683, 2.33839, 2.33696, 2.36675, 2.30602,
            2.28741, 2.30622, 2.29274, 2.30723, 2.28934, 2.33223, 2.32874, 2.32373, 2.37499, 2.35437,
        ],
        "residual": [
            3.16703, 3.05837, 3.24568, 2.74748, 2.85862, 3.15191, 2.71777, 3.02781, 2.62933, 2.68869,
            2.84467, 2.71057, 2.74123, 2.62046, 2.74768, 2.57359, 2.6329, 2.65268, 3.09368, 2.83534,
        ],
    },
}  # fmt: skip


def losses(study: Study, folder: Path, name: str) -> dict[str, list[float]]:
    """Losses of 20 steps of 24 people, one step an epoch."""
    torch.manual_seed(0)
    ecg = EcgEncoder(SIZE)
    if name == "tiny":
        model, settings = Ptacl(ecg, TinyCmrEncoder(SIZE, SLICES, FRAMES, PIXELS)), LossSettings(bins=10, kappa=20.0)
    else:
        cine = CmrEncoder(SIZE, SLICES, FRAMES, PIXELS, tubelet=2, patch=4)
        model, settings = Ptacl(ecg, cine), LossSettings(bins=10, kappa=20.0, residual="across")
    objective = ContrastiveObjective(model, 0.5, settings, AUGMENTATION[name], cine_drop=0.75)
    how = {"epochs": STEPS, "batch": 24, "lr": 2e-3, "weight_decay": 0.05}
    progress = train(objective, study.dataset(), how, 0, folder / f"{name}.ckpt", "digest", Engine())
    rows = [r for r in progress.history if r["split"] == "train" and r["name"] in PARTS]
    return {part: [r["value"] for r in rows if r["name"] == part] for part in sorted({r["name"] for r in rows})}


@pytest.mark.parametrize("name", ["tiny", "vision"])
def test_losses_of_twenty_steps_are_what_they_were(study: Study, tmp_path: Path, name: str) -> None:
    found = losses(study, tmp_path, name)
    assert found.keys() == EXPECTED[name].keys()
    for part, values in EXPECTED[name].items():
        # The norm of a gradient adds up what rounding does to all of them.
        assert found[part] == pytest.approx(values, rel=1e-3 if part == "grad_norm" else 1e-4), part


def _print(curves: Mapping[str, Mapping[str, list[float]]]) -> None:
    for name, curve in curves.items():
        for part, values in curve.items():
            print(name, part, [float(f"{v:.6g}") for v in values])


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder), second_visits=4, shards=2)
        _print({name: losses(study, Path(folder), name) for name in ("tiny", "vision")})
