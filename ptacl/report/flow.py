"""The participant flow as a drawing (CONSORT style)."""

from html import escape
from typing import Any

from ptacl.counts import Exact
from ptacl.report.words import reason

_WIDTH, _BOX, _LINE = 760, 300, 20


def flow_svg(flow: dict[str, Any], counts: Exact) -> str:
    """Boxes from everyone found to usable pairs, with those excluded beside, grouped by stage. The counts add up."""
    excluded: dict[str, int] = flow["excluded"]
    groups: list[tuple[str, dict[str, int]]] = [
        ("In the cohort", {k: n for k, n in excluded.items() if not k.startswith(("ecg_", "cmr_"))}),
        ("By the ECG", {k: n for k, n in excluded.items() if k.startswith("ecg_")}),
        ("By the CMR", {k: n for k, n in excluded.items() if k.startswith("cmr_")}),
    ]
    left, y, parts = flow["subjects"], 10, []
    titles = ["Visits found", "With both recordings", "With a usable ECG", "Usable pairs"]
    for i, title in enumerate(titles):
        parts.append(_box(20, y, _BOX, 52, [title, f"n = {counts.text(left)}"], strong=True))
        if i == len(groups):
            break
        name, reasons = groups[i]
        lines = [f"{name}: {counts.text(sum(reasons.values()))} excluded"]
        ordered = sorted(reasons.items(), key=lambda x: (-x[1], x[0]))
        told = counts.texts([n for _, n in ordered])
        lines += [f"{reason(k)}: {text}" for (k, _), text in zip(ordered, told, strict=True)]
        height = 16 + _LINE * len(lines)
        step = max(height + 24, 90)
        middle = y + 52 + (step - 52) / 2 + 10
        parts.append(_box(380, middle - height / 2, _WIDTH - 400, height, lines))
        parts.append(f'<path d="M170 {y + 52} V{y + step + 18}" class="arrow" marker-end="url(#tip)"/>')
        parts.append(f'<path d="M170 {middle} H376" class="arrow" marker-end="url(#tip)"/>')
        left -= sum(reasons.values())
        y += step + 22
    said = f"Of {counts.text(flow['subjects'])} visits found, {counts.text(flow['pairs'])} are usable pairs;"
    said += f" {counts.text(sum(excluded.values()))} are excluded."
    tip = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" class="tip"/></marker></defs>'
    )
    return (
        f'<svg class="flow" viewBox="0 0 {_WIDTH} {y + 66:.0f}" role="img" aria-label="{escape(said)}">'
        f"<title>{escape(said)}</title>{tip}{''.join(parts)}</svg>"
    )


def _box(x: float, y: float, width: float, height: float, lines: list[str], strong: bool = False) -> str:
    text = "".join(
        f'<text x="{x + 12}" y="{y + 20 + i * _LINE}"{" class=strong" if i == 0 else ""}>{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    kind = "box main" if strong else "box"
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="5" class="{kind}"/>{text}'
