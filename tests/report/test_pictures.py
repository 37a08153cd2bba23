"""Sprites and pictures: their pixels, and nothing else in them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ptacl.report.pictures import LARGEST, jpeg, sprite


def decoded(text: str) -> tuple[np.ndarray, Image.Image]:
    image = Image.open(io.BytesIO(base64.b64decode(text)))
    return np.asarray(image), image


def test_a_sprite_holds_every_frame_between_copies_of_its_edges() -> None:
    cine = np.random.default_rng(0).integers(0, 255, (3, 7, 12, 10), np.uint8)
    s = sprite(cine, 0.1)
    pixels, _ = decoded(s.png)
    assert (s.frames, s.height, s.width, s.phase_0) == (7, 12, 30, 0.1)
    assert pixels.shape == (7 * 14, 30)
    for t in range(7):
        tile = pixels[t * 14 : (t + 1) * 14]
        assert (tile[1:-1] == np.concatenate(list(cine[:, t]), axis=1)).all()
        assert (tile[0] == tile[1]).all() and (tile[-1] == tile[-2]).all()


def test_a_large_cine_is_thinned_out_by_means() -> None:
    cine = np.random.default_rng(1).integers(0, 255, (2, 3, 150, 150), np.uint8)
    s = sprite(cine)
    assert s.height == 50 <= LARGEST and s.width == 100
    pixels, _ = decoded(s.png)
    assert pixels[1, 0] == pytest.approx(cine[0, 0, :3, :3].mean(), abs=0.51)


@pytest.mark.parametrize(("frames", "kept"), [(24, 24), (25, 25), (50, 25), (53, 25)])
def test_many_frames_are_thinned_out_evenly(frames: int, kept: int) -> None:
    cine = np.broadcast_to(np.arange(frames, dtype=np.uint8)[None, :, None, None], (1, frames, 4, 4))
    s = sprite(cine)
    shown = decoded(s.png)[0][1::6, 0].astype(float)
    assert s.frames == len(shown) == kept and shown[0] == 0
    assert np.abs(shown / frames - np.arange(kept) / kept).max() < 1 / frames


@pytest.mark.parametrize("picture", [sprite(np.zeros((1, 2, 8, 8), np.uint8)).png, jpeg(np.zeros((8, 24), np.uint8))])
def test_a_picture_carries_no_metadata(picture: str) -> None:
    _, image = decoded(picture)
    assert not image.getexif() and not getattr(image, "text", {})
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
