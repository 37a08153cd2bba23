"""Forest plots: one panel per phenotype, one row per method, point and 95 % interval."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from ptacl.report.scores import Score, Scores
from ptacl.report.svg import Axis, Drawing, tick_label
from ptacl.report.words import Methods, fixed, interval, short_method, with_unit

WIDTH, LABEL, NUMBER, ROW = 380, 128, 40, 18
TOP, BOTTOM = 16, 36


@dataclass(frozen=True)
class Mark:
    """One row of a forest plot. `shape`: dot (learned), ring (reference) or diamond (upper reference)."""

    label: str
    score: Score
    colour: str
    shape: str
    group: int


def forest_axis(scores: list[Score]) -> tuple[float, float]:
    """Common range of R² for all panels: holds every point, and intervals down to -0.3."""
    bounds = [b for s in scores if s.value is not None for b in (s.value, s.lo, s.hi) if b is not None and math.isfinite(b)]
    lo = min([0.0, *bounds])
    return max(math.floor(lo * 10) / 10, -0.3), max(math.ceil(max([0.2, *bounds]) * 10) / 10, 0.2)


def phenotype_marks(scores: Scores, methods: Methods, phenotype: str) -> list[Mark]:
    """The rows of one phenotype's panel. Chance is the axis' zero line, not a row."""
    marks = []
    for group, (names, shape) in enumerate(
        [([m for m in methods.references if m != "chance"], "ring"), (methods.trained, "dot"), (methods.upper, "diamond")]
    ):
        for method in names:
            score = scores.probe(method, phenotype)
            if score.value is not None:
                marks.append(Mark(short_method(method), score, methods.colour(method), shape, group))
    return marks


def draw_forest(
    title: str, marks: list[Mark], limits: tuple[float, float], axis_title: str, zero: str, quantity: str = "R²"
) -> Markup:
    """One panel; intervals that leave the axis end in an arrow. `zero` names the line at 0."""
    gaps = sum(b.group != a.group for a, b in zip(marks, marks[1:], strict=False))
    height = TOP + ROW * len(marks) + 8 * gaps + BOTTOM
    drawing = Drawing(WIDTH, height)
    x = Axis(*limits, LABEL, WIDTH - NUMBER)
    bottom = height - BOTTOM
    ticks = x.ticks(5)
    for value in ticks:
        if abs(value) > 1e-9:
            drawing.line(x(value), TOP - 4, x(value), bottom, "grid")
        drawing.text(x(value), bottom + 15, tick_label(value), "tick middle")
    if limits[0] <= 0 <= limits[1]:
        drawing.line(x(0), TOP - 4, x(0), bottom, "zero")
        drawing.text(x(0), TOP - 7, zero, "tick middle")
    drawing.line(x.start, bottom, x.end, bottom)
    drawing.text((x.start + x.end) / 2, bottom + 30, axis_title, "axis-title middle")
    y, group = TOP + ROW / 2, marks[0].group if marks else 0
    for mark in marks:
        y, group = y + (8 if mark.group != group else 0), mark.group
        _row(drawing, x, y, mark)
        y += ROW
    said = "; ".join(f"{m.label} {_words(m.score)}" for m in marks)
    return drawing.render(f"{title}: {quantity} by row. {said}.", cls="panel-figure")


def describe_panel(phenotype: str) -> str:
    return with_unit(phenotype)


def _words(score: Score) -> str:
    bounds = interval(score.lo, score.hi)
    return f"{fixed(score.value)} ({bounds})" if bounds else fixed(score.value)


def _row(drawing: Drawing, x: Axis, y: float, mark: Mark) -> None:
    value, lo, hi = mark.score.value, mark.score.lo, mark.score.hi
    style = f"--c:{mark.colour}"
    assert value is not None
    drawing.text(LABEL - 10, y + 4, mark.label, "row-label end")
    if lo is not None and hi is not None and hi >= x.lo and lo <= x.hi:
        drawing.line(x.clipped(lo), y, x.clipped(hi), y, "whisker", style=style)
        if lo < x.lo:
            drawing.add("path", d=f"M{x.start + 6:.1f} {y - 4:.1f}l-6 4l6 4", cls="whisker", style=style)
        if hi > x.hi:
            drawing.add("path", d=f"M{x.end - 6:.1f} {y - 4:.1f}l6 4l-6 4", cls="whisker", style=style)
    if x.lo <= value <= x.hi:
        if mark.shape == "diamond":
            cx = x(value)
            drawing.add("path", d=f"M{cx:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z", cls="ring", style=style)
        else:
            drawing.add("circle", cx=x(value), cy=y, r=4, cls=mark.shape, style=style)
    drawing.text(WIDTH - 2, y + 4, fixed(value), "row-value end")
