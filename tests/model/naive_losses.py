"""The losses of docs/method.md by loops over numbers, for comparison."""

import math
from collections.abc import Sequence

from torch import Tensor


def infonce(similarity: Sequence[Sequence[float]], positives: Sequence[Sequence[float]]) -> float:
    """Mean over the queries of both directions of the cross-entropy; each row of `positives` is made to sum to 1."""
    n, total = len(similarity), 0.0
    for i in range(n):
        row, column = list(similarity[i]), [similarity[j][i] for j in range(n)]
        for scores in (row, column):
            top = max(scores)
            log_sum = top + math.log(sum(math.exp(s - top) for s in scores))
            for j in range(n):
                total -= 0.5 * positives[i][j] / sum(positives[i]) * (scores[j] - log_sum)
    return total / n


def diagonal(n: int) -> list[list[float]]:
    """The own candidate is the only positive."""
    return [[float(i == j) for j in range(n)] for i in range(n)]


def cosine(a: Tensor, b: Tensor) -> float:
    """Of two vectors; 0 where one of them is zero."""
    x, y = a.tolist(), b.tolist()
    lengths = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
    return sum(v * w for v, w in zip(x, y, strict=True)) / lengths if lengths else 0.0


def global_loss(ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None) -> float:
    """Over the valid patients of [B, D]."""
    patients = [i for i in range(len(ecg)) if valid is None or valid[i]]
    if not patients:
        return 0.0
    return infonce(
        [[cosine(ecg[i], cmr[j]) / temperature for j in patients] for i in patients], diagonal(len(patients))
    )


def local_loss(
    ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None, soft: float | None = None
) -> float:
    """Over the valid bins of each patient of [B, K, D], and then over the patients that have any."""
    k, of_patients = ecg.shape[1], []
    for i in range(len(ecg)):
        bins = [b for b in range(k) if valid is None or (valid[i] if valid.dim() == 1 else valid[i, b])]
        if not bins:
            continue
        similarity = [[cosine(ecg[i, a], cmr[i, b]) / temperature for b in bins] for a in bins]
        positives = diagonal(len(bins))
        if soft is not None:
            positives = [[math.exp(-soft * min((a - b) % k, (b - a) % k)) for b in bins] for a in bins]
        of_patients.append(infonce(similarity, positives))
    return sum(of_patients) / len(of_patients) if of_patients else 0.0


def residual_loss(ecg: Tensor, cmr: Tensor, temperature: float, valid: Tensor | None = None) -> float:
    """Over the valid patients of [B, K, D]."""
    patients, k = [i for i in range(len(ecg)) if valid is None or valid[i]], ecg.shape[1]
    if not patients:
        return 0.0
    similarity = [
        [sum(cosine(ecg[i, b], cmr[j, b]) for b in range(k)) / k / temperature for j in patients] for i in patients
    ]
    return infonce(similarity, diagonal(len(patients)))


def residual(x: Tensor, valid: Tensor) -> list[list[list[float]]]:
    """Unit vectors [B][K][D] of what is left of x without the valid patients' mean."""
    b, k, d = x.shape
    patients = [i for i in range(b) if valid[i]]
    found = []
    for i in range(b):
        found.append([])
        for a in range(k):
            mean = [sum(x[j, a, c].item() for j in patients) / len(patients) for c in range(d)]
            left = [x[i, a, c].item() - mean[c] for c in range(d)]
            length = math.sqrt(sum(v * v for v in left))
            found[i].append([v / length for v in left])
    return found
