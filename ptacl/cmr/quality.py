"""Reasons to refuse a stack that was read."""

import numpy as np

from ptacl.cmr.acquisitions import MIN_FRAMES
from ptacl.cmr.record import Cine
from ptacl.errors import UnusableCine

# A UK Biobank stack has 8 to 12 slices; a study of other data may have gaps between few.
MIN_SLICES = {"ukb": 6, "table": 3}


def check(cine: Cine, source: str, wanted_slices: int = 3) -> None:
    """Raises UnusableCine where a stack has too few slices or frames; for the middle slice alone any stack will do."""
    needed = max(MIN_SLICES[source], wanted_slices) if wanted_slices > 1 else 1
    if len(cine.slices) < needed:
        raise UnusableCine("too_few_slices", f"{len(cine.slices)} parallel slices, at least {needed} are needed")
    if cine.n_frames < MIN_FRAMES:
        raise UnusableCine("too_few_frames", f"{cine.n_frames} frames, at least {MIN_FRAMES} are needed")


def check_contrast(volume: np.ndarray) -> None:
    """Raises UnusableCine where every pixel has the same value."""
    if volume.min() == volume.max():
        raise UnusableCine("no_contrast", "every pixel has the same value")
