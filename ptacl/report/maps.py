"""Two maps, drawn without images so that they may be shared: phases of ECG and cine against each other, and the embedding."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from ptacl.report import words
from ptacl.report.figures import Row, as_svg

# Most hexagons across a map.
ACROSS = 32
COLUMNS = 3


def alignment(shown: Mapping[str, Sequence[Row]]) -> str:
    """Mean similarity of ECG phases (up) and cine phases (across), a row of panels for each method."""
    kinds = {"own": "own frames", "other": "another patient's frames", "shifted": "cine from mid-cycle"}
    figure, axes = plt.subplots(len(shown), 3, figsize=(9.5, 3.0 * len(shown)), squeeze=False, layout="constrained")
    for (method, rows), row_axes in zip(shown.items(), axes, strict=True):
        for (kind, title), axis in zip(kinds.items(), row_axes, strict=True):
            matrix = phase_matrix(rows, kind)
            if matrix is None:
                axis.set_visible(False)
                continue
            k = len(matrix)
            mesh = axis.pcolormesh(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
            ticks = [0.5, k - 0.5]
            axis.set(xticks=ticks, yticks=ticks, xticklabels=["R peak", "next R"], yticklabels=["R peak", "next R"])
            axis.set_aspect("equal")
            axis.set_title(title)
        row_axes[0].set_ylabel(f"{words.method(method)}\n\nphase of the ECG")
        row_axes[0].set_xlabel("phase of the cine")
    bar = figure.colorbar(mesh, ax=axes, label="similarity (cosine)", shrink=0.6)
    _as_paths(bar)
    said = "Similarity of ten phases of the ECG and of the cine. " + " ".join(
        _told(m, rows) for m, rows in shown.items()
    )
    return as_svg(figure, said)


def phase_matrix(rows: Sequence[Row], frames: str) -> np.ndarray | None:
    """Mean cosine [ECG bin, CMR bin] of one kind of frames; None where there is none."""
    cells = [r for r in rows if r["frames"] == frames]
    if not cells:
        return None
    k = 1 + max(r["ecg_bin"] for r in cells)
    matrix = np.full((k, k), np.nan)
    for r in cells:
        matrix[r["ecg_bin"], r["cmr_bin"]] = r["cosine"]
    return matrix


def _told(method: str, rows: Sequence[Row]) -> str:
    own = phase_matrix(rows, "own")
    if own is None:
        return ""
    k = len(own)
    on = float(np.nanmean(np.diag(own)))
    off = float(np.nanmean(own[~np.eye(k, dtype=bool)]))
    return f"{words.method(method)}: {words.number(on)} where the phases are the same, {words.number(off)} elsewhere."


def embedding(places: np.ndarray, panels: Mapping[str, tuple[str, np.ndarray]], least: int) -> str:
    """The mean of a quantity over the people in each hexagon of a map, a panel for each.

    places: [n, 2]; panels: values [n] with NaN where unknown, by name, with a title; least: people in a hexagon below which
    it is left out.
    """
    rows = -(-len(panels) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(10.5, 3.1 * rows), squeeze=False, layout="constrained")
    across = int(np.clip(np.sqrt(len(places)) / 1.5, 6, ACROSS))
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    for (title, values), axis in zip(panels.values(), axes.flat, strict=False):
        known = np.isfinite(values)
        x, y = places[known].T
        hexagons = axis.hexbin(x, y, values[known], gridsize=across, mincnt=least, cmap="viridis", linewidths=0.2)
        axis.set(xticks=[], yticks=[], title=title)
        axis.set_aspect("equal", adjustable="datalim")
        _as_paths(figure.colorbar(hexagons, ax=axis, shrink=0.8))
    said = (
        "Map of the ECG embedding, coloured by the mean of " + ", ".join(title for title, _ in panels.values()) + ". "
    )
    said += " ".join(
        f"{title} goes with the map's place with a correlation of {words.number(_goes_with(places, values))}."
        for title, values in panels.values()
    )
    return as_svg(figure, said)


def _goes_with(places: np.ndarray, values: np.ndarray) -> float:
    """Multiple correlation of values with a place on the map."""
    known = np.isfinite(values)
    x = np.column_stack([np.ones(known.sum()), places[known]])
    fitted = x @ np.linalg.lstsq(x, values[known], rcond=None)[0]
    spread = np.std(values[known])
    return float(np.std(fitted) / spread) if spread > 0 else 0.0


def principal_plane(features: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Places [n, 2] of standardised features [n, D] on their first two principal components, and their shares of variance."""
    x = features.astype(np.float64) - features.mean(0)
    x /= np.maximum(x.std(0), 1e-9)
    values, vectors = np.linalg.eigh(x.T @ x)
    plane = vectors[:, ::-1][:, :2]
    plane *= np.sign(plane[np.abs(plane).argmax(0), [0, 1]])
    return x @ plane, (values[::-1][:2] / max(values.sum(), 1e-9)).tolist()


def _as_paths(bar: "plt.Colorbar") -> None:
    """Colour bars are drawn as images unless told otherwise."""
    if bar.solids is not None:
        bar.solids.set_rasterized(False)
