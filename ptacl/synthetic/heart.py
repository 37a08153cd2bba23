"""The moving heart as radii about the LV axis, whose areas give the table's volumes exactly.

Every slice and frame has star-shaped outlines: endocardium, epicardium, right ventricle. They are scaled so that disc
summation over the stored slices (area x share of the slab below the base plane x slice step) follows the phenotypes'
volume curve exactly in every frame. A slab that the base plane crosses counts, and is drawn, in proportion: volumes and
radii change smoothly although the base moves through the slices.
"""

from dataclasses import dataclass

import numpy as np

from ptacl.synthetic.latents import Subject, phenotypes
from ptacl.synthetic.presets import Preset
from ptacl.synthetic.timing import Timing, filling, landmarks, timing

ANGLES = 360
THETA = (np.arange(ANGLES) + 0.5) * 2 * np.pi / ANGLES
_STEP = 2 * np.pi / ANGLES
MYOCARDIUM_G_PER_ML = 1.05


@dataclass(frozen=True)
class Heart:
    """Geometry over slices Z and frames T.

    endo_mm, epi_mm, rv_mm: radii [Z, T, 360] from the LV axis; the RV lies between epi and rv. share: filling [T].
    below_base: share of each slab below the base plane [Z, T]. depth: place along the LV, 0 base to 1 apex [Z, T].
    base_mm: the base plane, from its end-diastolic place towards the apex [T]. length_mm: of the LV at end-diastole.
    heights_mm: slice centres from the end-diastolic base plane towards the apex, as in the headers [Z].
    """

    phenotypes: dict[str, float]
    timings: dict[str, float]
    timing: Timing
    share: np.ndarray
    es_frame: int
    heights_mm: np.ndarray
    endo_mm: np.ndarray
    epi_mm: np.ndarray
    rv_mm: np.ndarray
    below_base: np.ndarray
    depth: np.ndarray
    base_mm: np.ndarray
    length_mm: float
    la_ml: float


def outline_area(radius_mm: np.ndarray) -> np.ndarray:
    """Area inside a star-shaped outline [..., 360], mm2."""
    return 0.5 * _STEP * np.sum(radius_mm * radius_mm, axis=-1)


def build_heart(subject: Subject, rng: np.random.Generator, preset: Preset) -> Heart:
    """The heart of one subject; what is random beyond the latents (slices, outline, RV angle) comes from `rng`."""
    y = {k: float(v) for k, v in phenotypes(subject.latents).items()}
    q = timing(subject)
    t = np.arange(preset.n_frames) * q.rr / preset.n_frames
    fine = np.linspace(0, q.rr, 1025)
    curve = filling(np.minimum(fine, q.rr - 1e-6), q)
    curve[-1] = curve[0]
    lowest = curve.min()

    def share_at(times: np.ndarray) -> np.ndarray:
        return (np.interp(np.mod(times, q.rr), fine, curve) - lowest) / (curve[0] - lowest)

    # On the frames' grid: exactly 1 at frame 0 and exactly 0 at the frame nearest end-systole.
    share = share_at(t)
    share = np.clip((share - share.min()) / (share[0] - share.min()), 0, 1)
    es = int(np.argmin(share))

    length = float(1.72 * (y["LVEDV"] * 1e3) ** (1 / 3) * np.exp(subject["lnSph"]))
    base = np.clip(subject["MAPSE"], 3, 22) * (1 - share)
    offset = rng.uniform(-preset.offset_mm, preset.offset_mm)
    heights = preset.first_mm + offset + preset.step_mm * np.arange(preset.n_slices)
    # Breath-holds differ a little: the heart moves, the header's position doesn't.
    true_heights = heights + rng.normal(0, 0.8, preset.n_slices)
    depth = (true_heights[:, None] - base) / (length - base)

    below_base = np.clip((true_heights[:, None] - base) / preset.thickness_mm + 0.5, 0, 1)

    area = _lv_areas(y, depth, below_base, share, preset.step_mm)
    endo = _endocardium(subject, rng, area, depth, share, share_at, t, es)
    below_apex = true_heights[:, None] - length
    cap = (depth > 1) & (below_apex < 5.0)
    epi = _epicardium(y["LVM"], area, endo, depth, cap, below_base, preset.step_mm)
    rv = _right_ventricle(y, rng, epi, true_heights, base, length, below_base, share, preset)
    return Heart(
        phenotypes=y,
        timings=_timings(subject, y, q, fine, curve),
        timing=q,
        share=share,
        es_frame=es,
        heights_mm=heights,
        endo_mm=endo,
        epi_mm=epi,
        rv_mm=rv,
        below_base=below_base,
        depth=depth,
        base_mm=base,
        length_mm=length,
        la_ml=float(np.exp(subject["lnLA"])),
    )


def _timings(subject: Subject, y: dict[str, float], q: Timing, fine: np.ndarray, curve: np.ndarray) -> dict[str, float]:
    """The six timings of the rendered heart: the landmarks, and the steepest rise of LV volume in EDV per second."""
    rise = np.gradient(curve, fine).max() / (curve[0] - curve.min())
    values = landmarks(subject, q) | {"peak_filling_rate": rise * 1000 * y["LVEF"] / 100}
    return {name: float(value) for name, value in values.items()}


