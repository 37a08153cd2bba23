"""Plots as inline SVG: the same bytes for the same numbers, with a text alternative."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ptacl.report import words

# Okabe and Ito's palette, told apart with any colour vision; reference rows are grey.
COLOURS = {
    "random": "#999999", "mae": "#56B4E9", "global": "#E69F00", "ptacl": "#0072B2", "ptacl_shuffled": "#CC79A7",
    "ptacl_other": "#D55E00", "cmr": "#009E73", "ptacl_residual": "#56407F", "ptacl_roll": "#8C564B", "scratch": "#BCBD22",
}  # fmt: skip
REFERENCE, CEILING = "#777777", "#222222"
# Ink and lines of a figure; on the page they follow its theme, as the methods' colours do (style.css).
INK, LINE = "#1c2330", "#d9dee7"
_THEMED = {INK: "var(--ink)", LINE: "var(--line)", CEILING: "var(--c-ceiling)", REFERENCE: "var(--c-reference)"}
_THEMED |= {hexes: f"var(--c-{name})" for name, hexes in COLOURS.items()}
_THEMED = {hexes.lower(): name for hexes, name in _THEMED.items()}

matplotlib.rcParams.update(
    {
        "svg.hashsalt": "ptacl", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10, "axes.titleweight": "bold",
        "axes.titlelocation": "left", "axes.edgecolor": REFERENCE, "legend.frameon": False, "grid.color": LINE,
        "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": INK, "ytick.color": INK,
    }
)  # fmt: skip

Row = Mapping[str, Any]
Published = Mapping[str, Mapping[str, float]]
# People in a group of which the mean is drawn.
GROUP = 15


def colour(method: str) -> str:
    """Colour of a method, grey for reference rows, black for ceilings."""
    return CEILING if method.startswith("ceiling") else COLOURS.get(method, REFERENCE)


def as_svg(figure: Figure, alternative: str) -> str:
    """The figure as an <svg> element with a text alternative."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None, "Creator": None}
    )
    plt.close(figure)
    svg = buffer.getvalue()[buffer.getvalue().index("<svg") :]
    svg = re.sub("|".join(_THEMED), lambda m: _THEMED[m[0].lower()], svg, flags=re.IGNORECASE)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Width and height in points would overflow a phone; the viewBox keeps the proportions.
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    said = escape(alternative)
    return f'{head} role="img" aria-label="{said}"><title>{said}</title>{rest}'


def forest(
    regression: Sequence[Row], phenotypes: Sequence[str], methods: Sequence[str], published: Published | None = None
) -> str:
    """R² of every method and reference row by phenotype, with 95 % intervals."""
    said = "R squared with 95 % intervals of every method and reference row, one panel per quantity."
    by = {(r["method"], r["phenotype"]): r for r in regression if r["metric"] == "r2"}
    for m in [m for m in methods if m in COLOURS]:
        values = [f"{words.label(p)} {words.number(by[m, p]['value'])}" for p in phenotypes[:3] if (m, p) in by]
        said += f" {words.method(m)}: {', '.join(values)}." if values else ""
    return as_svg(forest_figure(regression, phenotypes, methods, published), said)


