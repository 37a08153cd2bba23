"""Counts of people as they are shown: as they are on private pages, and on those that are shared so that nobody is found by them.

In what is shared every count is rounded to the nearest five, and below five it is not told; where parts add up to a number that
is shown, the next larger part is not told either, so that subtraction finds nobody.
"""

from collections.abc import Mapping, Sequence
from typing import Any

LEAST, STEP = 5, 5
NOT_TOLD = "not told"
# Columns of score tables that count people or visits.
COUNTS = ("n", "gallery")
# Columns whose digits would tell a count: a chance of 0.00578 is one of 173.
SCORES = ("value", "lo", "hi", "chance", "oracle", "ceiling", "p", "p_holm", "seed_sd")


class Exact:
    """Counts as they are, for private pages."""

    shared = False

    def text(self, n: int) -> str:
        """A count in words."""
        return f"{n:,}"

    def texts(self, parts: Sequence[int]) -> list[str]:
        """The counts of parts that may add up to a number that is shown as well."""
        return list(map(self.text, parts))

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
        return f"{count:,}" if isinstance(count := told(n), int) else count

    def texts(self, parts: Sequence[int]) -> list[str]:
        hidden = {i for i, n in enumerate(parts) if 0 < n < LEAST}
        others = sorted((n, i) for i, n in enumerate(parts) if n >= LEAST)
        # One that is hidden would follow from the sum, and so would several that add up to little.
        while hidden and others and (len(hidden) < 2 or sum(parts[i] for i in hidden) < 4 * LEAST):
            hidden.add(others.pop(0)[1])
        return [NOT_TOLD if i in hidden else self.text(n) for i, n in enumerate(parts)]

    def share(self, flags: Sequence[Any]) -> str:
        n, k = len(flags), sum(flags)
        if n < 2 * LEAST or 0 < k < LEAST or 0 < n - k < LEAST:
            return NOT_TOLD
        return f"{rounded(k):,} ({100 * rounded(k) / rounded(n):.0f} %)"

    def enough(self, n: int) -> bool:
        return n >= 2 * LEAST


def told(n: int) -> int | str:
    """A count as it may be written down: rounded, or that there are fewer than five."""
    return n if n == 0 else f"fewer than {LEAST}" if n < LEAST else rounded(n)


def rounded(n: int) -> int:
    """To the nearest multiple of five."""
    return STEP * ((n + STEP // 2) // STEP)


def shareable(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Score rows with few digits and counts rounded, without those of fewer people than may be told."""
    kept = [r for r in rows if all(r.get(c) is None or r[c] >= LEAST for c in COUNTS) and not _few_cases(r)]
    kept = [
        r | {c: _short(r[c], 2 if "gallery" in r or r.get("metric") == "prevalence" else 3) for c in SCORES if c in r}
        for r in kept
    ]
    notes = {"note": "too few people to say more"}
    return [
        r | {c: rounded(r[c]) for c in COUNTS if r.get(c) is not None} | (notes if r.get("note") else {}) for r in kept
    ]


def _few_cases(row: Mapping[str, Any]) -> bool:
    """Whether a share of people (the prevalence of a low value) is that of a few, or of all but a few."""
    if row.get("metric") != "prevalence" or row["value"] is None:
        return False
    cases = round(row["value"] * row["n"])
    return 0 < cases < LEAST or 0 < row["n"] - cases < LEAST


def _short(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")
