"""Images of the study's document."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from ptacl.evaluation.rows import EVERYBODY
from ptacl.report import words
from ptacl.report.figures import colour
from ptacl.report.load import Row
from ptacl.report.maps import phase_matrix


def alignment_figure(shown: Mapping[str, Sequence[Row]]) -> Figure:
    """Mean similarity of ECG phases (rows) and CMR phases (columns): own frames, others', own of a shifted cine."""
    kinds = ("own", "other", "shifted")
    titles = {"own": "own frames", "other": "other patients' frames", "shifted": "own, cine from mid-cycle"}
    figure, axes = plt.subplots(len(shown), 3, figsize=(7.5, 2.3 * len(shown)), squeeze=False)
    for (m, rows), row_axes in zip(shown.items(), axes, strict=True):
        for kind, axis in zip(kinds, row_axes, strict=True):
            matrix = phase_matrix(rows, kind)
            if matrix is None:
                axis.set_visible(False)
                continue
            k = len(matrix)
            axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
            axis.set(xticks=[0, k - 1], yticks=[0, k - 1], xticklabels=["R", "next R"], yticklabels=["R", "next R"])
            axis.set_title(titles[kind] if kind != "own" else f"{m}: own frames", fontsize=9)
    axes[-1][0].set(xlabel="phase of the cine", ylabel="phase of the ECG")
    figure.tight_layout()
    return figure


def labels_figure(
    sides: Mapping[str, Sequence[Row]], names: Sequence[str], methods: Sequence[str], title: Callable[[str], str] = str
) -> Figure:
    """R² by share of the labels: a row of panels for each protocol, a panel for each phenotype. title: of a method."""
    figure, axes = plt.subplots(
        len(sides), len(names), figsize=(3.4 * len(names), 3.0 * len(sides)), squeeze=False, sharex=True
    )
    for (side, rows), row_axes in zip(sides.items(), axes, strict=True):
        for name, axis in zip(names, row_axes, strict=True):
            for m in methods:
                own = sorted((r for r in rows if _curve(r, m, name)), key=lambda r: r["label_fraction"])
                if len(own) > 1:
                    axis.plot(
                        [100 * r["label_fraction"] for r in own], [max(r["value"], -0.2) for r in own], marker="o", ms=4, lw=1.3,
                        color=colour(m), ls="--" if m == "median_beat" else "-", label=m,
                    )  # fmt: skip
            axis.set(title=f"{words.label(name)}, {side}", xscale="log", ylabel="R²", ylim=(-0.22, None))
            axis.set_xlabel("share of the labels, %")
            axis.xaxis.set_major_formatter("{x:g}")
            axis.axhline(0, color="#999999", lw=0.8, ls=":")
    lines = {line.get_label(): line for row_axes in axes for axis in row_axes for line in axis.get_lines()}
    shown = [m for m in methods if m in lines]
    figure.legend(
        [lines[m] for m in shown], list(map(title, shown)), fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5)
    )  # fmt: skip
    figure.tight_layout()
    return figure


def _curve(r: Row, method: str, name: str) -> bool:
    own = (r["method"], r["phenotype"], r["metric"], r["subgroup"]) == (method, name, "r2", EVERYBODY)
    return own and r["inputs"] in ("ecg", "covariates") and r["value"] is not None


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes for the same numbers."""
    buffer = io.BytesIO()
    no_metadata: dict[str, Any] = {"Software": None}
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata=no_metadata)
    plt.close(figure)
    return buffer.getvalue()
