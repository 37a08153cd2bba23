"""The rendered short-axis cine."""

from dataclasses import replace

import numpy as np
import pytest

from ptacl.synthetic.cine import BLOOD_LEVEL, BLOOD_SNR, FIBRILLATION_BLUR, TISSUE, Window, render
from ptacl.synthetic.heart import Heart, build_heart
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.presets import PRESETS

LV_MM = (30.0, -6.0)


def _cine(size: str, rhythm: str = "normal") -> tuple[Heart, np.ndarray]:
    subject = replace(draw_subject(7, 3), rhythm=rhythm)
    rng = np.random.default_rng(1)
    heart = build_heart(subject, rng, PRESETS[size])
    return heart, render(heart, subject, rng, PRESETS[size], LV_MM)


@pytest.mark.parametrize("size", sorted(PRESETS))
def test_matrix_frames_and_field_of_view_are_those_of_the_preset(size: str) -> None:
    preset = PRESETS[size]
    _, volume = _cine(size)
    assert volume.shape == (preset.n_slices, preset.n_frames, preset.rows, preset.columns)
    assert volume.dtype == np.uint16 and volume.max() < 4096
    assert min(preset.rows, preset.columns) * preset.pixel_mm >= 260


def test_cavities_are_bright_and_the_wall_is_dark_where_the_outlines_say() -> None:
    heart, volume = _cine("full")
    preset, k = PRESETS["full"], 4
    window = Window(preset, LV_MM, np.zeros(2))
    pixels = volume[(k, slice(None), *window.area)].reshape(preset.n_frames, -1).astype(float)
    # The outlines are drawn in by more than half a pixel and the usual breath-hold shift.
    left = window.inside(heart.endo_mm[k] - 3) > 0.99
    wall = (window.inside(heart.epi_mm[k] - 0.5) > 0.99) & (window.inside(heart.endo_mm[k] + 0.5) < 0.01)
    right = (window.inside(heart.rv_mm[k] - 3) > 0.99) & (window.inside(heart.epi_mm[k] + 3) < 0.01)
    for frame in (0, heart.es_frame):
        level = {name: np.median(pixels[frame, m[frame]]) for name, m in (("L", left), ("W", wall), ("R", right))}
        assert level["W"] < 0.5 * level["L"] and level["W"] < 0.5 * level["R"]
        assert 0.8 < level["R"] / level["L"] < 1.2


def test_edge_of_the_rendered_blood_pool_lies_on_the_outline_of_the_label() -> None:
    """Signal against the distance from the outline falls to half where the distance is zero."""
    heart, volume = _cine("full")
    preset = PRESETS["full"]
    window = Window(preset, LV_MM, np.zeros(2))
    bins = np.arange(-6, 4.5, 0.5)
    for frame in (0, heart.es_frame):
        profiles = []
        for k in np.flatnonzero((heart.depth[:, frame] > 0.15) & (heart.depth[:, frame] < 0.9)):
            if heart.below_base[k, frame] < 1:
                continue
            distance = window.radius - heart.endo_mm[k, frame][window.bin]
            pixels = volume[(k, frame, *window.area)].ravel().astype(float)
            where = np.digitize(distance, bins)
            profiles.append([np.median(pixels[where == i]) for i in range(1, len(bins))])
        profile, middle = np.mean(profiles, axis=0), (bins[1:] + bins[:-1]) / 2
        bright, dark = profile[middle < -3].mean(), profile[middle > 2].mean()
        edge = np.interp(0.5, ((bright - profile) / (bright - dark))[middle > -3], middle[middle > -3])
        assert len(profiles) >= 4 and abs(edge) < 0.7


def test_slices_above_the_base_plane_show_the_atria() -> None:
    heart, volume = _cine("full")
    window = Window(PRESETS["full"], LV_MM, np.zeros(2))
    assert heart.below_base[0].max() == 0
    pixels = volume[(0, slice(None), *window.area)].reshape(len(heart.share), -1)
    for x, y in ((6, 10), (-30, -4)):
        atrium = np.hypot(window.x - x, window.y - y) < 6
        assert pixels[:, atrium].mean(1).min() > 0.7 * BLOOD_LEVEL


def test_papillary_muscles_lie_inside_the_cavity_of_the_middle_slices() -> None:
    heart, volume = _cine("full")
    preset, k = PRESETS["full"], 5
    window = Window(preset, LV_MM, np.zeros(2))
    cavity = window.inside(heart.endo_mm[k, :1] - 4)[0] > 0.99
    pixels = volume[(k, 0, *window.area)].ravel()[cavity]
    dark = (pixels < 0.55 * np.median(pixels)).mean()
    assert 0.01 < dark < 0.2


def test_only_the_window_of_the_heart_moves() -> None:
    _, volume = _cine("small")
    preset = PRESETS["small"]
    window = Window(preset, LV_MM, np.zeros(2))
    spread = volume.astype(np.float32).std(axis=1)
    sigma = BLOOD_LEVEL / BLOOD_SNR
    inside = spread[(slice(None), *window.area)]
    outside = np.ones(spread.shape, bool)
    outside[(slice(None), *window.area)] = False
    assert inside.max() > 6 * sigma
    assert spread[outside].max() < 3 * sigma


def test_noise_is_rician_with_the_stated_signal_to_noise_ratio() -> None:
    _, volume = _cine("small")
    air = volume[:, :, :4, :20].astype(float) + 0.5  # values are cut to whole numbers
    sigma = BLOOD_LEVEL / BLOOD_SNR
    np.testing.assert_allclose(air.mean(), sigma * np.sqrt(np.pi / 2), rtol=0.03)
    np.testing.assert_allclose(air.std(), sigma * np.sqrt(2 - np.pi / 2), rtol=0.05)


def test_bssfp_contrast_follows_the_ratio_of_t2_to_t1() -> None:
    assert TISSUE["blood"] > 2 * TISSUE["myocardium"] > TISSUE["myocardium"] > TISSUE["lung"]
    assert TISSUE["fat"] > TISSUE["liver"] > TISSUE["lung"]


def test_atrial_fibrillation_mixes_each_frame_with_another_phase_of_the_same_heart() -> None:
    heart, _ = _cine("small", "AF")
    subject = replace(draw_subject(7, 3), rhythm="AF")
    preset = PRESETS["small"]
    # The same stream gives the same noise: only the blur differs.
    blurred, sharp = (
        render(heart, s, np.random.default_rng(5), preset, LV_MM)[2].astype(float)
        for s in (subject, replace(subject, rhythm="normal"))
    )
    earlier = np.roll(sharp, preset.n_frames // 7, axis=0)
    moving = np.abs(sharp - earlier) > 100
    share = np.sum((blurred - sharp)[moving] * (earlier - sharp)[moving]) / np.sum(np.square(earlier - sharp)[moving])
    assert moving.any() and abs(share - FIBRILLATION_BLUR) < 0.05


def test_volume_curve_can_be_followed_in_the_pixels() -> None:
    """Blood-pool brightness around the LV axis falls and rises with the LV volume."""
    heart, volume = _cine("small")
    preset = PRESETS["small"]
    window = Window(preset, LV_MM, np.zeros(2))
    disc = window.radius < 32
    pool = volume[(2, slice(None), *window.area)].reshape(preset.n_frames, -1)[:, disc].mean(1, dtype=float)
    assert np.corrcoef(pool, heart.share)[0, 1] > 0.9
