"""Phase alignment: is the cine frame group nearest to an ECG phase the one of the same cardiac phase?

Three galleries: the patient's own frames, other patients' frames, and the own frames of a cine that starts in the middle of
the cycle. Only the gap between own and others is the patient's own timing, and a model that knows a frame's phase from
its position in the recording fails on the third.
"""

from dataclasses import asdict

import numpy as np

from ptacl.evaluation.retrieval import Gallery, Queries
from ptacl.evaluation.statistics import mean_estimates
from ptacl.evaluation.tables import Row

# Other patients whose frames are tried for each: the next ones in order.
OTHERS = 8
DIRECTIONS = ("ecg_to_cmr", "cmr_to_ecg")


def phase_alignment(
    ecg: np.ndarray, cmr: np.ndarray, shifted: np.ndarray, rows: np.ndarray, of: Gallery
) -> tuple[list[Row], list[Queries], list[Row]]:
    """Scores, values by patient, and mean similarity matrices of projected phase bins [n, K, D], unit length.

    `rows` [n]: their rows in the gallery, one visit of each person. Accuracy: the share of a patient's K bins whose nearest
    bin of the other side is the same phase; chance is 1 / K.
    """
    n, k = ecg.shape[:2]
    if not n:
        return [], [], []
    turns = range(1, min(OTHERS, n - 1) + 1)
    own, others = _cosines(ecg, cmr), [_cosines(ecg, np.roll(cmr, -turn, axis=0)) for turn in turns]
    frames = {"own": [own], "other": others, "shifted": [_cosines(ecg, shifted)]}
    table: list[Row] = []
    queries: list[Queries] = []
    for direction in DIRECTIONS:
        found = {name: _accuracy(matrices, direction) for name, matrices in frames.items() if matrices}
        if "other" in found:
            found["gap"] = found["own"] - found["other"]
        for name, value in found.items():
            metric, chance, oracle = f"phase_accuracy_{name}", (0.0 if name == "gap" else 1 / k), 1.0
            about = {"task": "phase", "direction": direction, "metric": metric, "phenotype": None, "k": None}
            (e,) = mean_estimates(value[:, None], rows, of.resampling)
            table.append({**about, **asdict(e), "chance": chance, "oracle": oracle, "gallery": k, "n": n})
            queries.append({**about, "rows": rows, "value": value})
    matrices = [
        {"frames": name, "ecg_bin": i, "cmr_bin": j, "cosine": float(mean[i, j]), "n": n}
        for name, some in frames.items() if some
        for mean in [np.mean([m.mean(0) for m in some], axis=0)]
        for i in range(k) for j in range(k)
    ]  # fmt: skip
    return table, queries, matrices


def _cosines(ecg: np.ndarray, cmr: np.ndarray) -> np.ndarray:
    """Similarity of every ECG bin with every CMR bin, [n, K, K]."""
    return ecg @ cmr.transpose(0, 2, 1)


def _accuracy(matrices: list[np.ndarray], direction: str) -> np.ndarray:
    """Share of bins whose nearest is of the same phase, by patient, mean over matrices [n, K, K]."""
    axis = 2 if direction == "ecg_to_cmr" else 1
    return np.mean([(m.argmax(axis) == np.arange(m.shape[1])).mean(1) for m in matrices], axis=0)
