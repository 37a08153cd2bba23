"""The synthetic heart: timing, exact volumes, and that it fits into its window."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptacl.synthetic.cine import Window, lv_offset_mm, pericardium_mm
from ptacl.synthetic.heart import THETA, Heart, build_heart, label_areas
from ptacl.synthetic.latents import Subject, draw_subject
from ptacl.synthetic.presets import PRESETS
from ptacl.synthetic.timing import filling, timing

SIZES = sorted(PRESETS)


def _heart(index: int, size: str, subject: Subject | None = None) -> Heart:
    return build_heart(subject or draw_subject(7, index), np.random.default_rng([7, index]), PRESETS[size])


def _volumes(heart: Heart, size: str) -> dict[str, np.ndarray]:
    """Disc summation of every label over the stored slices with the headers' spacing, ml [T]."""
    return {name: area.sum(0) * PRESETS[size].step_mm / 1000 for name, area in label_areas(heart).items()}


@pytest.mark.parametrize("size", SIZES)
def test_disc_summation_over_the_stored_slices_gives_the_phenotypes(size: str) -> None:
    for index in range(60):
        heart = _heart(index, size)
        volume, y, es = _volumes(heart, size), heart.phenotypes, heart.es_frame
        found = [
            volume["LV"][0], volume["LV"][es], volume["WALL"][0] * 1.05, volume["WALL"][es] * 1.05,
            volume["RV"][0], volume["RV"][es],
        ]  # fmt: skip
        expected = [y["LVEDV"], y["LVESV"], y["LVM"], y["LVM"], y["RVEDV"], y["RVESV"]]
        np.testing.assert_allclose(found, expected, rtol=0.005)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_painted_as_ventricle_sum_to_the_phenotypes(size: str) -> None:
    preset = PRESETS[size]
    heart = _heart(3, size)
    window = Window(preset, (30.0, -6.0), np.zeros(2))
    disc_ml = preset.pixel_mm**2 * preset.step_mm / 1000
    totals = {}
    for name, outline in (("LV", heart.endo_mm), ("epi", heart.epi_mm)):
        drawn = [window.inside(outline[k]).sum(1) * heart.below_base[k] for k in range(preset.n_slices)]
        totals[name] = np.sum(drawn, axis=0) * disc_ml
    np.testing.assert_allclose(totals["LV"][0], heart.phenotypes["LVEDV"], rtol=0.01)
    np.testing.assert_allclose(totals["LV"][heart.es_frame], heart.phenotypes["LVESV"], rtol=0.015)
    mass = (totals["epi"] - totals["LV"])[0] * 1.05
    np.testing.assert_allclose(mass, heart.phenotypes["LVM"], rtol=0.02)


@pytest.mark.parametrize("size", SIZES)
def test_volume_is_least_at_the_es_frame_and_largest_at_the_r_wave(size: str) -> None:
    for index in range(40):
        heart = _heart(index, size)
        volume = _volumes(heart, size)
        for ventricle in ("LV", "RV"):
            assert volume[ventricle][heart.es_frame] <= volume[ventricle].min() * (1 + 1e-9)
            assert volume[ventricle][0] >= volume[ventricle].max() * (1 - 1e-9)


def test_es_frame_is_the_first_one_after_the_end_of_ejection() -> None:
    for index in range(40):
        heart = _heart(index, "full")
        frame_ms = heart.timing.rr / PRESETS["full"].n_frames
        assert -frame_ms < heart.es_frame * frame_ms - heart.timings["es_ms"] < 1.01 * frame_ms


