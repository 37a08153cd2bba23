"""Retrieval: is the own partner found, and are those found alike?

Intervals resample queries with the gallery fixed. Ties are broken so that they favour nobody: identification takes the
expectation over the tied places, phenotype similarity the order of the gallery.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ptacl.evaluation.statistics import Estimate, mean_estimate, median_estimate

IDENTIFICATION_K, PHENOTYPE_K, NDCG_K = (1, 5, 10), (1, 3, 5, 10), 10
RELEVANT_SD = 0.5
# Cosines closer than this are equal: they differ by the order in which they were summed.
TIE = 1e-12


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws and their seed."""

    number: int
    seed: int


def normalised(x: np.ndarray) -> np.ndarray:
    """Rows of unit length; rows of zeros stay zeros, and rows that are not finite become zeros: alike to nobody."""
    x = np.where(np.isfinite(x).all(1, keepdims=True), x, 0.0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def identification(
    query: np.ndarray, gallery: np.ndarray, subjects: Sequence[str], direction: str, draws: Draws
) -> list[dict[str, Any]]:
    """Is row i of the gallery [n, D] found from row i of the queries [n, D]? One visit per subject."""
    n = len(query)
    similarity = normalised(query) @ normalised(gallery).T
    own = similarity.diagonal()[:, None]
    better, tied = (similarity > own + TIE).sum(1), (np.abs(similarity - own) <= TIE).sum(1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
    rows = []
    for k in IDENTIFICATION_K:
        hit = np.clip((k - better) / np.maximum(tied, 1), 0, 1).astype(float)
        estimate = mean_estimate(hit, subjects, draws.number, draws.seed)
        rows.append(_row("identification", direction, None, "recall", k, estimate, min(1, k / max(n, 1)), 1.0, n, n))
    rank = better + (tied + 1) / 2
    estimate = median_estimate(rank, subjects, draws.number, draws.seed)
    rows.append(_row("identification", direction, None, "median_rank", None, estimate, (n + 1) / 2, 1.0, n, n))
    reciprocal = (harmonic[better + tied] - harmonic[better]) / np.maximum(tied, 1)
    estimate = mean_estimate(reciprocal, subjects, draws.number, draws.seed)
    chance = float(harmonic[-1] / max(n, 1))
    rows.append(_row("identification", direction, None, "mrr", None, estimate, chance, 1.0, n, n))
    return rows


def phenotype_similarity(
    query: np.ndarray,
    gallery: np.ndarray,
    subjects: Sequence[str],
    phenotypes: dict[str, np.ndarray],
    train_sd: dict[str, float],
    direction: str,
    draws: Draws,
) -> list[dict[str, Any]]:
    """Have the nearest of the gallery a similar phenotype? Rows of query and gallery are the same visits.

    Relevant: within half a training-split SD. Everything of the query's own person is left out of the gallery.
    """
    person = np.unique(np.asarray(subjects), return_inverse=True)[1] if len(subjects) else np.zeros(0, int)
    similarity = (normalised(query) @ normalised(gallery).T).astype(np.float32)
    similarity[person[:, None] == person[None]] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")
    rows: list[dict[str, Any]] = []
    for name, values in phenotypes.items():
        sd = train_sd.get(name, float("nan"))
        known = np.flatnonzero(np.isfinite(values))
        if not np.isfinite(sd) or sd <= 0 or len(known) < 2:
            note = f"{len(known)} test rows, training SD {sd:.3g}; at least two rows and a spread are needed"
            nothing = Estimate(None, None, None, note)
            rows.append(_row("phenotype", direction, name, "map", None, nothing, None, None, 0, len(known)))
            continue
        # Gallery of those whose phenotype is known, in the order of each query, own person last.
        inside = np.zeros(len(values), bool)
        inside[known] = True
        ranked = order[known]
        ranked = ranked[inside[ranked]].reshape(len(known), len(known))
        others = (person[ranked] != person[known][:, None]).sum(1)
        scores = _phenotype_scores(values, known, ranked, others, sd)
        who = [subjects[i] for i in known.tolist()]
        for (metric, k), (value, chance, oracle) in scores.items():
            estimate = mean_estimate(value, who, draws.number, draws.seed)
            rows.append(
                _row(
                    "phenotype", direction, name, metric, k, estimate, _mean(chance), _mean(oracle),
                    int(round(others.mean())), int(np.isfinite(value).sum()),
                )
            )  # fmt: skip
    return rows


Scores = dict[tuple[str, int | None], tuple[np.ndarray, np.ndarray, np.ndarray]]


def _phenotype_scores(
    values: np.ndarray, known: np.ndarray, ranked: np.ndarray, others: np.ndarray, sd: float
) -> Scores:
    """Per query: value, chance and oracle of every metric. `others`: gallery size of each query."""
    n = ranked.shape[1]
    in_gallery = np.arange(n) < others[:, None]
    difference = np.where(in_gallery, np.abs(values[ranked] - values[known][:, None]), np.nan)
    relevant = difference <= RELEVANT_SD * sd
    total = relevant.sum(1).astype(float)
    nearest = np.sort(difference, axis=1)  # NaN last
    scores: Scores = {}
    for k in PHENOTYPE_K:
        if k > others.min():
            continue
        hits = relevant[:, :k].sum(1)
        scores["precision", k] = hits / k, total / others, np.minimum(total, k) / k
        some = np.where(total > 0, total, np.nan)
        scores["recall", k] = hits / some, np.where(total > 0, k / others, np.nan), np.minimum(total, k) / some
        mean_of_all = np.nanmean(difference, axis=1)
        scores["abs_difference", k] = difference[:, :k].mean(1), mean_of_all, nearest[:, :k].mean(1)
    scores["map", None] = _average_precision(relevant, total, others)
    if others.min() >= NDCG_K:
        scores["ndcg", NDCG_K] = _ndcg(difference / sd, nearest / sd)
    return scores


def _average_precision(
    relevant: np.ndarray, total: np.ndarray, others: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average precision; its expectation under a random order is (R-1)/(N-1) (1 - H_N/N) + H_N/N."""
    precision = np.cumsum(relevant, axis=1) / np.arange(1, relevant.shape[1] + 1)
    some = np.where(total > 0, total, np.nan)
    harmonic = np.array([np.sum(1 / np.arange(1, m + 1)) / m for m in others])
    chance = (total - 1) / np.maximum(others - 1, 1) * (1 - harmonic) + harmonic
    return (precision * relevant).sum(1) / some, np.where(total > 0, chance, np.nan), np.where(total > 0, 1.0, np.nan)


def _ndcg(z: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """nDCG of the first ten with graded relevance exp(-|dz|)."""
    discount = 1 / np.log2(np.arange(NDCG_K) + 2)
    ideal = np.exp(-nearest[:, :NDCG_K]) @ discount
    chance = np.nanmean(np.exp(-z), axis=1) * discount.sum() / ideal
    return np.exp(-z[:, :NDCG_K]) @ discount / ideal, chance, np.ones(len(z))


def phase_retrieval(ecg: np.ndarray, cmr: np.ndarray, subjects: Sequence[str], draws: Draws) -> list[dict[str, Any]]:
    """Is the cine bin nearest to an ECG bin the one of the same phase? On own and on the next patient's frames.

    `ecg`, `cmr`: [n, K, 128], unit length. Only the gap between the two is the patient's own timing.
    """
    n, k = ecg.shape[:2]
    rows = []
    for name, frames in (("phase_accuracy_own", cmr), ("phase_accuracy_other", np.roll(cmr, 1, axis=0))):
        right = (np.einsum("nkd,nmd->nkm", ecg, frames).argmax(2) == np.arange(k)).mean(1) if n > 1 else np.zeros(0)
        estimate = mean_estimate(right, list(subjects)[: len(right)], draws.number, draws.seed)
        rows.append(_row("phase", "ecg_to_cmr", None, name, None, estimate, 1 / k, 1.0, k, n))
    return rows


def _row(
    task: str, direction: str, phenotype: str | None, metric: str, k: int | None, estimate: Estimate,
    chance: float | None, oracle: float | None, gallery: int, n: int,
) -> dict[str, Any]:  # fmt: skip
    return {
        "task": task, "direction": direction, "phenotype": phenotype, "metric": metric, "k": k,
        "value": estimate.value, "lo": estimate.lo, "hi": estimate.hi, "chance": chance, "oracle": oracle,
        "gallery": gallery, "n": n, "note": estimate.note,
    }  # fmt: skip


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
