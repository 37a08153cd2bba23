"""The model card: what a package is, what it was made from, what it is worth, and what not to do with it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_TEMPLATE = Path(__file__).with_name("card.md")


def card(about: Mapping[str, Any]) -> str:
    """The card as Markdown, from what package.yaml says."""
    rows = [
        [
            p["name"], p["unit"], _with_interval(p["test"].get("r2")), _error(p),
            _of_size(p["half_width"], p), _percent(p["test"]["covered"]), " to ".join(_of_size(x, p) for x in p["range"] or [None]),
            str(p["labels"]["train"]),
        ]
        for p in about["phenotypes"]
    ]  # fmt: skip
    header = ["phenotype", "unit", "R²", "mean abs. error", "half-width", "covered", "training range", "labels"]
    typical = (
        "An ECG farther from the others than 99 of 100 is marked as unlike them."
        if about["typical_distance"] is not None
        else "The calibration split is too small to tell unusual ECGs."
    )
    return _TEMPLATE.read_text().format(
        method=about["method"], seed=about["seed"], made_by=about["made_by"], folder="FOLDER",
        projection=" and of its projection" if about["projects"] else "",
        people=", ".join(f"{n} {name}" for name, n in about["people"].items()), corner=about["ecg"]["corner_hz"],
        scale=about["scale_mv"], table=_table([header, *rows]) if rows else "No phenotype had labels enough.",
        typical=typical,
    )  # fmt: skip


def rounded(value: float, spread: float) -> str:
    """A value with the digits that tell something where values differ by `spread`: two of it or three."""
    digits = 0 if not 0 < spread < 20 else 1 if spread >= 2 else 2 if spread >= 0.2 else 3
    return f"{value:.{digits}f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *body])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _of_size(value: float | None, phenotype: Mapping[str, Any]) -> str:
    spread = phenotype["half_width"] or abs(value or 0)
    return "–" if value is None else rounded(value, spread)


def _error(phenotype: Mapping[str, Any]) -> str:
    return _of_size(phenotype["test"].get("mae", [None])[0], phenotype)


def _with_interval(score: Sequence[float | None] | None) -> str:
    if score is None or score[0] is None:
        return "–"
    value, lo, hi = (_number(x) for x in score)
    return f"{value} ({lo} to {hi})" if score[1] is not None else value
