"""Enhanced multi-frame MR objects: one file that holds every frame of one or of all slices."""

import functools
import warnings
from typing import Any

import numpy as np
import pydicom

from ptacl.cmr.container import MAX_TOTAL_BYTES, Member
from ptacl.cmr.dataset import open_dataset
from ptacl.cmr.frame import Frame, make_plane
from ptacl.cmr.pixels import decode, has_overlay, rescaled

MAX_FRAMES = 4096


def enhanced_frames(member: Member) -> list[Frame]:
    """Frames of one enhanced object, in their order in the file; none of one in colour.

    Raises ValueError where it is damaged or absurd.
    """
    data = member.content()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _frames(open_dataset(data, headers_only=True), member)
    except ValueError:
        raise
    except Exception as e:  # damaged functional groups make pydicom raise many types
        raise ValueError(f"not a readable multi-frame object ({type(e).__name__})") from None


def _frames(dataset: pydicom.Dataset, member: Member) -> list[Frame]:
    count, rows, columns = int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns)
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        return []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if not 0 < count <= MAX_FRAMES or len(per_frame) != count or count * rows * columns * 2 > MAX_TOTAL_BYTES:
        raise ValueError("implausible number of frames")
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    volume = _Volume(member)
    image_type = {str(t).upper() for t in dataset.get("ImageType") or []}
    return [
        _frame(dataset, _Groups(per_frame[k], shared), k, volume, derived="DERIVED" in image_type) for k in range(count)
    ]


class _Groups:
    """Values of a frame's functional groups, else of those shared by all frames."""

    def __init__(self, own: pydicom.Dataset, shared: pydicom.Dataset) -> None:
        self.datasets = own, shared

    def get(self, sequence: str, name: str) -> Any:
        for dataset in self.datasets:
            items = dataset.get(sequence)
            if items and items[0].get(name) is not None:
                return items[0].get(name)
        return None

    def floats(self, sequence: str, name: str, count: int) -> np.ndarray:
        value = np.atleast_1d(np.array(self.get(sequence, name), np.float64))
        if value.shape != (count,) or not np.isfinite(value).all() or np.abs(value).max() > 1e5:
            raise ValueError(f"no plausible {name}")
        return value

    def number(self, sequence: str, *names: str) -> float:
        for name in names:
            value = self.get(sequence, name)
            if value is not None and np.isfinite(float(value)):
                return float(value)
        return float("nan")


class _Volume:
    """The pixels of one object, decoded once for all its frames."""

    def __init__(self, member: Member) -> None:
        self._member = member

    @functools.cached_property
    def _decoded(self) -> np.ndarray | None:
        """None is kept too: damage would else be looked for again by every frame."""
        try:
            return decode(self._member.content())
        except ValueError:
            return None

    @property
    def pixels(self) -> np.ndarray:
        """[frames, rows, columns]. Raises ValueError where they can't be decoded."""
        if self._decoded is None:
            raise ValueError("a multi-frame object that can't be decoded")
        return self._decoded

    @functools.cached_property
    def has_overlay(self) -> bool:
        return has_overlay(self._member.content(), explicit_little=False)


def _frame(dataset: pydicom.Dataset, groups: _Groups, k: int, volume: _Volume, derived: bool) -> Frame:
    plane = make_plane(
        groups.floats("PlanePositionSequence", "ImagePositionPatient", 3),
        groups.floats("PlaneOrientationSequence", "ImageOrientationPatient", 6),
        groups.floats("PixelMeasuresSequence", "PixelSpacing", 2),
        int(dataset.Rows),
        int(dataset.Columns),
    )
    slope = groups.number("PixelValueTransformationSequence", "RescaleSlope")
    intercept = groups.number("PixelValueTransformationSequence", "RescaleIntercept")
    timing = "CardiacSynchronizationSequence"

    def load() -> np.ndarray:
        return rescaled(volume.pixels.reshape(-1, plane.rows, plane.columns)[k], slope, intercept)

    return Frame(
        series=str(dataset.get("SeriesInstanceUID", "")),
        description=str(dataset.get("SeriesDescription", "")).strip(),
        derived=derived,
        acquisition_time=str(dataset.get("AcquisitionDateTime", "") or dataset.get("AcquisitionTime", "")),
        series_number=float(dataset.get("SeriesNumber") or "nan"),
        instance=k + 1,
        trigger_ms=groups.number(timing, "NominalCardiacTriggerDelayTime", "ActualCardiacTriggerDelayTime"),
        nominal_rr_ms=groups.number(timing, "RRIntervalTimeNominal"),
        cycle_frames=0,
        plane=plane,
        inverted=str(dataset.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1",
        load=load,
        has_overlay=lambda: volume.has_overlay,
    )
