"""Cardiac phase of ECG slots and cine frames against numbers by hand, and pooling into phase bins."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptacl.ecg.phase import phase_of
from ptacl.model import phase
from ptacl.training.augment import crop
from tests.model.timings import steady, timing

CENTRES = 50 * (np.arange(50) + 0.5)  # of the slots, in samples of the crop: 25, 75, ..


def slot_phases(*r_peaks: float, warp: str = "linear", **known: float) -> dict[int, float]:
    """Phase of every slot of one patient that lies in a complete beat."""
    found, inside = phase.ecg_slot_phase(timing(r_peaks, **known), warp)
    assert found.shape == inside.shape == (1, 50)
    assert found[~inside].eq(0).all()
    return {s: found[0, s].item() for s in inside[0].nonzero()[:, 0].tolist()}


# ECG slots.


def test_a_slot_between_two_r_peaks_has_its_share_of_the_interval() -> None:
    """R peaks at 100 and 600: slot 2 has its centre at 125, slot 11 at 575."""
    found = slot_phases(100, 600)
    assert list(found) == list(range(2, 12))
    assert found == pytest.approx({s: (25 + 50 * s - 100) / 500 for s in range(2, 12)})
    assert found[2] == pytest.approx(0.05) and found[11] == pytest.approx(0.95)


def test_a_crop_may_start_and_end_within_a_beat_whose_r_peaks_lie_outside() -> None:
    found = slot_phases(*range(-300, 3000, 500))
    assert len(found) == 50
    assert found[0] == pytest.approx(325 / 500)
    assert found[4] == pytest.approx(25 / 500)
    assert found[49] == pytest.approx((2475 - 2200) / 500)


def test_before_the_first_and_after_the_last_r_peak_there_is_no_phase() -> None:
    assert list(slot_phases(400, 900, 1400)) == list(range(8, 28))


def test_a_slot_whose_centre_is_an_r_peak_begins_the_next_beat() -> None:
    found = slot_phases(25, 525, 1025)
    assert found[0] == 0 and found[10] == 0 and 20 not in found


def test_a_premature_beat_and_its_pause_are_masked_and_its_neighbours_are_not() -> None:
    """RR of 400, but 250 and 550 around the ectopic beat at 1050."""
    found = slot_phases(0, 400, 800, 1050, 1600, 2000, 2400)
    masked = {s for s in range(50) if 800 <= CENTRES[s] < 1600}
    assert set(found) == {s for s in range(48) if s not in masked}
    assert found[32] == pytest.approx(25 / 400)


@pytest.mark.parametrize(("rr", "kept"), [(480, True), (481, False), (320, True), (319, False)])
def test_a_beat_is_masked_from_20_percent_off_the_median(rr: float, kept: bool) -> None:
    peaks = [0, 400, 800, 1200, 1200 + rr]
    assert (25 in slot_phases(*peaks)) is kept  # slot 25 has its centre at 1275


@pytest.mark.parametrize("r_peaks", [(), (700,)])
def test_without_two_r_peaks_there_is_no_phase_and_no_nan(r_peaks: tuple[float, ...]) -> None:
    for warp in ("linear", "systole"):
        assert slot_phases(*r_peaks, warp=warp, t_end=200, es_phase=0.3) == {}


def test_patients_of_a_batch_do_not_meet() -> None:
    found, inside = phase.ecg_slot_phase(timing((100, 600), (), (25, 425, 825)))
    assert inside.sum(1).tolist() == [10, 0, 16]
    assert found[0, 2].item() == pytest.approx(0.05) and found[2, 4].item() == pytest.approx(0.5)


RR_INTERVALS = st.lists(st.floats(150, 900), min_size=0, max_size=20)


@given(first=st.floats(-900, 900), rr=RR_INTERVALS)
def test_slots_have_the_phase_that_the_ecg_package_gives_their_centres(first: float, rr: list[float]) -> None:
    peaks = np.cumsum([first, *rr])
    expected = phase_of(CENTRES, peaks)
    found, inside = phase.ecg_slot_phase(timing(peaks.tolist()))
    assert np.array_equal(inside[0].numpy(), np.isfinite(expected))
    np.testing.assert_allclose(found[0].numpy()[inside[0]], expected[np.isfinite(expected)], atol=1e-9)


@given(start=st.integers(0, 2200), stretch=st.floats(0.9, 1.1), first=st.floats(0, 400), rr=st.floats(250, 700))
def test_a_resampled_crop_keeps_the_phase_of_what_its_slots_show(
    start: int, stretch: float, first: float, rr: float
) -> None:
    """The slot's centre c shows sample start + stretch c of the strip, whose phase is known there."""
    strip_peaks = np.arange(first, 5000, rr)
    strip = torch.zeros(1, 12, 5000, dtype=torch.int16)
    whole = timing(strip_peaks.tolist(), t_end=0.4 * rr)
    _, cropped = crop(strip, whole, torch.tensor([start]), 1.0, torch.tensor([stretch], dtype=torch.float64))
    found, inside = phase.ecg_slot_phase(cropped)
    expected = phase_of(start + stretch * CENTRES, strip_peaks)
    # Where a centre lies on an R peak, rounding decides about the beat.
    clear = inside[0].numpy() & np.isfinite(expected)
    assert clear.sum() >= np.isfinite(expected).sum() - 2
    apart = np.abs(found[0].numpy()[clear] - expected[clear])
    assert np.minimum(apart, 1 - apart).max(initial=0) < 1e-9
    peaks = cropped.r_peaks[0]
    assert (cropped.t_end / (peaks[1] - peaks[0])).item() == pytest.approx(0.4)


