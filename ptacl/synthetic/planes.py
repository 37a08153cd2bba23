"""How the synthetic heart lies in the patient, and where its image planes are."""

import numpy as np


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


# The normal of the short-axis planes runs from apex to base: the apex points to the left, front and feet (LPS).
TO_BASE = _unit(np.array([-0.60, 0.50, 0.62]))
ROW_AXIS = _unit(np.cross([0.0, 0.0, 1.0], TO_BASE))
COLUMN_AXIS = np.cross(TO_BASE, ROW_AXIS)
ISOCENTRE_MM = np.array([-20.0, -10.0, 40.0])


def point_mm(right_mm: float, down_mm: float, height_mm: float) -> np.ndarray:
    """The LPS point that lies `right_mm` and `down_mm` of the image centre of the short-axis plane at `height_mm`.

    Heights run from the end-diastolic base plane towards the apex.
    """
    return ISOCENTRE_MM - TO_BASE * height_mm + ROW_AXIS * right_mm + COLUMN_AXIS * down_mm
