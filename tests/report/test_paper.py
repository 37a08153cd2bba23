"""ECGs on paper: what is drawn is what was measured, in millimetres."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptacl.report.paper import HEIGHT, LEADS, LEFT, ROW, TOP, WIDTH, ecg_paper, ecg_small

PATH = re.compile(
    r'<path class="trace( off)?" transform="translate\(([\d.]+) ([\d.]+)\) scale\(([\d.]+)\)" d="M0 (-?\d+)l([^"]*)"/>'
    r'<text x="[\d.]+" y="[\d.]+">(\w+)</text>'
)


def drawn(svg: str) -> list[tuple[str, bool, np.ndarray, np.ndarray]]:
    """Every trace: lead, whether usable, x and y of its points in millimetres on the page."""
    found = []
    for off, x, y, scale, first, steps, name in PATH.findall(svg):
        pairs = [tuple(map(int, re.findall(r"[+-]?\d+", s))) for s in steps.split()]
        dx, dy = np.array(pairs).T
        across = float(x) + float(scale) * np.concatenate([[0], np.cumsum(dx)])
        down = float(y) + float(scale) * np.concatenate([[int(first)], int(first) + np.cumsum(dy)])
        found.append((name, not off, across, down))
    return found


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_second_is_25_mm_and_a_millivolt_10_mm(seed: int) -> None:
    strip = np.cumsum(np.random.default_rng(seed).normal(0, 0.02, (12, 5000)), axis=1)
    traces = drawn(ecg_paper(strip, [250.0, 700.0]))
    assert [t[0] for t in traces] == ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "II"]
    for name, usable, across, down in traces[:12]:
        lead = LEADS.index(name)
        sample = np.rint((across - LEFT) / 25 * 500).astype(int)
        assert usable and sample[0] == lead // 3 * 1250 and len(sample) == 625
        base = TOP + lead % 3 * ROW
        assert (base - down) / 10 == pytest.approx(strip[lead, sample], abs=0.0051)
    _, _, across, down = traces[12]
    sample = np.rint((across - LEFT) / 25 * 500).astype(int)
    assert len(sample) == 2500 and (TOP + 3 * ROW - down) / 10 == pytest.approx(strip[1, sample], abs=0.0051)


def test_r_peaks_stand_where_they_are_in_time() -> None:
    svg = ecg_paper(np.zeros((12, 5000)), [500.0, 1250.0])
    places = [float(x) for x in re.findall(r'class="peak" d="M([\d.]+) ', svg)]
    assert places == [LEFT + 25, LEFT + 62.5]
    assert "the 2 R peaks found" in svg


def test_a_lead_that_can_not_be_used_is_pale_and_named_and_the_long_strip_is_one_that_can() -> None:
    mask = [True, False, *[True] * 10]
    traces = drawn(svg := ecg_paper(np.zeros((12, 5000)), [], mask))
    assert [name for name, usable, *_ in traces if not usable] == ["II"]
    assert traces[-1][0] == "I" and "Not usable: II." in svg


def test_the_grid_is_of_whole_millimetres() -> None:
    svg = ecg_paper(np.zeros((12, 5000)), [])
    for look, step in (("mm", 1), ("cm", 5)):
        path = re.search(rf'class="{look}" d="([^"]*)"', svg)[1]
        down = [int(x) for x in re.findall(r"M(\d+) 0v", path)]
        across = [int(y) for y in re.findall(r"M0 (\d+)h", path)]
        assert down == list(range(0, WIDTH + 1, step)) and set(np.diff(across)) == {step}
    assert f'viewBox="0 0 {WIDTH} {HEIGHT}"' in svg


@given(st.integers(0, 4999), st.integers(0, 11))
@settings(max_examples=30, deadline=None)
def test_a_small_picture_loses_no_spike(at: int, lead: int) -> None:
    strip = np.zeros((12, 5000))
    strip[lead, at] = 2.0
    traces = {name: down for name, _, _, down in drawn(ecg_small(strip, [True] * 12))}
    within = lead // 3 * 1250 <= at < lead // 3 * 1250 + 1240
    height = np.ptp(traces[LEADS[lead]])
    assert height == pytest.approx(20.0 if within else 0.0, abs=0.5)
