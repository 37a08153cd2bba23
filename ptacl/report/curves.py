"""Training curves as small panels: one quantity each, methods by colour, training dashed, validation solid."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ptacl.report.load import Row, Study
from ptacl.report.svg import Axis, Drawing, Point, frame, spread
from ptacl.report.words import Methods, short_method

WIDTH, HEIGHT = 360, 232
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 40


@dataclass(frozen=True)
class Figure:
    """An image with its heading and caption."""

    title: str
    image: Markup
    caption: str = ""


@dataclass(frozen=True)
class Curve:
    """One line: values over epochs."""

    method: str
    name: str
    dashed: bool
    points: list[Point]


@dataclass(frozen=True)
class Panel:
    """Which curves go into one panel. `names`: (name in the history, split, dashed)."""

    title: str
    names: tuple[tuple[str, str, bool], ...]
    caption: str
    wanted: Callable[[str], bool]
    guide: float | None = None
    share: bool = False


def training_figures(study: Study, methods: Methods) -> list[Figure]:
    """The panels that this study's history can fill."""
    panels = _panels(study)
    figures = []
    for panel in panels:
        curves = _curves(study.history, panel)
        if curves:
            figures.append(Figure(panel.title, _draw(panel, curves, methods), panel.caption))
    return figures


def drawn_methods(study: Study) -> list[str]:
    """Methods with any training history, for the legend."""
    return list(dict.fromkeys(r["method"] for r in study.history if r["name"] != "lr"))


def _panels(study: Study) -> list[Panel]:
    settings: Mapping[str, Any] = study.config["pretrain"]
    definitions, contrastive = settings["methods"], settings["contrastive"]
    training = sum(p["split"] == "train" for p in study.pairs)
    batch, bins = min(contrastive["batch"], max(training, 1)), contrastive["bins"]

    def objective(name: str) -> Callable[[str], bool]:
        return lambda method: definitions.get(method, {}).get("objective") == name

    both = lambda name: ((name, "train", True), (name, "val", False))  # noqa: E731
    return [
        Panel(
            "Autoencoder: error of the hidden patches", both("loss"),
            "What the ECG autoencoder still gets wrong about hidden pieces of the ECG. A flat start is a plateau it"
            " should leave.", objective("mae"),
        ),
        Panel(
            "Global loss", both("global"),
            f"How well ECG and cine of one patient are told from those of others. Guessing among a training batch of"
            f" {batch} gives ln {batch} = {math.log(batch):.2f} (dotted).", objective("contrastive"), math.log(batch) or None,
        ),
        Panel(
            "Local loss", both("local"),
            f"How well the {bins} cardiac phases of one patient’s ECG and cine are matched. Guessing gives ln {bins} ="
            f" {math.log(bins):.2f} (dotted). It can fall by knowing the phase alone.", objective("contrastive"),
            math.log(bins),
        ),
        Panel(
            "Own cine found first", (("patient_r1", "val", False),),
            "Share of validation patients whose own cine is ranked first from their ECG.", objective("contrastive"),
            share=True,
        ),
        Panel(
            "Phase accuracy", (("phase_acc_own", "val", False), ("phase_acc_other", "val", True)),
            f"Share of ECG phases whose best matching cine phase is the right one: in the patient’s own frames (solid)"
            f" and in another patient’s (dashed). Guessing gives {1 / bins:.2f} (dotted). Only the gap is the patient’s"
            f" own timing.", objective("contrastive"), 1 / bins, share=True,
        ),
        Panel(
            "Likeness of one patient’s frames", (("frame_cosine", "val", False),),
            "Mean cosine between the phase embeddings of one patient’s cine. Near 1 the frames can’t be told apart.",
            objective("contrastive"),
        ),
    ]  # fmt: skip


def _curves(history: list[Row], panel: Panel) -> list[Curve]:
    groups: dict[tuple[str, Any, str, bool], list[Point]] = {}
    for row in history:
        value = row["value"]
        if not panel.wanted(row["method"]) or value is None or not math.isfinite(value):
            continue
        for name, split, dashed in panel.names:
            if row["name"] == name and row["split"] == split:
                groups.setdefault((row["method"], row["seed"], name, dashed), []).append((row["epoch"], value))
    return [
        Curve(method, name, dashed, sorted(points))
        for (method, _, name, dashed), points in groups.items()
        if any(v for _, v in points)
    ]


def _draw(panel: Panel, curves: list[Curve], methods: Methods) -> Markup:
    values = [v for c in curves for _, v in c.points] + ([panel.guide] if panel.guide else [])
    lo, hi = (0.0, max(*values, 0.1) * 1.08) if panel.share else spread(values)
    epochs = [e for c in curves for e, _ in c.points]
    x = Axis(min(epochs), max(max(epochs), min(epochs) + 1), LEFT, WIDTH - RIGHT)
    y = Axis(lo, min(hi, 1.02) if panel.share else hi, HEIGHT - BOTTOM, TOP)
    drawing = Drawing(WIDTH, HEIGHT)
    whole = sorted({round(t) for t in x.ticks(5)})
    frame(drawing, x, y, "Epoch", x_ticks=[t for t in whole if x.lo <= t <= x.hi])
    if panel.guide:
        drawing.line(x.start, y(panel.guide), x.end, y(panel.guide), "guide")
    for curve in curves:
        style = f"--c:{methods.colour(curve.method)}"
        points = [(x(e), y.clipped(v)) for e, v in curve.points]
        if len(points) > 1:
            drawing.path(points, "curve dashed" if curve.dashed else "curve", style=style)
        else:
            drawing.add("circle", cx=points[0][0], cy=points[0][1], r=3, cls="dot", style=style)
    return drawing.render(_describe(panel, curves), cls="panel-figure")


def _describe(panel: Panel, curves: list[Curve]) -> str:
    split = dict(((name, dashed), split) for name, split, dashed in panel.names)
    ends = [
        f"{short_method(c.method)}, {c.name.replace('_', ' ')}, {split[c.name, c.dashed]}:"
        f" {c.points[0][1]:.3g} at first, {c.points[-1][1]:.3g} at last"
        for c in curves
    ]
    return f"{panel.title} over epochs. {'; '.join(ends)}."
