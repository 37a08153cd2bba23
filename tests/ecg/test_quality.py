"""Gaps, amplitude and the limb leads' identities, each within its limits."""

import numpy as np
import pytest

from ptacl.ecg.gaps import fill_gaps, longest_run, without_spikes
from ptacl.ecg.quality import check_amplitude, complete_leads, limb_residual_mv
from ptacl.ecg.record import LIMB_FROM_I_II, derive_limb_leads, whole_beat
from ptacl.errors import UnreadableEcg, UnusableEcg
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import simulate_trace

STRIP = (simulate_trace(draw_subject(2026, 3), np.random.default_rng(1)).counts * 0.005).astype(np.float32)
ALL = np.ones(12, bool)


def without(*leads: int) -> np.ndarray:
    return ~np.isin(np.arange(12), leads)


@pytest.mark.parametrize(
    ("blank", "refused"),
    [([(0, 0, 100)], False), ([(0, 0, 101)], True), ([(0, k, k + 50) for k in range(0, 1250, 250)], False),
     ([(0, k, k + 50) for k in range(0, 1500, 250)], True), ([(k, 9, 59) for k in range(12)], False),
     ([(k, 9, 70) for k in range(12)], True)],
)  # fmt: skip
def test_gaps_are_filled_up_to_one_percent_of_all_five_of_a_lead_and_200_ms(blank, refused: bool) -> None:
    strip = STRIP.copy()
    for lead, start, stop in blank:
        strip[lead, start:stop] = np.nan
    if refused:
        with pytest.raises(UnusableEcg, match="bad_values"):
            fill_gaps(strip, 500)
    else:
        filled, any_gap = fill_gaps(strip, 500)
        assert any_gap and np.isfinite(filled).all()
        np.testing.assert_array_equal(filled[np.isfinite(strip)], strip[np.isfinite(strip)])


def test_a_lead_without_a_value_is_refused() -> None:
    with pytest.raises(UnusableEcg, match="bad_values"):
        fill_gaps(np.full((1, 5000), np.nan), 500)


@pytest.mark.parametrize(("text", "length"), [("", 0), ("000", 0), ("1", 1), ("0110111", 3), ("11101", 3)])
def test_the_longest_run(text: str, length: int) -> None:
    assert longest_run(np.array([c == "1" for c in text], bool)) == length


def test_a_spike_is_missing_and_the_rest_stays() -> None:
    strip = STRIP + 20  # an offset is no spike
    strip[6, 300], strip[7, 400:403] = 60, -32
    found = without_spikes(strip)
    assert np.argwhere(np.isnan(found)).tolist() == [[6, 300], [7, 400], [7, 401], [7, 402]]
    np.testing.assert_array_equal(found[np.isfinite(found)], strip[np.isfinite(found)])


@pytest.mark.parametrize(
    ("gain", "refused"), [(1000, True), (100, True), (8, False), (1, False), (0.3, False), (0.03, True), (0.001, True)]
)
def test_a_wrong_unit_is_told_by_the_amplitude(gain: float, refused: bool) -> None:
    strip = without_spikes(STRIP * gain)
    if refused:
        with pytest.raises(UnusableEcg, match="bad_amplitude"):
            check_amplitude(strip)
    else:
        check_amplitude(strip)


@pytest.mark.parametrize("absent", [(), (0,), (1,), (0, 1), (0, 2, 4), (1, 3, 5)])
def test_any_three_limb_leads_are_held_against_each_other(absent: tuple[int, ...]) -> None:
    usable = without(*absent)
    assert limb_residual_mv(STRIP, usable) < 0.006
    for lead in np.flatnonzero(usable[:6]):
        other = STRIP.copy()
        other[lead] = -other[lead]
        assert limb_residual_mv(other, usable) > 0.1
        other[lead] = STRIP[8]
        assert limb_residual_mv(other, usable) > 0.1


def test_with_lead_i_and_ii_the_residual_is_that_of_einthovens_and_goldbergers_identities() -> None:
    strip = STRIP.copy()
    strip[3] += 0.05 * np.sin(np.arange(5000))
    missed = strip[:6] - LIMB_FROM_I_II.astype(np.float32) @ strip[:2]
    missed -= np.median(missed, axis=1, keepdims=True)
    assert limb_residual_mv(strip, ALL) == pytest.approx(np.percentile(np.abs(missed), 99, axis=1).max(), abs=1e-6)


def test_two_limb_leads_prove_nothing() -> None:
    assert np.isnan(limb_residual_mv(STRIP, without(2, 3, 4, 5)))


def test_a_constant_offset_of_a_lead_does_not_count() -> None:
    offset = STRIP + np.arange(12, dtype=np.float32)[:, None]
    assert limb_residual_mv(offset, ALL) == pytest.approx(limb_residual_mv(STRIP, ALL), abs=1e-5)


def test_absent_leads_are_derived_from_live_ones_only() -> None:
    strip = STRIP.copy()
    strip[0], strip[1] = np.nan, 0
    whole, flat, flags = complete_leads(strip, without(0))
    assert np.abs(whole[0] - STRIP[0]).max() < 0.01 and flags == {"leads_derived"}
    assert np.flatnonzero(flat).tolist() == [1]
    with pytest.raises(UnusableEcg, match="missing_leads"):
        complete_leads(strip, without(0, 2, 3, 4))


def test_a_flat_lead_that_is_there_is_kept() -> None:
    strip = STRIP.copy()
    strip[3] = 0
    whole, flat, flags = complete_leads(strip, ALL)
    assert np.array_equal(whole, strip) and np.flatnonzero(flat).tolist() == [3] and flags == set()


def test_every_two_limb_leads_give_the_others() -> None:
    for one in range(6):
        for two in range(one):
            whole, there = derive_limb_leads(STRIP, ~without(one, two), ~without(one, two))
            assert there[:6].all() and np.abs(whole[:6] - STRIP[:6]).max() < 0.02


@pytest.mark.parametrize(
    "change",
    [lambda b: b.pop("V3"), lambda b: b.update(V3=b["V3"][:300]), lambda b: [b.update({k: 0 * v}) for k, v in [*b.items()]],
     lambda b: b["V3"].__setitem__(7, np.nan), lambda b: [b.update({k: v[:200]}) for k, v in [*b.items()]],
     lambda b: [b.pop(k) for k in ("II", "III", "aVR", "aVL", "aVF")], lambda b: b.clear()],
)  # fmt: skip
def test_a_median_beat_that_is_not_whole_is_refused(change) -> None:
    from ptacl.ecg import LEADS

    beat = {name: STRIP[i, 500:1100].copy() for i, name in enumerate(LEADS)}
    np.testing.assert_array_equal(whole_beat(beat, 500), STRIP[:, 500:1100])
    change(beat)
    with pytest.raises(UnreadableEcg, match="no_median_beat"):
        whole_beat(beat, 500)
