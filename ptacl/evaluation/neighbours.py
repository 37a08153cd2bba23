"""Rankings of a gallery, and how alike a query and its nearest are in one phenotype."""

from dataclasses import dataclass

import numpy as np

PHENOTYPE_K, NDCG_K = (1, 3, 5, 10), 10
RELEVANT_SD = 0.5
MEASURES: list[tuple[str, int | None]] = [
    *((metric, k) for k in PHENOTYPE_K for metric in ("precision", "recall", "abs_difference")),
    ("map", None),
    ("ndcg", NDCG_K),
]  # fmt: skip

# A ranking key holds the dissimilarity in steps of 2^-40 above 20 bits for the place in the gallery.
_STEPS, _PLACE_BITS = 2.0**40, 20


def rank_gallery(similarity: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Places in the gallery from the most to the least similar: int64 [queries, gallery].

    similarity: cosines [queries, gallery of at most 2^20]; own: bool, same shape: those of the query's own person,
    which come last. Cosines equal to 1e-12 keep the order of the gallery, whatever the rounding of the product.
    """
    # Sorting one plain integer per pair is several times faster than a stable argsort of floats.
    keys = np.rint((1 - similarity) * _STEPS).astype(np.int64)
    keys[own] = int(4 * _STEPS)
    keys <<= _PLACE_BITS
    keys |= np.arange(similarity.shape[1])
    keys.sort(axis=1)
    keys &= 2**_PLACE_BITS - 1
    return keys


@dataclass(frozen=True)
class Bounds:
    """What a gallery offers each of q queries, whatever the ranking."""

    others: np.ndarray  # int [q]: gallery size
    relevant: np.ndarray  # int [q]: how many of it are relevant
    mean_difference: np.ndarray  # [q], in the phenotype's unit
    mean_gain: np.ndarray  # [q]: mean of exp(-|dz|)
    nearest: np.ndarray  # [q, <= 10]: the smallest differences, in order


class Phenotype:
    """Values of a phenotype by row [n] (NaN: neither query nor gallery), its training SD, and whose they are."""

    def __init__(self, values: np.ndarray, sd: float, person: np.ndarray) -> None:
        self.values, self.sd, self.person = values, sd, person
        self.known = np.isfinite(values)

    def bounds(self, queries: np.ndarray) -> Bounds:
        """Sizes, means and optima over the gallery of others, for the rows `queries`."""
        gallery = np.flatnonzero(self.known)
        difference = np.abs(self.values[gallery] - self.values[queries][:, None])
        difference[self.person[gallery] == self.person[queries][:, None]] = np.inf
        others = np.isfinite(difference).sum(1)
        size = np.where(others > 0, others, np.nan)
        first = min(NDCG_K, len(gallery))
        nearest = np.sort(np.partition(difference, first - 1, axis=1)[:, :first], axis=1) if first else difference
        return Bounds(
            others,
            (difference <= RELEVANT_SD * self.sd).sum(1),
            np.where(np.isfinite(difference), difference, 0).sum(1) / size,
            np.exp(-difference / self.sd).sum(1) / size,
            nearest,
        )


def score_ranking(phenotype: Phenotype, queries: np.ndarray, order: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Value, chance and oracle of every measure for every query: [3, measures, q], NaN where one is undefined.

    queries: row numbers [q]; order: their rankings of all rows, own person last. Precision and recall: relevant within
    half a training SD. nDCG: gain exp(-|dz|). Chance is the expectation over random orders of this gallery, oracle
    the best order of it. Undefined: a top k of fewer than k others; recall and mAP of queries with nothing relevant.
    """
    known = phenotype.known[order]
    ranked = order[known].reshape(len(order), -1) if len(order) else np.zeros((0, 0), int)
    difference = np.abs(phenotype.values[ranked] - phenotype.values[queries][:, None])
    relevant = difference <= RELEVANT_SD * phenotype.sd
    relevant &= np.arange(ranked.shape[1]) < bounds.others[:, None]
    some = np.where(bounds.relevant > 0, bounds.relevant, np.nan)
    scores = np.full((3, len(MEASURES), len(queries)), np.nan)
    for j, (metric, k) in enumerate(MEASURES):
        if k is None:
            scores[:, j] = _average_precision(relevant, bounds.others, some)
            continue
        enough = bounds.others >= k
        hits, best = relevant[:, :k].sum(1), np.minimum(bounds.relevant, k)
        if not enough.any():
            continue
        if metric == "precision":
            values = hits / k, bounds.relevant / np.maximum(bounds.others, 1), best / k
        elif metric == "recall":
            values = hits / some, k / np.maximum(bounds.others, 1) + 0 * some, best / some
        elif metric == "abs_difference":
            values = difference[:, :k].mean(1), bounds.mean_difference, bounds.nearest[:, :k].mean(1)
        else:
            values = _ndcg(difference[:, :k] / phenotype.sd, bounds.mean_gain, bounds.nearest / phenotype.sd)
        scores[:, j] = np.where(enough, np.stack(values), np.nan)
    return scores


def _average_precision(relevant: np.ndarray, others: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Average precision, chance and oracle [3, q]; `some`: number of relevant ones, NaN for none.

    The expectation over random orders of N items, R of them relevant, is (R-1)/(N-1) (1 - H_N/N) + H_N/N.
    """
    places = np.arange(1, relevant.shape[1] + 1)
    value = (np.cumsum(relevant, axis=1) * relevant) @ (1 / places) / some
    harmonic = np.concatenate([[0.0], np.cumsum(1 / places)])[others] / np.maximum(others, 1)
    chance = (some - 1) / np.maximum(others - 1, 1) * (1 - harmonic) + harmonic
    return np.stack([value, chance, 1 + 0 * some])


def _ndcg(z: np.ndarray, mean_gain: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """nDCG of the first ten with graded relevance exp(-|dz|) (Järvelin & Kekäläinen 2002)."""
    discount = 1 / np.log2(np.arange(NDCG_K) + 2)
    ideal = np.exp(-nearest) @ discount
    return np.exp(-z) @ discount / ideal, mean_gain * discount.sum() / ideal, np.ones(len(z))
