"""Two- and four-chamber cines: planes through the LV axis, the ventricle as half an ellipsoid under its moving base."""

import numpy as np

from ptacl.synthetic.cine import BLOOD_LEVEL, BLOOD_SNR, TISSUE, rician
from ptacl.synthetic.dicom import Series
from ptacl.synthetic.heart import ANGLES, Heart, outline_area
from ptacl.synthetic.planes import COLUMN_AXIS, ROW_AXIS, TO_BASE

SIDE, PIXEL_MM, THICKNESS_MM = 48, 4.5, 6.0
# Angle of each plane about the LV axis, from the short axis' row axis; the right ventricle lies at about 200 degrees.
PLANES_DEG = {"2Ch": 90.0, "4Ch": 10.0}


def long_axis_series(heart: Heart, centre_mm: np.ndarray, height_mm: float, rng: np.random.Generator) -> list[Series]:
    """One series per plane of PLANES_DEG, each through the LV axis.

    centre_mm: the LV centre in LPS, at `height_mm` from the end-diastolic base plane; it is the image centre.
    """
    series = []
    for i, (name, angle_deg) in enumerate(PLANES_DEG.items()):
        angle = np.deg2rad(angle_deg)
        across = np.cos(angle) * ROW_AXIS + np.sin(angle) * COLUMN_AXIS
        image = _image(heart, height_mm, angle_deg if name == "4Ch" else None)
        noisy = rician(image * np.float32(BLOOD_LEVEL / TISSUE["blood"]), BLOOD_LEVEL / BLOOD_SNR, rng)
        series.append(
            Series(
                number=80 + i, description=f"CINE_segmented_LAX_{name}", pixels=noisy.astype(np.uint16),
                origin_mm=centre_mm + (TO_BASE - across) * PIXEL_MM * SIDE / 2, row_axis=across, column_axis=-TO_BASE,
                pixel_mm=PIXEL_MM, thickness_mm=THICKNESS_MM, location_mm=0.0, rr_ms=heart.timing.rr,
            )
        )  # fmt: skip
    return series


def _image(heart: Heart, height_mm: float, rv_angle_deg: float | None) -> np.ndarray:
    """Signal without noise, float32 [T, SIDE, SIDE]; rows run from base to apex, columns from septum to lateral wall.

    The cavity is the half-ellipsoid whose volume is that of the filling curve; the right ventricle is drawn where its
    plane's angle is given.
    """
    y, x = (np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) - SIDE / 2) * PIXEL_MM
    below_base = y + height_mm - heart.base_mm[:, None, None]
    length = (heart.length_mm - heart.base_mm)[:, None, None]
    volume_ml = heart.phenotypes["LVESV"] + heart.phenotypes["LVSV"] * heart.share
    # Volume of radius R sqrt(1 - u^2), u from -1/2 at the base to 1 at the apex: pi R^2 (length / 1.5) 1.125.
    widest = np.sqrt(volume_ml * 1e3 * 1.5 / (1.125 * np.pi * (heart.length_mm - heart.base_mm)))[:, None, None]

    middle = len(heart.endo_mm) // 2
    inner, outer = (np.sqrt(outline_area(r[middle]) / np.pi) for r in (heart.endo_mm, heart.epi_mm))
    wall = (outer - inner)[:, None, None]

    def half_ellipsoid(half_width: np.ndarray, reach: np.ndarray) -> np.ndarray:
        u = -0.5 + 1.5 * below_base / reach
        edge = half_width * np.sqrt(np.clip(1 - u * u, 0, None)) - np.abs(x)
        return _cover(np.minimum(edge, np.minimum(below_base, reach - below_base)))

    image = _chest(x, y) * np.ones((len(heart.share), 1, 1), np.float32)
    if rv_angle_deg is not None:
        septum = round((rv_angle_deg + 180) / 360 * ANGLES) % ANGLES
        rv = heart.rv_mm[middle, :, septum][:, None, None]
        _paint(image, half_ellipsoid(rv + 3, 0.92 * length) * (x < 0), TISSUE["myocardium"])
        _paint(image, half_ellipsoid(rv, 0.88 * length) * (x < 0), TISSUE["blood"])
    atrium = (11 + 6 * (heart.la_ml / 70) ** (1 / 3) * (1.2 - 0.4 * heart.share))[:, None, None]
    _paint(image, _cover(atrium - np.hypot(x, below_base + atrium)), TISSUE["blood"])
    _paint(image, half_ellipsoid(widest + wall, length + wall), TISSUE["myocardium"])
    _paint(image, half_ellipsoid(widest, length), TISSUE["blood"])
    return image


def _chest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lung within a rim of muscle and fat."""
    image = np.zeros_like(x)
    for radius_mm, tissue in ((108, "fat"), (95, "muscle"), (84, "lung")):
        _paint(image, _cover(radius_mm - np.hypot(x, y)), TISSUE[tissue])
    return image


def _cover(distance_mm: np.ndarray) -> np.ndarray:
    """Share of a pixel inside an outline, from the distance of its centre to the outline (positive inside)."""
    return np.clip(0.5 + distance_mm / PIXEL_MM, 0, 1).astype(np.float32)


def _paint(image: np.ndarray, cover: np.ndarray, value: float) -> None:
    image += cover * (np.float32(value) - image)
