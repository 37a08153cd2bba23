"""The heart as a bSSFP short-axis cine: contrast from T1 and T2, partial volume at every edge, Rician noise."""

import functools

import numpy as np

from ptacl.synthetic.heart import ANGLES, Heart
from ptacl.synthetic.latents import Subject
from ptacl.synthetic.presets import Preset

BLOOD_LEVEL, BLOOD_SNR = 260.0, 28.0
FIBRILLATION_BLUR = 0.35
_BANK = 1 << 19
_NOISE_COPIES = 6
# Share of the moving window above and to the left of the LV axis: the right ventricle lies there.
_WINDOW_ABOVE, _WINDOW_LEFT = 0.57, 0.62
_LARGEST_SHIFT_MM, _LARGEST_ATRIUM_ML = 3.0, 220.0


def _bssfp(density: float, t1_ms: float, t2_ms: float, flip_deg: float = 80.0) -> float:
    """Steady-state signal of balanced SSFP."""
    a, r = np.deg2rad(flip_deg), t1_ms / t2_ms
    return density * np.sin(a) / ((r + 1) - np.cos(a) * (r - 1))


TISSUE = {
    "blood": _bssfp(0.95, 1550, 260), "myocardium": _bssfp(0.80, 1000, 48), "fat": _bssfp(0.80, 300, 85),
    "muscle": _bssfp(0.80, 950, 38), "liver": _bssfp(0.80, 590, 45), "lung": _bssfp(0.12, 1200, 40),
    "bone": _bssfp(0.30, 550, 50),
}  # fmt: skip


@functools.cache
def _noise_bank() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gaussian noise, the square of other Gaussian noise, and a smooth texture: drawn once, read at random places."""
    rng = np.random.default_rng(12345)
    first = rng.standard_normal(_BANK, dtype=np.float32)
    second = np.square(rng.standard_normal(_BANK, dtype=np.float32))
    spectrum = np.fft.rfft2(rng.standard_normal((256, 256)))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    texture = np.fft.irfft2(spectrum * np.exp(-((frequency / 0.06) ** 2)))
    return first, second, (texture / texture.std()).astype(np.float32)


def rician(signal: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of the signal with complex noise; works in place."""
    first, second, _ = _noise_bank()
    n = signal.size
    a, b = rng.integers(0, _BANK - n - 1, 2) if n < _BANK - 1 else (0, 0)
    signal += (np.resize(first[a : a + n], n) * sigma).reshape(signal.shape)
    np.square(signal, out=signal)
    signal += (np.resize(second[b : b + n], n) * (sigma * sigma)).reshape(signal.shape)
    return np.sqrt(signal, out=signal)


def lv_offset_mm(rng: np.random.Generator) -> tuple[float, float]:
    """(right, down) of the LV axis from the image centre: a little to the image's right, as in planned scans."""
    return 30.0 + rng.normal(0, 3), -6.0 + rng.normal(0, 3)


def _body(subject: Subject, rng: np.random.Generator, preset: Preset) -> tuple[np.ndarray, np.ndarray]:
    """The static chest and the coil's shading, float32 [rows, columns] each."""
    rows, columns, pixel = preset.rows, preset.columns, preset.pixel_mm
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    x, y = (x - columns / 2) * pixel, (y - rows / 2) * pixel

    def cover(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 + distance / pixel, 0, 1)

    fatness = np.clip(subject["B"], -2, 3)
    a, b = 122 + 5 * fatness + 2 * np.clip(subject["H"], -2, 2), 92 + 6 * fatness
    radius = np.hypot(x / a, (y - 14) / b)
    rim = 10 + 5 * max(fatness, -1.5)
    image = cover((1 - radius) * b) * TISSUE["fat"]
    for inset, tissue in ((rim, "muscle"), (rim + 11, "lung")):
        image += cover((1 - inset / b - radius) * b) * (TISSUE[tissue] - image)

    def disc(cx: float, cy: float, rx: float, ry: float, value: float, turn: float = 0.0) -> None:
        u, v = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn), -(x - cx) * np.sin(turn) + (y - cy) * np.cos(turn)
        edge = cover((1 - np.hypot(u / rx, v / ry)) * min(rx, ry))
        image[...] += edge * (value - image)

    disc(-20, 84, 26, 22, TISSUE["bone"])
    disc(-20, 72, 8, 7, 0.9 * TISSUE["fat"])
    disc(18, 66, 12, 12, TISSUE["blood"])  # descending aorta
    disc(-70 + rng.normal(0, 5), 52, 50, 42, TISSUE["liver"], 0.35)
    disc(80, 62, 30, 22, 1.1 * TISSUE["liver"], -0.5)  # spleen
    texture = np.roll(_noise_bank()[2], tuple(rng.integers(0, 256, 2)), (0, 1))[:rows, :columns]
    image *= 1 + 0.10 * texture
    image += (image < 0.02) * (radius < 1) * np.clip(texture - 1.3, 0, 1) * 0.05  # vessels of the lung
    near_chest, near_spine = np.exp(-(((y + 90) / 95) ** 2)), np.exp(-(((y - 120) / 80) ** 2))
    shading = 1 + 0.30 * near_chest - 0.10 * (x / 150) ** 2 + 0.12 * near_spine
    return image.astype(np.float32), shading.astype(np.float32)