@pytest.mark.parametrize("stretch", [0.9, 1.0, 1.1])
def test_r_peaks_of_a_resampled_crop_lie_where_the_spikes_are(stretch: float) -> None:
    strip = torch.zeros(1, 12, 5000, dtype=torch.int16)
    peaks = torch.arange(150.0, 5000, 410)
    strip[:, :, peaks.long()] = 1000
    start = torch.tensor([777])
    x, cropped = crop(strip, timing(peaks.tolist()), start, 5.0, torch.tensor([stretch], dtype=torch.float64))
    inside = [p for p in cropped.r_peaks[0].tolist() if 10 < p < 2490]
    assert len(inside) >= 5
    for p in inside:
        around = x[0, 0, round(p) - 10 : round(p) + 11]
        assert around.max() > 0.4 and abs(round(p) - 10 + around.argmax().item() - p) <= 1


# The systole warp.


def test_the_end_of_the_t_wave_comes_to_lie_at_end_systole() -> None:
    """RR 500, T end 200 after R: phase 0.4 becomes 0.3; the rest is linear on both sides of it."""
    found = slot_phases(25, 525, warp="systole", t_end=200, es_phase=0.3)
    by_hand = [0, 0.075, 0.15, 0.225, 0.3, 0.416667, 0.533333, 0.65, 0.766667, 0.883333]
    assert list(found.values()) == pytest.approx(by_hand, abs=1e-6)


def test_the_t_end_is_a_time_and_so_another_phase_in_a_longer_beat() -> None:
    """RR 500 and 600: the T end lies at 0.4 and at 1/3, and both become 0.3."""
    found = slot_phases(25, 525, 1125, warp="systole", t_end=200, es_phase=0.3)
    assert found[4] == pytest.approx(0.3) and found[14] == pytest.approx(0.3)
    assert found[2] == pytest.approx(0.15) and found[12] == pytest.approx(0.15)
    assert found[7] == pytest.approx(1 - 0.3 * 0.7 / 0.6)
    assert found[18] == pytest.approx(1 - (1 - 2 / 3) * 0.7 / (1 - 1 / 3))


@pytest.mark.parametrize(
    ("t_end", "es_phase"),
    [(math.nan, 0.3), (200, math.nan), (math.nan, math.nan), (0, 0.3), (-50, 0.3), (500, 0.3), (700, 0.3), (200, 0.0),
     (200, 1.0), (200, -0.2)],
)  # fmt: skip
def test_an_unknown_or_absurd_systole_leaves_the_phase_linear(t_end: float, es_phase: float) -> None:
    linear = slot_phases(25, 525)
    assert slot_phases(25, 525, warp="systole", t_end=t_end, es_phase=es_phase) == linear


def test_only_the_patients_with_a_known_systole_are_warped() -> None:
    both = timing((25, 525), (25, 525), t_end=[200, math.nan], es_phase=0.3)
    found, _ = phase.ecg_slot_phase(both, "systole")
    assert found[0, 2].item() == pytest.approx(0.15) and found[1, 2].item() == pytest.approx(0.2)


def test_systole_is_known_with_a_t_end_and_an_end_systolic_phase_within_the_cycle() -> None:
    some = timing(*[(25, 525)] * 5, t_end=[200, math.nan, 200, 200, 200], es_phase=[0.3, 0.3, math.nan, 0.0, 1.0])
    assert phase.systole_known(some).tolist() == [True, False, False, False, False]


@given(t_end=st.floats(20, 480), es_phase=st.floats(0.01, 0.99))
def test_the_warp_keeps_the_order_of_time_and_both_ends_of_the_beat(t_end: float, es_phase: float) -> None:
    found = np.array(list(slot_phases(25, 525, warp="systole", t_end=t_end, es_phase=es_phase).values()))
    assert found[0] == 0 and (np.diff(found) > 0).all() and found[-1] < 1


# Frames.


