"""One subject's heart as files: short-axis zip, long-axis zip, and what is true of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ptacl.artifacts import write_bytes
from ptacl.synthetic.cine import lv_offset_mm, render
from ptacl.synthetic.dicom import Series, zip_of_series
from ptacl.synthetic.heart import Heart, build_heart
from ptacl.synthetic.latents import Subject
from ptacl.synthetic.longaxis import long_axis_series
from ptacl.synthetic.planes import COLUMN_AXIS, ROW_AXIS, point_mm
from ptacl.synthetic.presets import PRESETS, Preset


@dataclass(frozen=True)
class HeartTruth:
    """What the rendered heart is: phenotypes and timings, LV centre (LPS mm, on the LV axis), ES frame, RR."""

    phenotypes: dict[str, float]
    timings: dict[str, float]
    centre_mm: tuple[float, float, float]
    es_frame: int
    rr_ms: float


def write_heart_files(
    subject: Subject,
    *,
    eid: str,
    instance: int,
    rng: np.random.Generator,
    size: str,
    folder: Path,
    faults: frozenset[str],
    long_axis: bool,
) -> HeartTruth:
    """Writes `{eid}_20209_{instance}_0.zip`, and `{eid}_20208_...` where wanted, into `folder`.

    Faults: truncated_zip, missing_slice, duplicate_series, inlinevf_series, frame_count, instance_from_51 (the first
    number after the frames'), manifest_csv.
    """
    preset = PRESETS[size]
    heart = build_heart(subject, rng, preset)
    lv_mm = lv_offset_mm(rng)
    volume = render(heart, subject, rng, preset, lv_mm)
    series = _with_faults(_short_axis(heart, volume, preset), faults, preset)
    person: dict[str, Any] = {"eid": eid, "visit": instance, "sex": subject.sex, "age": round(subject.age_years)}
    manifest = "manifest.csv" if "manifest_csv" in faults else "manifest.cvs"
    data = zip_of_series(series, rng, **person, manifest=manifest)
    if "truncated_zip" in faults:
        data = data[: int(0.8 * len(data))]
    write_bytes(folder / f"{eid}_20209_{instance}_0.zip", data)

    middle = float(heart.heights_mm[len(heart.heights_mm) // 2])
    centre = point_mm(*lv_mm, middle)
    if long_axis:
        data = zip_of_series(long_axis_series(heart, centre, middle, rng), rng, **person, manifest="manifest.cvs")
        write_bytes(folder / f"{eid}_20208_{instance}_0.zip", data)
    return HeartTruth(heart.phenotypes, heart.timings, tuple(centre.tolist()), heart.es_frame, heart.timing.rr)


def _short_axis(heart: Heart, volume: np.ndarray, preset: Preset) -> list[Series]:
    """One series per slice, from base to apex, at its nominal position, a breath-hold after the one before."""
    left, top = -preset.pixel_mm * preset.columns / 2, -preset.pixel_mm * preset.rows / 2
    return [
        Series(
            number=10 + k, description=f"CINE_segmented_SAX_b{k + 1}", pixels=volume[k],
            origin_mm=point_mm(left, top, height), row_axis=ROW_AXIS, column_axis=COLUMN_AXIS,
            pixel_mm=preset.pixel_mm, thickness_mm=preset.thickness_mm, location_mm=-height, step_mm=preset.step_mm,
            rr_ms=heart.timing.rr, acquisition_time=f"10{12 + k}31", private_blocks=preset.private_blocks,
        )
        for k, height in enumerate(heart.heights_mm)
    ]  # fmt: skip


def _with_faults(series: list[Series], faults: frozenset[str], preset: Preset) -> list[Series]:
    middle, frames = preset.n_slices // 2, preset.n_frames
    if "duplicate_series" in faults:
        # A first attempt at one slice, darker and broken off early; the later, complete one counts.
        attempt = series[middle].pixels[: frames - 5] // 2
        series.append(
            replace(series[middle], number=60, pixels=attempt, cycle_frames=frames, acquisition_time="100901")
        )
    if "inlinevf_series" in faults:
        name = "CINE_segmented_SAX_InlineVF"
        series.append(replace(series[0], number=70, description=name, pixels=series[0].pixels.max() - series[0].pixels))
    if "frame_count" in faults:
        keep = [k for k in range(frames) if k != frames // 3]
        series[1] = replace(series[1], pixels=series[1].pixels[keep], frames=keep, cycle_frames=frames)
    if "instance_from_51" in faults:
        series[2] = replace(series[2], first_instance=frames + 1)
    if "missing_slice" in faults:
        del series[middle]
    return series
