"""Acquisitions of one slice told apart by their trigger times, on frames without pixels."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptacl.cmr.acquisitions import MIN_FRAMES, acquisitions, trusted_triggers
from ptacl.cmr.frame import Frame, Plane

AXES = np.eye(3)


def plane(origin=(0.0, 0.0, 0.0), spacing: float = 1.5) -> Plane:
    return Plane(np.array(origin), AXES[0], AXES[1], (spacing, spacing), 4, 4)


def frame(
    number: int, trigger_ms: float, name: str = "a", taken: str = "", at: Plane | None = None, cycle: int = 0
) -> Frame:
    """A frame without pixels; `name` says whose it is."""
    return Frame(
        series="1", description=name, derived=False, acquisition_time=taken, series_number=1.0, instance=number,
        trigger_ms=trigger_ms, nominal_rr_ms=1000.0, cycle_frames=cycle, plane=at or PLANE, inverted=False,
        load=lambda: np.zeros((4, 4)), has_overlay=lambda: False,
    )  # fmt: skip


PLANE = plane()


NUMBERED = {
    "counted on": lambda i, n: n + i,
    "long before": lambda i, n: i - 2 * n,
    "the same": lambda i, n: i,
    "every second": lambda i, n: 2 * i,
    "backwards": lambda i, n: -i,
}


@settings(max_examples=300, deadline=None)
@given(
    n=st.integers(MIN_FRAMES, 50),
    second=st.floats(0.2, 1),
    rate=st.sampled_from([1.0, 0.97, 0.9, 1.13]),
    numbered=st.sampled_from(list(NUMBERED)),
    known=st.booleans(),
    order=st.randoms(use_true_random=False),
)
def test_two_breath_holds_are_never_mixed(
    n: int, second: float, rate: float, numbered: str, known: bool, order
) -> None:
    rr_ms, many = 1000.0, max(1, round(second * n))
    first = [frame(i, i * rr_ms / n, "a", "0900", cycle=known * n) for i in range(n)]
    again = [frame(NUMBERED[numbered](i, n), i * rate * rr_ms / n, "b", "0912.5", cycle=known * n) for i in range(many)]
    frames = first + again
    order.shuffle(frames)
    found = acquisitions(frames)
    assert sorted(len(a) for a in found) == sorted(m for m in (n, many) if m >= MIN_FRAMES)
    assert sum(a.fragments for a in found) == (many < MIN_FRAMES)
    for a in found:
        assert len({f.description for f in a.frames}) == 1
        assert (np.diff(a.trigger_ms) > 0).all() and a.missing == 0


@pytest.mark.parametrize("numbered", ["counted on", "the same", "every second"])
def test_without_acquisition_times_numbers_and_heart_rate_tell_them_apart(numbered: str) -> None:
    first = [frame(i, 10 + i * 50.0, "a", cycle=20) for i in range(20)]
    again = [frame(NUMBERED[numbered](i, 20), 9.7 + i * 48.5, "b", cycle=20) for i in range(20)]
    found = acquisitions(first + again)
    assert [len({f.description for f in a.frames}) for a in found] == [1, 1]


def test_one_breath_hold_is_one_whatever_its_acquisition_times() -> None:
    for taken in (lambda i: f"1013{i:02d}", lambda i: f"1013{59 - i:02d}", lambda i: f"10130{i // 10}"):
        (found,) = acquisitions([frame(i, i * 50.0, taken=taken(i)) for i in range(20)])
        assert len(found) == 20 and found.fragments == 0


@pytest.mark.parametrize("shift", [0, 3, 10, 19])
@pytest.mark.parametrize("absent", [None, 7])
def test_numbers_may_begin_in_mid_cycle(shift: int, absent: int | None) -> None:
    # Unevenly, so that only the order tells.
    triggers = np.cumsum([10, 50, *[20, 80] * 9])
    frames = [frame((i + shift) % 20, float(t)) for i, t in enumerate(triggers) if i != absent]
    (found,) = acquisitions(frames)
    assert found.trigger_ms.tolist() == sorted(f.trigger_ms for f in frames)


@pytest.mark.parametrize("wrong", [float("nan"), 0.0, 700.0, 99999.0])
@pytest.mark.parametrize("where", [0, 5, 19])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_wrong_trigger_time_does_not_move_its_frame(wrong: float, where: int, backwards: bool) -> None:
    frames = [
        frame(20 - i if backwards else i, wrong if i == where else i * 50.0, str(i), "1013", cycle=20)
        for i in range(20)
    ]
    (found,) = acquisitions(frames)
    assert [f.description for f in found.frames] == [str(i) for i in range(20)]
    np.testing.assert_allclose(found.trigger_ms, np.arange(20) * 50.0)


def test_rounded_trigger_times_keep_every_frame() -> None:
    (found,) = acquisitions([frame(i, 100.0 * round(i * 52.6 / 100), str(i)) for i in range(20)])
    assert [f.description for f in found.frames] == [str(i) for i in range(20)]
    assert found.missing == 0 and found.step_ms == pytest.approx(52.6, rel=0.01)


def test_an_untimed_series_of_two_cycles_is_two() -> None:
    found = acquisitions([frame(i, float("nan"), cycle=20) for i in range(40)])
    assert [[f.instance for f in a.frames] for a in found] == [list(range(20)), list(range(20, 40))]


def test_triggers_that_say_nothing_are_not_trusted() -> None:
    assert np.isnan(trusted_triggers(np.full(20, 600.0))).all()
    assert np.isnan(trusted_triggers(np.array([0.0] * 19 + [900.0]))).all()
    assert np.isnan(trusted_triggers(np.array([np.nan] * 12 + list(range(8))))).all()
    assert np.isfinite(trusted_triggers(400 + 50.0 * np.arange(20))).all()


def test_images_at_one_corner_of_other_spacing_or_orientation_are_other_slices() -> None:
    tilted = Plane(PLANE.origin_mm, AXES[0], np.array([0, 0.94, 0.34]), PLANE.spacing_mm, 4, 4)
    frames = [
        frame(i + 20 * k, i * 50.0, str(k), at=p)
        for k, p in enumerate([PLANE, plane(spacing=1.3), tilted])
        for i in range(20)
    ]
    assert [{f.description for f in a.frames} for a in acquisitions(frames)] == [{"0"}, {"1"}, {"2"}]


def test_thousands_of_places_take_no_more_than_their_number() -> None:
    frames = [frame(i, 0.0, at=plane((i % 90, i // 90, 0.0))) for i in range(9000)]
    start = time.process_time()
    assert acquisitions(frames) == []
    assert time.process_time() - start < 30  # pairwise: minutes


@pytest.mark.parametrize("times", [1, 900, 3000])
def test_thousands_of_images_at_one_place_take_seconds(times: int) -> None:
    rng = np.random.default_rng(0)
    frames = [
        frame(int(n), t, taken=str(i % times))
        for i, (n, t) in enumerate(zip(rng.integers(0, 400, 6000), rng.uniform(0, 1000, 6000), strict=True))
    ]
    frames[::3] = [frame(i, float("nan"), taken=str(i % times)) for i in range(2000)]
    start = time.process_time()
    acquisitions(frames)
    assert time.process_time() - start < 60
