"""Predicted against measured, one panel per phenotype."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from ptacl.report.load import Row
from ptacl.report.scores import Score
from ptacl.report.svg import Axis, Drawing, frame, spread
from ptacl.report.words import fixed, quantity_label, unit

WIDTH, HEIGHT = 360, 348
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 42


def measured_and_predicted(rows: Sequence[Row], phenotype: str) -> list[tuple[float, float]]:
    """(measured, predicted) of the test subjects for whom both are known."""
    pairs = [(r["truth"], r["prediction"]) for r in rows if r["phenotype"] == phenotype]
    return [(t, p) for t, p in pairs if t is not None and p is not None and math.isfinite(t) and math.isfinite(p)]


def draw_scatter(points: list[tuple[float, float]], phenotype: str, colour: str, score: Score) -> Markup:
    """Both axes on one scale, with the line of identity: a point on it is predicted exactly."""
    lo, hi = spread([v for point in points for v in point])
    x, y = Axis(lo, hi, LEFT, WIDTH - RIGHT), Axis(lo, hi, HEIGHT - BOTTOM, TOP)
    drawing = Drawing(WIDTH, HEIGHT)
    measure = f" ({unit(phenotype)})" if unit(phenotype) else ""
    frame(drawing, x, y, f"Measured on the cine{measure}", y_ticks=x.ticks(5))
    drawing.line(x.start, y.start, x.end, y.end, "guide")
    opacity = f"{min(max(30 / math.sqrt(len(points)) / 4, 0.2), 0.75):.2f}"
    for measured, predicted in points:
        drawing.add(
            "circle", cx=x(measured), cy=y(predicted), r=3, cls="dot", style=f"--c:{colour}", fill_opacity=opacity
        )
    drawing.text(x.start + 8, TOP + 12, f"Predicted from the ECG{measure}", "axis-title")
    return drawing.render(
        f"{quantity_label(phenotype)}, predicted from the ECG against measured, {len(points)} test recordings;"
        f" R² {fixed(score.value)}.",
        cls="panel-figure",
    )
