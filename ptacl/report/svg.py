"""A small drawing surface: inline SVG that takes its colours and fonts from the page's style sheet.

Figures drawn this way follow light and dark mode, hold their text as text, and are the same bytes on every machine.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate with at most two decimals."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


@dataclass(frozen=True)
class Axis:
    """A linear map from data [lo, hi] to pixels [start, end]."""

    lo: float
    hi: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.lo) / (self.hi - self.lo) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """The pixel of `value`, at the axis' end where it lies beyond."""
        return self(min(max(value, self.lo), self.hi))

    def ticks(self, about: int = 5) -> list[float]:
        """Round values inside the axis, about that many."""
        step = nice_step((self.hi - self.lo) / max(about, 1))
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


def nice_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10 times a power of ten that is at least `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))


def spread(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """Lowest and highest value with a margin; never of width 0."""
    known = [v for v in values if math.isfinite(v)]
    lo, hi = (min(known), max(known)) if known else (0.0, 1.0)
    width = (hi - lo) or max(abs(hi), 1.0) * 0.1
    return lo - margin * width, hi + margin * width


def tick_label(value: float) -> str:
    """A tick's value without needless digits, with a true minus sign."""
    return f"{value:.4g}".replace("-", "−")


class Drawing:
    """Collects SVG elements; `render` closes them into one image with a text alternative."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def add(self, tag: str, content: str | None = None, **attributes: str | float) -> None:
        """One element. Attribute names: `cls` is class, an underscore is a hyphen. `content` is escaped."""
        named = "".join(
            f' {"class" if k == "cls" else k.replace("_", "-")}="{escape(v if isinstance(v, str) else number(v))}"'
            for k, v in attributes.items()
        )
        self._parts.append(f"<{tag}{named}/>" if content is None else f"<{tag}{named}>{escape(content)}</{tag}>")

    def line(self, x1: float, y1: float, x2: float, y2: float, cls: str = "axis", **more: str | float) -> None:
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, cls=cls, **more)

    def text(self, x: float, y: float, content: str, cls: str = "", **more: str | float) -> None:
        self.add("text", content, x=x, y=y, cls=cls, **more)

    def path(self, points: Sequence[Point], cls: str = "curve", **more: str | float) -> None:
        """A line through `points`."""
        d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
        self.add("path", d=d, cls=cls, **more)

    def render(self, label: str, cls: str = "") -> Markup:
        """The image as markup; `label` says in words what it shows."""
        return Markup(
            '<svg viewBox="0 0 {} {}" role="img" class="{}" aria-label="{}">{}</svg>'
        ).format(number(self.width), number(self.height), cls, label, Markup("".join(self._parts)))


def frame(
    drawing: Drawing, x: Axis, y: Axis, x_title: str, y_ticks: Sequence[float] | None = None,
    x_ticks: Sequence[float] | None = None,
) -> None:  # fmt: skip
    """Grid lines, tick labels and the title of the x axis."""
    for value in y.ticks(4) if y_ticks is None else y_ticks:
        drawing.line(x.start, y(value), x.end, y(value), "grid")
        drawing.text(x.start - 6, y(value) + 4, tick_label(value), "tick end")
    for value in x.ticks(5) if x_ticks is None else x_ticks:
        drawing.line(x(value), y.start, x(value), y.start + 4)
        drawing.text(x(value), y.start + 16, tick_label(value), "tick middle")
    drawing.line(x.start, y.start, x.end, y.start)
    drawing.text((x.start + x.end) / 2, y.start + 32, x_title, "axis-title middle")
