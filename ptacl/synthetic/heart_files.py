"""One subject's heart as files: short-axis zip, long-axis zip, and what is true of them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ptacl.artifacts import write_bytes
from ptacl.synthetic.cine import BLOOD_LEVEL, BLOOD_SNR, TISSUE, lv_offset_mm, render
from ptacl.synthetic.dicom import Series, zip_of_series
from ptacl.synthetic.heart import Heart, build_heart
from ptacl.synthetic.latents import Subject
from ptacl.synthetic.presets import PRESETS, Preset

# Short-axis planes: the normal runs from apex to base, the apex to the left, front and feet (LPS).
_TO_BASE = np.array([-0.60, 0.50, 0.62]) / np.linalg.norm([-0.60, 0.50, 0.62])
ROW_AXIS = np.cross([0.0, 0.0, 1.0], _TO_BASE) / np.linalg.norm(np.cross([0.0, 0.0, 1.0], _TO_BASE))
COLUMN_AXIS = np.cross(_TO_BASE, ROW_AXIS)
ISOCENTRE_MM = np.array([-20.0, -10.0, 40.0])
LONG_AXIS_SIDE, LONG_AXIS_PIXEL_MM = 56, 4.0


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

    Faults: truncated_zip, missing_slice, duplicate_series, inlinevf_series, frame_count, instance_from_51, manifest_csv.
    """
    preset = PRESETS[size]
    heart = build_heart(subject, rng, preset)
    lv_mm = lv_offset_mm(rng)
    volume = render(heart, subject, rng, preset, lv_mm)
    series = _with_faults(_short_axis(heart, volume, preset), faults, preset)
    manifest = "manifest.csv" if "manifest_csv" in faults else "manifest.cvs"
    sex, age = subject.sex, round(subject.age_years)
    data = zip_of_series(eid, sex, age, series, rng, manifest)
    if "truncated_zip" in faults:
        data = data[: int(0.8 * len(data))]
    write_bytes(folder / f"{eid}_20209_{instance}_0.zip", data)

    middle = heart.heights_mm[len(heart.heights_mm) // 2]
    centre = ISOCENTRE_MM - _TO_BASE * middle + ROW_AXIS * lv_mm[0] + COLUMN_AXIS * lv_mm[1]
    if long_axis:
        planes = _long_axis(heart, preset, centre, middle, rng)
        write_bytes(folder / f"{eid}_20208_{instance}_0.zip", zip_of_series(eid, sex, age, planes, rng))
    return HeartTruth(heart.phenotypes, heart.timings, tuple(centre.tolist()), heart.es_frame, heart.timing.rr)


def _short_axis(heart: Heart, volume: np.ndarray, preset: Preset) -> list[Series]:
    corner = ROW_AXIS * preset.pixel_mm * preset.columns / 2 + COLUMN_AXIS * preset.pixel_mm * preset.rows / 2
    return [
        Series(
            number=10 + k, description=f"CINE_segmented_SAX_b{k + 1}", pixels=volume[k],
            origin_mm=ISOCENTRE_MM - _TO_BASE * height - corner, row_axis=ROW_AXIS, column_axis=COLUMN_AXIS,
            pixel_mm=preset.pixel_mm, rr_ms=heart.timing.rr, private_blocks=preset.private_blocks,
        )
        for k, height in enumerate(heart.heights_mm)
    ]  # fmt: skip


def _with_faults(series: list[Series], faults: frozenset[str], preset: Preset) -> list[Series]:
    middle, frames = preset.n_slices // 2, preset.n_frames
    if "duplicate_series" in faults:
        # A first, shorter attempt at one slice; the later, complete one counts.
        attempt = range(frames - 5)
        series.append(
            replace(
                series[middle], number=60, pixels=series[middle].pixels[: len(attempt)] // 2, acquisition_time="100901",
            )
        )  # fmt: skip
    if "inlinevf_series" in faults:
        name = "CINE_segmented_SAX_InlineVF"
        series.append(replace(series[0], number=70, description=name, pixels=series[0].pixels.max() - series[0].pixels))
    if "frame_count" in faults:
        keep = [k for k in range(frames) if k != frames // 3]
        series[1] = replace(series[1], pixels=series[1].pixels[keep], frames=keep)
    if "instance_from_51" in faults:
        series[2] = replace(series[2], first_instance=frames + 1)
    if "missing_slice" in faults:
        del series[middle]
    return series


def _long_axis(
    heart: Heart, preset: Preset, centre: np.ndarray, middle_mm: float, rng: np.random.Generator
) -> list[Series]:
    """Two- and four-chamber planes through the LV axis, the ventricle as half an ellipsoid under the moving base."""
    side, pixel = LONG_AXIS_SIDE, LONG_AXIS_PIXEL_MM
    y, x = np.mgrid[0:side, 0:side]
    across, along = (x - side / 2) * pixel, (y - side / 2) * pixel + middle_mm
    length = 1.72 * (heart.phenotypes["LVEDV"] * 1e3) ** (1 / 3)
    base = 12.0 * (1 - heart.share)[:, None, None]
    depth = (along - base) / (length - base)
    radius = np.sqrt(np.clip(1 - (-0.5 + 1.5 * depth) ** 2, 0, None))
    width = np.sqrt(outer := heart.endo_mm[len(heart.endo_mm) // 2].mean(-1) ** 2)[:, None, None] * 1.1
    inside = (depth > 0) & (depth < 1)
    wall = inside & (np.abs(across) < radius * width + 9)
    cavity = inside & (np.abs(across) < radius * width)
    image = np.where(cavity, TISSUE["blood"], np.where(wall, TISSUE["myocardium"], TISSUE["lung"]))
    image = image * BLOOD_LEVEL / TISSUE["blood"] + rng.normal(0, BLOOD_LEVEL / BLOOD_SNR, (len(outer), side, side))
    planes = []
    for number, (name, turn) in enumerate((("2Ch", 90.0), ("4Ch", 10.0))):
        a = np.deg2rad(turn)
        in_plane = np.cos(a) * ROW_AXIS + np.sin(a) * COLUMN_AXIS
        planes.append(
            Series(
                number=80 + number, description=f"CINE_segmented_LAX_{name}",
                pixels=np.clip(image, 0, 4095).astype(np.uint16),
                origin_mm=centre - in_plane * pixel * side / 2 + _TO_BASE * pixel * side / 2,
                row_axis=in_plane, column_axis=-_TO_BASE, pixel_mm=pixel, rr_ms=heart.timing.rr,
            )
        )  # fmt: skip
    return planes
