"""Cines as sprites that a script plays, and pictures of single frames; without any metadata."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ptacl.report.shown import LARGEST, MOST_FRAMES

QUALITY = 82


@dataclass(frozen=True)
class Sprite:
    """A cine as one PNG, base64: frames below each other, slices side by side.

    Above and below each frame its edge stands once more, so that a browser that enlarges it blends no two frames.
    """

    png: str
    frames: int
    height: int
    width: int
    phase_0: float

    @property
    def start(self) -> str:
        """CSS background-position-y of the first frame."""
        tile = self.height + 2
        return f"{100 / (self.frames * tile - self.height):.4f}%"


def sprite(cine: np.ndarray, phase_0: float = 0.0) -> Sprite:
    """cine: uint8 [S, T, H, W], evenly over one cycle; phase_0: phase of its first frame after the R wave, 0 to 1."""
    kept = min(cine.shape[1], MOST_FRAMES)
    cine = cine[:, np.arange(kept) * cine.shape[1] // kept]
    by = -(-cine.shape[-1] // LARGEST)
    if by > 1:
        s, t, h, w = (*cine.shape[:2], cine.shape[2] // by, cine.shape[3] // by)
        cine = cine[:, :, : h * by, : w * by].reshape(s, t, h, by, w, by).mean((3, 5)).round().astype(np.uint8)
    rows = np.concatenate(list(cine), axis=2)
    tiles = np.pad(rows, ((0, 0), (1, 1), (0, 0)), mode="edge")
    frames, height, width = rows.shape
    return Sprite(_encoded(tiles.reshape(-1, width), "PNG"), frames, height, width, phase_0)


def jpeg(image: np.ndarray) -> str:
    """A grey image uint8 [H, W] as base64."""
    return _encoded(image, "JPEG", quality=QUALITY)


def enlarged(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H, W] to [size, size], smoothed."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def _encoded(image: np.ndarray, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, optimize=True, **options)
    return base64.b64encode(buffer.getvalue()).decode()
