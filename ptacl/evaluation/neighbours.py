"""Nearest neighbours by cosine: in full order, or, in galleries too large for that, the first few by an approximate index."""

from collections.abc import Iterator

import numpy as np

from ptacl.errors import PtaclError

# Galleries up to this size are ordered in full.
EXACT_UP_TO = 10**6
# Queries at a time: their similarities to the gallery stay in the processor's cache.
BLOCK = 64
# A phenotype may be known of few in a large gallery; these are searched in full: parts of them would hold too few to find.
FEW = 1000
# Queries whose true neighbours tell what an approximate search misses.
RECALL_SAMPLE = 500


def normalised(x: np.ndarray) -> np.ndarray:
    """Rows of unit length; rows of zeros stay zeros, and rows that are not finite become zeros: alike to nobody."""
    x = np.where(np.isfinite(x).all(1, keepdims=True), x, 0.0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def ordered(
    query: np.ndarray, gallery: np.ndarray, query_person: np.ndarray, person: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """For blocks of queries [q, D]: which, and the gallery [n, D] from the nearest to the farthest, int [block, n].

    Both of unit length. Everything of the query's own person comes last; equal cosines in the order of the gallery.
    """
    for first in range(0, len(query), BLOCK):
        block = slice(first, min(first + BLOCK, len(query)))
        distance = -(query[block] @ gallery.T)
        distance[query_person[block, None] == person[None]] = np.inf
        yield block, stable_order(distance)


def stable_order(x: np.ndarray) -> np.ndarray:
    """Places of the values of every row in ascending order, int [n, m], equal values in the order they stand in.

    Numpy's unstable sort is five times as fast as its stable one, which rows with equal values are left to.
    """
    order = np.argsort(x, axis=1)
    ascending = np.take_along_axis(x, order, 1)
    equal = (ascending[:, 1:] == ascending[:, :-1]).any(1)
    order[equal] = np.argsort(x[equal], axis=1, kind="stable")
    return order


def approximate(
    query: np.ndarray, gallery: np.ndarray, query_person: np.ndarray, person: np.ndarray, k: int
) -> tuple[np.ndarray, float]:
    """The first k of the gallery for each query, int [q, k], by an inverted file (FAISS), and the recall of this search.

    Recall: the share of the true first k that is found, measured on RECALL_SAMPLE queries. Own person left out; -1 where
    fewer were found. Raises PtaclError where FAISS is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise PtaclError(
            f"a gallery of {len(gallery):,} recordings is searched by FAISS: pip install faiss-cpu, or conda install faiss-cpu"
        ) from None
    query, gallery = query.astype(np.float32), gallery.astype(np.float32)
    lists = int(4 * np.sqrt(len(gallery))) if len(gallery) > FEW else 1
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(gallery.shape[1]), gallery.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    rng = np.random.default_rng(0)
    index.cp.seed = 0
    index.train(gallery[rng.permutation(len(gallery))[: 64 * lists]])
    index.add(gallery)
    index.nprobe = max(1, lists // 16)
    spare = int(np.bincount(person).max())
    found = _without_own(index.search(query, k + spare)[1], query_person, person, k)
    sample = rng.permutation(len(query))[:RECALL_SAMPLE]
    exact = faiss.IndexFlatIP(gallery.shape[1])
    exact.add(gallery)
    true = _without_own(exact.search(query[sample], k + spare)[1], query_person[sample], person, k)
    hits = sum(len(set(a) & set(b) - {-1}) for a, b in zip(found[sample].tolist(), true.tolist(), strict=True))
    return found, hits / max(1, int((true >= 0).sum()))


def _without_own(found: np.ndarray, query_person: np.ndarray, person: np.ndarray, k: int) -> np.ndarray:
    """The first k of found [q, more] that are of another person, in order; -1 where there are not as many."""
    own = (found < 0) | (person[found] == query_person[:, None])
    first = np.argsort(own, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(own, first, 1), -1, np.take_along_axis(found, first, 1))
