"""Counts of people as they are shown: as they are on private pages, and on those that are shared so that nobody is found by them.

In what is shared every count is rounded to the nearest five, and below five it is not told. Nobody can then be singled
out by subtracting one number from another, which leaving out small numbers alone would allow.
"""

from collections.abc import Sequence
from typing import Any

LEAST, STEP = 5, 5


class Exact:
    """Counts as they are, for private pages."""

    shared = False

    def text(self, n: int) -> str:
        """A count in words."""
        return f"{n:,}"

    def share(self, flags: Sequence[Any]) -> str:
        """How many of a group are flagged, and which share that is."""
        return f"{sum(flags):,} ({100 * sum(flags) / len(flags):.0f} %)" if flags else "–"

    def enough(self, n: int) -> bool:
        """Whether a mean and SD of so many may be shown."""
        return n >= 2


class Rounded(Exact):
    """Counts that may leave the machine."""

    shared = True

    def text(self, n: int) -> str:
        return "0" if n == 0 else f"fewer than {LEAST}" if n < LEAST else f"{rounded(n):,}"

    def share(self, flags: Sequence[Any]) -> str:
        n, k = len(flags), sum(flags)
        if n < 2 * LEAST or 0 < k < LEAST or 0 < n - k < LEAST:
            return "not told"
        return f"{rounded(k):,} ({100 * rounded(k) / rounded(n):.0f} %)"

    def enough(self, n: int) -> bool:
        return n >= 2 * LEAST


def rounded(n: int) -> int:
    """To the nearest multiple of five."""
    return STEP * ((n + STEP // 2) // STEP)


def shareable(rows: Sequence[dict[str, Any]], counts: Sequence[str] = ("n", "gallery")) -> list[dict[str, Any]]:
    """Score rows with their counts rounded, without those of fewer people than may be told."""
    kept = [r for r in rows if all(r.get(c) is None or r[c] >= LEAST for c in counts)]
    return [r | {c: rounded(r[c]) for c in counts if r.get(c) is not None} for r in kept]
