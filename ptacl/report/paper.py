"""ECGs as clinicians know them: on millimetre paper, and small."""

from collections.abc import Sequence
from html import escape

import numpy as np

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
MV_PER_COUNT = 0.005
RATE, SECONDS = 500, 10
MM_PER_S, MM_PER_MV = 25, 10
# Millimetres: left of the strips for the calibration pulse, between rows, and above the first.
LEFT, ROW, TOP = 10, 26, 22
WIDTH, HEIGHT = LEFT + SECONDS * MM_PER_S, TOP + 3 * ROW + 15
# Columns of 2.5 s with three leads below each other.
COLUMNS, PART = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)), 1250
SMALL_ROW, SMALL_BIN = 18, 20


def ecg_paper(strip_mv: np.ndarray, r_peaks: Sequence[float], lead_mask: Sequence[bool] | None = None) -> str:
    """Twelve leads, 25 mm/s and 10 mm/mV: three rows of four leads and one lead in full below, R peaks under it, as SVG.

    strip_mv: float [12, 5000] in mV at 500 Hz. r_peaks: sample numbers. lead_mask: False where a lead can't be used: it is
    drawn pale. One unit of the SVG is a millimetre of the paper. A `playhead` waits off the paper for a script to move it.
    """
    usable = list(lead_mask) if lead_mask is not None else [True] * 12
    parts = [f'<path class="mm" d="{_grid(1)}"/><path class="cm" d="{_grid(5)}"/>']
    for column, leads in enumerate(COLUMNS):
        for row, lead in enumerate(leads):
            mv = strip_mv[lead, column * PART : (column + 1) * PART : 2]
            parts.append(_lead(LEFT + column * PART / RATE * MM_PER_S, TOP + row * ROW, mv, lead, usable[lead]))
    # Lead II, as on a clinical print, or the first that can be used.
    long = next((lead for lead in (1, *range(12)) if usable[lead]), 1)
    base = TOP + 3 * ROW
    parts.append(_lead(LEFT, base, strip_mv[long, ::2], long, usable[long]))
    parts += [f'<path class="pulse" d="M2 {TOP + r * ROW}v-{MM_PER_MV}h5v{MM_PER_MV}"/>' for r in range(4)]
    parts += [f'<path class="peak" d="M{LEFT + p / RATE * MM_PER_S:.1f} {HEIGHT - 4}l-1.2 2.2h2.4z"/>' for p in r_peaks]
    parts.append(f'<text class="scale" x="2" y="5">{MM_PER_S} mm/s · {MM_PER_MV} mm/mV</text>')
    parts.append(f'<line class="playhead" x1="-5" x2="-5" y1="0" y2="{HEIGHT}"/>')
    off = [LEADS[i] for i in range(12) if not usable[i]]
    said = f"Twelve-lead ECG on paper, 25 mm per second and 10 mm per millivolt, with the {len(r_peaks)} R peaks found."
    said += f" Not usable: {', '.join(off)}." if off else ""
    return _svg("ecg", WIDTH, HEIGHT, said, "".join(parts))


def ecg_small(strip_mv: np.ndarray, lead_mask: Sequence[bool]) -> str:
    """The same three rows of four leads, small, as SVG: of every 40 ms the lowest and the highest value."""
    parts = []
    for column, leads in enumerate(COLUMNS):
        x = column * PART / RATE * MM_PER_S
        for row, lead in enumerate(leads):
            mv = strip_mv[lead, column * PART : (column + 1) * PART]
            bins = mv[: len(mv) // SMALL_BIN * SMALL_BIN].reshape(-1, SMALL_BIN)
            ends = np.sort(np.stack([bins.argmin(1), bins.argmax(1)], axis=1), axis=1)
            points = np.take_along_axis(bins, ends, axis=1).ravel()
            scale = MM_PER_S * SMALL_BIN / RATE / 2
            y = 14 + row * SMALL_ROW
            look = "trace" if lead_mask[lead] else "trace off"
            parts.append(
                f'<path class="{look}" transform="translate({x:g} {y}) scale({scale:g})" d="{_curve(points, scale)}"/>'
                f'<text x="{x + 1:g}" y="{y - 8}">{LEADS[lead]}</text>'
            )
    off = [LEADS[i] for i in range(12) if not lead_mask[i]]
    said = "Twelve-lead ECG, small." + (f" Not usable: {', '.join(off)}." if off else "")
    return _svg("ecg small", SECONDS * MM_PER_S, 14 + 2 * SMALL_ROW + 10, said, "".join(parts))


def _lead(x: float, y: float, mv: np.ndarray, lead: int, usable: bool) -> str:
    """A stretch of a lead at half the sampling rate, its name above the beginning."""
    look, scale = ("trace" if usable else "trace off"), 2 * MM_PER_S / RATE
    return (
        f'<path class="{look}" transform="translate({x:g} {y}) scale({scale:g})" d="{_curve(mv, scale)}"/>'
        f'<text x="{x + 1.5:g}" y="{y - 9.5:g}">{LEADS[lead]}</text>'
    )


def _curve(mv: np.ndarray, unit_mm: float) -> str:
    """A path through values one unit apart, in whole units."""
    y = np.rint(-np.asarray(mv, float) * MM_PER_MV / unit_mm).astype(int)
    return f"M0 {y[0]}l" + " ".join(f"1{d:+d}" for d in np.diff(y).tolist())


def _grid(step: int) -> str:
    across = (f"M{x} 0v{HEIGHT}" for x in range(0, WIDTH + 1, step))
    return "".join([*across, *(f"M0 {y}h{WIDTH}" for y in range(HEIGHT % 5, HEIGHT + 1, step))])


def _svg(look: str, width: int, height: int, said: str, body: str) -> str:
    return (
        f'<svg class="{look}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}"'
        f' xmlns="http://www.w3.org/2000/svg">{body}</svg>'
    )