def _lv_areas(
    y: dict[str, float], depth: np.ndarray, below_base: np.ndarray, share: np.ndarray, step_mm: float
) -> np.ndarray:
    """Endocardial areas [Z, T] of half an ellipsoid, scaled so that disc summation gives EDV and ESV."""
    u = -0.5 + 1.5 * np.clip(depth, 0, 1)
    profile = np.where(below_base > 0, 1 - u * u, 0)
    return _scaled_discs(profile, below_base, y["LVESV"], y["LVEDV"], share, step_mm)


def _scaled_discs(
    profile: np.ndarray, weight: np.ndarray, smallest_ml: float, largest_ml: float, share: np.ndarray, step_mm: float
) -> np.ndarray:
    """Areas [Z, T] proportional to a profile; their weighted disc summation follows the filling curve exactly."""
    volume = smallest_ml + (largest_ml - smallest_ml) * share
    return profile * (volume * 1e3 / step_mm / (profile * weight).sum(0))


def _endocardium(subject, rng, area, depth, share, share_at, t, es) -> np.ndarray:  # noqa: ANN001
    """Radii [Z, T, 360]: harmonics, twist towards the apex, the septum ahead of the lateral wall; exact areas."""
    lateral = np.deg2rad(20 + rng.normal(0, 8))
    delay = max(subject["DYS"], 0.0) / 2 * -np.cos(THETA - lateral)
    local_share = np.clip(share_at(t[:, None] + delay), 0, 1.05)
    both = (area[:, es] > 0) & (area[:, 0] > 0)
    squeeze = np.clip(np.median(area[both, es] / area[both, 0]), 0.1, 0.9) if both.any() else 0.45
    local = np.sqrt(squeeze + (1 - squeeze) * local_share)
    phase2, phase3 = rng.uniform(0, 2 * np.pi, 2)
    e2, e3 = 0.03 + 0.015 * rng.standard_normal(), 0.015 * rng.standard_normal()
    twist = np.deg2rad((-4 + 14 * np.clip(depth, 0, 1)) * (1 - share))
    angle = THETA - twist[..., None]
    radius = local * (1 + e2 * np.cos(2 * angle + phase2) + e3 * np.cos(3 * angle + phase3))
    return radius * np.sqrt(area / outline_area(radius))[..., None]


def _epicardium(mass_g, area, endo, depth, cap, below_base, step_mm) -> np.ndarray:  # noqa: ANN001
    """Radii [Z, T, 360] of a wall of constant volume, thinner towards the apex, a little thicker at the septum."""
    relative = np.where(area > 0, 1 - 0.30 * np.clip(depth - 0.6, 0, 1), 0.0) + np.where(cap, 0.75, 0.0)
    radius = np.sqrt(area / np.pi)
    wall = mass_g / MYOCARDIUM_G_PER_ML * 1e3 / step_mm
    # Thickness w of each frame from sum over slices of share pi (2 r w p + w^2 p^2) = wall.
    a, b = (below_base * relative**2).sum(0), (below_base * radius * relative).sum(0)
    thickness = (-b + np.sqrt(b * b + a * wall / np.pi)) / a
    ring = np.pi * (2 * radius * thickness * relative + (thickness * relative) ** 2)
    weight = 1 + 0.08 * np.cos(THETA - np.pi)
    i1, i2 = (endo * weight).sum(-1) * _STEP, (weight**2).sum() * _STEP
    width = (-i1 + np.sqrt(i1**2 + 2 * i2 * ring)) / i2
    return np.where((ring > 0)[..., None], endo + width[..., None] * weight, 0)


def _right_ventricle(y, rng, epi, heights, base, length, below_base, share, preset) -> np.ndarray:  # noqa: ANN001
    """Radii [Z, T, 360] of the outer edge of a crescent on the septal side, exact areas.

    Its base moves further than that of the LV and lies above it at end-diastole, where the atria hide the difference.
    """
    top = 1.55 * base - 6
    depth = (heights[:, None] - top) / (0.90 * length - top)
    inside = np.clip(depth, 0, 1)
    below_top = np.clip((heights[:, None] - top) / preset.thickness_mm + 0.5, 0, 1)
    profile = np.where(below_base > 0, below_top, 0) * (1 - inside**2) * (0.75 + 0.25 * np.clip(depth * 4, 0, 1))
    area = _scaled_discs(profile, below_base, y["RVESV"], y["RVEDV"], share, preset.step_mm)
    middle, half = np.deg2rad(202 + rng.normal(0, 6)), np.deg2rad(82 - 14 * inside)[..., None]
    away = np.angle(np.exp(1j * (THETA - middle)))
    crescent = np.where(np.abs(away) < half, np.cos(0.5 * np.pi * np.clip(away / half, -1, 1)).clip(0) ** 0.85, 0)
    i1, i2 = (epi * crescent).sum(-1) * _STEP, (crescent**2).sum(-1) * _STEP
    width = (-i1 + np.sqrt(i1**2 + 2 * i2 * area)) / np.maximum(i2, 1e-6)
    return epi + width[..., None] * crescent


def label_areas(heart: Heart) -> dict[str, np.ndarray]:
    """Areas of the rendered labels, mm2 [Z, T]: LV cavity, wall, RV cavity, as far as the slab is below the base."""
    endo, epi, rv = (outline_area(r) * heart.below_base for r in (heart.endo_mm, heart.epi_mm, heart.rv_mm))
    return {"LV": endo, "WALL": epi - endo, "RV": rv - epi}