class Window:
    """The part of the image in which the heart moves, in polar coordinates about the LV axis of one slice."""

    def __init__(self, preset: Preset, lv_mm: tuple[float, float], shift_mm: np.ndarray) -> None:
        height, width = preset.window
        row, column = preset.rows / 2 + lv_mm[1] / preset.pixel_mm, preset.columns / 2 + lv_mm[0] / preset.pixel_mm
        top = int(np.clip(row - _WINDOW_ABOVE * height, 0, preset.rows - height))
        left = int(np.clip(column - _WINDOW_LEFT * width, 0, preset.columns - width))
        self.area = slice(top, top + height), slice(left, left + width)
        y, x = np.mgrid[self.area]
        self.x = ((x - column) * preset.pixel_mm - shift_mm[0]).ravel().astype(np.float32)
        self.y = ((y - row) * preset.pixel_mm - shift_mm[1]).ravel().astype(np.float32)
        self.radius = np.hypot(self.x, self.y)
        self.bin = (np.arctan2(self.y, self.x) % (2 * np.pi) / (2 * np.pi) * ANGLES).astype(np.int32) % ANGLES
        self.per_mm = np.float32(1 / preset.pixel_mm)

    def inside(self, outline_mm: np.ndarray) -> np.ndarray:
        """Cover of each pixel by a star-shaped outline [T, 360]: float32 [T, pixels], soft over one pixel."""
        reach = np.take(outline_mm.astype(np.float32), self.bin, axis=1)
        return np.clip((reach - self.radius) * self.per_mm + np.float32(0.5), 0, 1)

    def disc(self, x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """Cover by discs, one per frame (centres and radii in mm [T])."""
        distance = np.hypot(self.x - np.reshape(x, (-1, 1)), self.y - np.reshape(y, (-1, 1)))
        cover = (np.reshape(radius, (-1, 1)) - distance) * self.per_mm + np.float32(0.5)
        return np.clip(cover, 0, 1).astype(np.float32)


def _over(image: np.ndarray, cover: np.ndarray, value: np.ndarray | float) -> None:
    """Paints `value` over the image by `cover`, in place."""
    image += cover * (value - image)


def pericardium_mm(heart: Heart, k: int, fatness: float) -> np.ndarray:
    """Radii [T, 360] of the pericardial sac of slice k; it follows the heart only in part, fat fills the rest."""
    outer = np.maximum(np.maximum(heart.epi_mm[k], heart.rv_mm[k]), 13.0)
    return 0.35 * outer.max(0) + 0.65 * outer + 2.2 + 1.1 * np.clip(fatness, -1.5, 3)


def _ventricles(heart: Heart, k: int, window: Window, background: np.ndarray, fatness: float) -> np.ndarray:
    """Slice k below the base plane: fat, RV, wall, cavity, papillary muscles. float32 [T, pixels]."""
    endo, epi, rv = heart.endo_mm[k], heart.epi_mm[k], heart.rv_mm[k]
    frames = len(heart.share)
    image = np.tile(background, (frames, 1))
    _over(image, window.inside(pericardium_mm(heart, k, fatness)), 0.62 * TISSUE["fat"])
    flow = np.abs(np.gradient(heart.share))
    blood = (TISSUE["blood"] * (1 + 0.05 * flow / flow.max())).astype(np.float32)[:, None]
    has_rv = rv > epi + 0.2
    if has_rv.any():
        _over(image, window.inside(np.where(has_rv, rv + 2.6, 0)), 0.95 * TISSUE["myocardium"])
        _over(image, window.inside(np.where(has_rv, rv, 0)), 0.97 * blood)
    if epi.max() > 0:
        _over(image, window.inside(epi), TISSUE["myocardium"])
        cavity = window.inside(endo)
        _over(image, cavity, blood)
        if 0.22 < heart.depth[k, 0] < 0.72:
            mean_radius = np.sqrt(np.mean(np.square(endo), axis=1))
            for angle_deg, radius in ((100, 4.2), (-48, 3.9)):
                a = np.deg2rad(angle_deg)
                muscle = window.disc(
                    0.6 * mean_radius * np.cos(a), 0.6 * mean_radius * np.sin(a), radius * (1.18 - 0.18 * heart.share)
                )
                _over(image, muscle * cavity, TISSUE["myocardium"])
    return image


def _atria(heart: Heart, window: Window, background: np.ndarray) -> np.ndarray:
    """A slice above the base plane: both atria, larger in systole, and the aortic root. float32 [T, pixels]."""
    frames = len(heart.share)
    image = np.tile(background, (frames, 1))
    left = 0.62 * (min(heart.la_ml, _LARGEST_ATRIUM_ML) / 70) ** (1 / 3) * 26 * (1 - 0.22 * (heart.share - 0.5))
    zero = np.zeros(frames)
    _over(image, window.disc(zero - 6, zero, 1.9 * left), 0.62 * TISSUE["fat"])
    for x, y, radius, level in ((6, 10, 1.15 * left, 1.0), (-30, -4, left, 0.95), (-8, -22, zero + 10.8, 1.05)):
        _over(image, window.disc(zero + x, zero + y, radius + 2), TISSUE["myocardium"])
        _over(image, window.disc(zero + x, zero + y, radius), level * TISSUE["blood"])
    return image


def render(
    heart: Heart, subject: Subject, rng: np.random.Generator, preset: Preset, lv_mm: tuple[float, float]
) -> np.ndarray:
    """The short-axis cine, uint16 [slices, frames, rows, columns]."""
    body, shading = _body(subject, rng, preset)
    gain = np.float32(BLOOD_LEVEL / TISSUE["blood"])
    sigma = BLOOD_LEVEL / BLOOD_SNR
    still = body * shading * gain
    volume = np.empty((preset.n_slices, preset.n_frames, preset.rows, preset.columns), np.uint16)
    for k in range(preset.n_slices):
        # Breath-holds differ: the heart lies elsewhere by a millimetre.
        shift = np.clip(rng.normal(0, 1.3, 2), -_LARGEST_SHIFT_MM, _LARGEST_SHIFT_MM)
        window = Window(preset, lv_mm, shift)
        background = body[window.area].ravel()
        below = heart.below_base[k].astype(np.float32)[:, None]
        image = _ventricles(heart, k, window, background, subject["B"])
        if below.min() < 1:
            atria = _atria(heart, window, background)
            image = atria + below * (image - atria)
        if subject.rhythm == "AF":
            # Beats of different length are averaged: motion is blurred in time.
            image = (1 - FIBRILLATION_BLUR) * image + FIBRILLATION_BLUR * np.roll(image, preset.n_frames // 7, axis=0)
        image = image * (shading[window.area].ravel() * gain)
        copies = np.stack([rician(still.copy(), sigma, rng) for _ in range(_NOISE_COPIES)]).astype(np.uint16)
        volume[k] = copies[rng.integers(0, _NOISE_COPIES, preset.n_frames)]
        moving = rician(image.astype(np.float32), sigma, rng)
        volume[(k, slice(None), *window.area)] = moving.reshape(preset.n_frames, *preset.window)
    return volume