@pytest.mark.parametrize(("frames", "tubelet"), [(20, 2), (30, 3), (50, 5), (50, 1)])
def test_a_slot_of_the_cine_has_the_mean_phase_of_its_frames(frames: int, tubelet: int) -> None:
    found = phase.cmr_slot_phase(torch.zeros(1, dtype=torch.float64), frames, tubelet)[0]
    of_frames = [t / frames for t in range(frames)]
    by_hand = [sum(of_frames[i : i + tubelet]) / tubelet for i in range(0, frames, tubelet)]
    assert found.tolist() == pytest.approx(by_hand)


def test_the_phase_of_the_first_frame_shifts_all_slots_around_the_cycle() -> None:
    found = phase.cmr_slot_phase(torch.tensor([0.0, 0.025, 0.9], dtype=torch.float64), 20, 2)
    assert found[0].tolist() == pytest.approx([0.025 + 0.1 * s for s in range(10)])
    assert found[1].tolist() == pytest.approx([0.05 + 0.1 * s for s in range(10)])
    assert found[2].tolist() == pytest.approx([0.925, *[0.025 + 0.1 * s for s in range(9)]])


# Bins.


def test_bins_are_circular_and_peak_at_their_centres() -> None:
    w = phase.bin_weights(torch.tensor([[0.05, 0.95, 0.5, 1.05]], dtype=torch.float64), 10, 20.0)[0]
    assert w.shape == (10, 4)
    assert w[0, 0] == pytest.approx(1) and w[9, 1] == pytest.approx(1)
    assert w[0, 1].item() == pytest.approx(w[1, 0].item())  # 0.95 is as near to bin 0 as 0.05 is to bin 1
    assert w[4, 2].item() == pytest.approx(w[5, 2].item())
    torch.testing.assert_close(w[:, 3], w[:, 0])


def test_weights_fall_with_the_cosine_of_the_distance() -> None:
    """At a distance of a tenth of the cycle, exp(20 (cos 36 degrees - 1))."""
    w = phase.bin_weights(torch.tensor([[0.15]], dtype=torch.float64), 10, 20.0)[0, :, 0]
    assert w[1].item() == pytest.approx(1) and w[6].item() == pytest.approx(math.exp(-40))
    assert w[0].item() == pytest.approx(math.exp(20 * (math.cos(math.radians(36)) - 1)))
    assert w[0].item() == pytest.approx(w[2].item())


def test_masked_slots_have_no_weight() -> None:
    at = torch.full((1, 3), 0.25, dtype=torch.float64)
    w = phase.bin_weights(at, 10, 20.0, torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64))
    assert w[0, :, 1].eq(0).all() and w[0, 2, [0, 2]].tolist() == pytest.approx([1, 1])


@given(slots=st.integers(1, 60), bins=st.integers(1, 60))
def test_index_weights_cut_the_recording_into_equal_parts_in_order(slots: int, bins: int) -> None:
    """Every slot lies in one part; parts differ by one slot at most, whatever the numbers."""
    w = phase.index_weights(slots, bins, torch.zeros(1))
    assert w.shape == (1, bins, slots) and w.sum(1).eq(1).all()
    part = w[0].argmax(0)
    assert part[0] == 0 and (part.diff() >= 0).all()
    sizes = w[0].sum(1)
    assert sizes.max() - sizes.min() <= 1


def test_the_kth_part_of_50_slots_meets_the_kth_of_10_groups_of_frames() -> None:
    ecg, cine = (phase.index_weights(n, 10, torch.zeros(1))[0] for n in (50, 10))
    assert torch.equal(cine, torch.eye(10))
    assert torch.equal(ecg, torch.eye(10).repeat_interleave(5, dim=1))


def test_pooling_is_the_weighted_mean_of_the_slots_and_zero_without_weight() -> None:
    slots = torch.randn(2, 4, 3, dtype=torch.float64)
    weights = torch.rand(2, 5, 4, dtype=torch.float64)
    weights[0, 1], weights[1, 2] = 0.05 * weights[0, 1], 0
    found = phase.pool(slots, weights)
    for b in range(2):
        for k in range(5):
            total = weights[b, k].sum().item()
            mean = sum(weights[b, k, s] * slots[b, s] for s in range(4)) / total if total else torch.zeros(3).double()
            torch.testing.assert_close(found[b, k], mean)


def test_a_patient_needs_weight_in_every_bin() -> None:
    weights = torch.full((3, 4, 2), 0.05)
    weights[1, 3] = 0.04
    weights[2, 0] = torch.tensor([0.0, 5.0])
    assert phase.enough_weight(weights).tolist() == [True, False, True]


def test_a_slow_heart_fills_every_bin_and_half_a_beat_does_not() -> None:
    """At 30 bpm the crop holds two and a half beats; R peaks 200 samples apart hold four slots only."""
    found, inside = phase.ecg_slot_phase(timing(steady(1000), (0, 200)))
    weights = phase.bin_weights(found, 10, 20.0, inside.to(found.dtype))
    assert phase.enough_weight(weights).tolist() == [True, False]