def forest_figure(
    regression: Sequence[Row], phenotypes: Sequence[str], methods: Sequence[str], published: Published | None = None
) -> Figure:
    """The figure of `forest`. published: values of other data by row and phenotype, drawn apart below the others."""
    foreign = {n: v for n, v in (published or {}).items() if set(v) & set(phenotypes)}
    columns, lines = 3, len(methods) + len(foreign)
    rows = -(-len(phenotypes) // columns)
    size = (10.5, (0.23 * lines + 0.9) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    by = {(r["method"], r["phenotype"]): r for r in regression if r["metric"] == "r2"}
    for axis, name in zip(axes.flat, phenotypes, strict=False):
        for i, m in enumerate(methods):
            row = by.get((m, name))
            if row is None or row["value"] is None:
                continue
            marker = "D" if m.startswith("ceiling") else "s" if m in words.REFERENCES else "o"
            if row["lo"] is not None:
                axis.plot([max(row["lo"], -0.5), row["hi"]], [i, i], color=colour(m), lw=1.6)
            axis.plot(max(row["value"], -0.5), i, marker, color=colour(m), ms=5)
        for i, values in enumerate(foreign.values(), len(methods)):
            if name in values:
                axis.plot(values[name], i, "^", color=REFERENCE, mfc="none", ms=6)
        if foreign:
            axis.axhline(len(methods) - 0.5, color=REFERENCE, lw=0.8)
        axis.axvline(0, color=REFERENCE, lw=0.8, ls=":")
        axis.set(title=words.label(name), xlim=(-0.5, 1.02), yticks=range(lines))
        axis.set_yticklabels([*map(words.method, methods), *foreign])
        axis.set_ylim(lines - 0.4, -0.6)
        axis.grid(axis="x")
    for axis in list(axes.flat)[len(phenotypes) :]:
        axis.set_visible(False)
    for axis in axes[-1]:
        axis.set_xlabel("R² on the test split")
    figure.tight_layout()
    return figure


def measured(predictions: Sequence[Row], phenotypes: Sequence[str], method: str, points: bool) -> str:
    """Measured against predicted, test split: means with 95 % intervals of groups of people with like predictions.

    points: whether single people are drawn as well.
    """
    figure, axes = plt.subplots(1, len(phenotypes), figsize=(3.4 * len(phenotypes), 3.3), squeeze=False)
    for axis, name in zip(axes[0], phenotypes, strict=True):
        pairs = np.array([(r["prediction"], r["truth"]) for r in predictions if r["phenotype"] == name])
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        groups = np.array_split(pairs, int(np.clip(len(pairs) // GROUP, 1, 10)))
        x, y = (np.array([g[:, i].mean() for g in groups]) for i in (0, 1))
        half = np.array([1.96 * g[:, 1].std(ddof=min(1, len(g) - 1)) / np.sqrt(len(g)) for g in groups])
        if points:
            axis.scatter(*pairs.T, s=7, alpha=0.35, color=colour(method), linewidths=0)
        axis.errorbar(x, y, half, fmt="o-", color=INK, ms=4, lw=1.2, elinewidth=1)
        low, high = min(x.min(), (y - half).min()), max(x.max(), (y + half).max())
        axis.plot([low, high], [low, high], color=REFERENCE, lw=0.8, ls=":")
        axis.set_title(words.label(name))
        axis.set(xlabel=f"predicted ({words.unit(name)})", ylabel=f"measured ({words.unit(name)})")
        axis.grid()
    figure.tight_layout()
    names = ", ".join(map(words.label, phenotypes))
    return as_svg(
        figure,
        f"Measured against predicted {names} by {words.method(method)}: groups on the dotted line are predicted rightly.",
    )


def partners(retrieval: Sequence[Row], methods: Sequence[str]) -> str:
    """How often the own partner is among the first 1 and 10, by method and direction, with chance."""
    rows = [
        r for r in retrieval if r["task"] == "identification" and r["metric"] == "recall" and r["value"] is not None
    ]
    found = [m for m in methods if any(r["method"] == m for r in rows)]
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 0.42 * len(found) + 1.1), sharey=True)
    said = []
    for axis, k in zip(axes, (1, 10), strict=True):
        for i, m in enumerate(found):
            for way, shift, face in (("ecg_to_cmr", -0.14, colour(m)), ("cmr_to_ecg", 0.14, "none")):
                for r in rows:
                    if (r["method"], r["direction"], r["k"]) == (m, way, k):
                        if r["lo"] is not None:
                            axis.plot([r["lo"], r["hi"]], [i + shift] * 2, color=colour(m), lw=1.6)
                        axis.plot(r["value"], i + shift, "o", color=colour(m), mfc=face, ms=5)
                        said.append(
                            f"{words.method(m)}, {way.replace('_', ' ')}, first {k}: {words.number(r['value'])}."
                        )
        chance = next((r["chance"] for r in rows if r["k"] == k), None)
        if chance is not None:
            axis.axvline(chance, color=REFERENCE, lw=0.8, ls=":")
        title = "Own partner first" if k == 1 else f"Own partner among the first {k}"
        axis.set(title=title, yticks=range(len(found)), xlim=(0, None), xlabel="share of queries (dotted: chance)")
        axis.set_yticklabels(list(map(words.method, found)))
        axis.set_ylim(len(found) - 0.4, -0.6)
        axis.grid(axis="x")
    figure.tight_layout()
    return as_svg(figure, "How often the own partner is found. " + " ".join(said))


def curves(history: Mapping[str, Sequence[Row]]) -> str:
    """Training curves of every trained method: losses, patient retrieval, phase retrieval, frame cosine."""
    panels = (
        ("loss", "Loss (solid: training, dashed: validation)", ("train", "val")),
        ("patient_r10", "Own partner among the first ten (validation)", ("val",)),
        ("phase_acc", "Phase found (solid: own frames, dashed: another patient's)", ()),
        ("frame_cosine", "Cosine between frames of one patient", ("val",)),
    )
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 6))
    for axis, (name, title, splits) in zip(axes.flat, panels, strict=True):
        for m, rows in history.items():
            lines = [(name, s) for s in splits] or [("phase_acc_own", "val"), ("phase_acc_other", "val")]
            for (metric, split), style in zip(lines, ("-", "--"), strict=False):
                points = [(r["epoch"], r["value"]) for r in rows if r["name"] == metric and r["split"] == split]
                if points:
                    first = style == "-"
                    name_shown = words.method(m) if first else None
                    axis.plot(*zip(*points, strict=True), style, color=colour(m), lw=1.4, label=name_shown)
        axis.set(title=title, xlabel="epoch")
        axis.grid()
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
        else:
            axis.text(0.5, 0.5, "not recorded: too few validation pairs", ha="center", transform=axis.transAxes)
    figure.tight_layout()
    return as_svg(figure, "Training curves: losses, patient and phase retrieval, frame similarity over epochs.")