@pytest.mark.parametrize("size", SIZES)
def test_wall_keeps_its_volume_over_the_cycle(size: str) -> None:
    for index in range(20):
        wall = _volumes(_heart(index, size), size)["WALL"]
        np.testing.assert_allclose(wall, wall[0], rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_heart_stays_inside_its_window_whoever_it_belongs_to(size: str) -> None:
    preset, largest_shift_mm = PRESETS[size], 3.0
    for index in range(250):
        subject, rng = draw_subject(8, index), np.random.default_rng([8, index])
        heart = build_heart(subject, rng, preset)
        window = Window(preset, lv_offset_mm(rng), np.zeros(2))
        for k in np.flatnonzero(heart.below_base.any(1)):
            radius = pericardium_mm(heart, k, subject["B"])[heart.below_base[k] > 0]
            x, y = radius * np.cos(THETA), radius * np.sin(THETA)
            assert x.min() - largest_shift_mm > window.x.min() and x.max() + largest_shift_mm < window.x.max()
            assert y.min() - largest_shift_mm > window.y.min() and y.max() + largest_shift_mm < window.y.max()


@pytest.mark.parametrize("size", SIZES)
def test_outlines_are_nested_and_finite(size: str) -> None:
    for index in range(40):
        heart = _heart(index, size)
        assert np.isfinite(heart.rv_mm).all()
        assert (heart.endo_mm <= heart.epi_mm + 1e-9).all() and (heart.epi_mm <= heart.rv_mm + 1e-9).all()


@settings(max_examples=60, deadline=None)
@given(
    rate=st.floats(35, 120), pr=st.floats(80, 330), ivrt=st.floats(30, 160), es=st.floats(-60, 60),
    early=st.floats(80, 300), index=st.integers(0, 50),
)  # fmt: skip
def test_volume_curve_is_periodic_for_any_physiology(
    rate: float, pr: float, ivrt: float, es: float, early: float, index: int
) -> None:
    subject = draw_subject(7, index)
    changed = {"lnHRm": np.log(rate), "PR": pr, "IVRT": ivrt, "ESr": es, "TE": early}
    q = timing(replace(subject, latents={**subject.latents, **changed}))
    t = np.linspace(0, q.rr * (1 - 1e-9), 2000)
    share = filling(t, q)
    assert share[0] == 1 and abs(share[-1] - 1) < 1e-3
    assert share.min() > -1e-9 and share.max() < 1 + 1e-9
    np.testing.assert_allclose(filling(t[(t >= q.end_systole) & (t <= q.mitral_opening)], q), 0, atol=1e-9)
    assert (np.diff(share[t < q.end_systole]) <= 1e-12).all() and (np.diff(share[t > q.mitral_opening]) >= -1e-12).all()


def test_timings_can_be_read_off_the_volume_curve() -> None:
    for index in range(30):
        heart = _heart(index, "full")
        q, timings = heart.timing, heart.timings
        t = np.linspace(0, q.rr, 20001)[:-1]
        volume = heart.phenotypes["LVESV"] + heart.phenotypes["LVSV"] * filling(t, q)
        lowest = t[volume <= volume.min() + 1e-6 * heart.phenotypes["LVSV"]]
        assert abs(lowest[0] - timings["es_ms"]) < 5 and abs(lowest[-1] - timings["mitral_opening_ms"]) < 5
        rate = np.gradient(volume, t).max() * 1000 / heart.phenotypes["LVEDV"]
        np.testing.assert_allclose(timings["peak_filling_rate"], rate, rtol=0.02)
        if q.atrial_fraction and q.atrial_kick > q.mitral_opening + q.early_filling:
            at_kick = np.interp(timings["atrial_kick_phase"] * q.rr, t, volume)
            added = (heart.phenotypes["LVEDV"] - at_kick) / heart.phenotypes["LVSV"]
            np.testing.assert_allclose(added, timings["atrial_fraction"], atol=1e-3)


def test_atrial_fibrillation_has_no_kick() -> None:
    subject = replace(draw_subject(7, 1), rhythm="AF")
    heart = _heart(1, "small", subject)
    assert heart.timings["atrial_fraction"] == 0 and np.isnan(heart.timings["atrial_kick_phase"])
    q = heart.timing
    late = filling(np.linspace(q.mitral_opening + q.early_filling, q.rr - 1e-6, 100), q)
    np.testing.assert_allclose(np.diff(late), np.diff(late)[0], atol=1e-9)


def test_lateral_wall_moves_later_than_the_septum_by_the_stated_delay() -> None:
    subject = draw_subject(7, 2)
    lag = {}
    for delay_ms in (0.0, 40.0):
        heart = _heart(2, "full", replace(subject, latents={**subject.latents, "DYS": delay_ms}))
        radius = heart.endo_mm[PRESETS["full"].n_slices // 2, : heart.es_frame]
        frame_ms = heart.timing.rr / PRESETS["full"].n_frames

        def half_way(wall_deg: float, radius: np.ndarray = radius, frame_ms: float = frame_ms) -> float:
            r = radius[:, np.abs(np.angle(np.exp(1j * (THETA - np.deg2rad(wall_deg))))) < 0.3].mean(1)
            return float(np.interp(0.5, (r[0] - r) / (r[0] - r[-1]), np.arange(len(r)))) * frame_ms

        lag[delay_ms] = half_way(20) - half_way(200)
        assert heart.timings["septal_lateral_ms"] == delay_ms
    assert 0.6 * 40 < lag[40.0] - lag[0.0] < 1.4 * 40
