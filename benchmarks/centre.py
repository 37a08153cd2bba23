"""Where the readers put the left ventricle and end-systole, against the truth of many synthetic hearts.

python benchmarks/centre.py [--json FILE] [--subjects N] [--full N]

By the image alone and by the long-axis planes; how far the ventricle's outer wall reaches from the centre found, which a
crop must exceed. `--subjects` hearts of the small size and `--full` of the full one.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from ptacl.cmr import read_cine
from ptacl.cmr.centre import heart_centre
from ptacl.cmr.tensor import cardiac_frames, make_tensor
from ptacl.synthetic.heart import build_heart
from ptacl.synthetic.heart_files import write_heart_files
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.presets import PRESETS

SEED, EID = 4242, "9000001"
SETTINGS = {"slices": 3, "frames": 20, "crop_mm": 166, "size": 32}
NEAR_MM, SHARE, PLANES_MM = 8.0, 95.0, 1.0

Row = dict[str, object]


def measure(size: str, index: int, folder: Path) -> dict[str, float]:
    """One heart: distances in the slice's plane in mm, reach of the outer wall in mm, end-systole off by so many frames of 20."""
    rng = [SEED, index]
    truth = write_heart_files(
        draw_subject(SEED, index), eid=EID, instance=2, rng=np.random.default_rng(rng), size=size, folder=folder,
        faults=frozenset(), long_axis=True,
    )  # fmt: skip
    cine = read_cine(folder / f"{EID}_20209_2_0.zip", "ukb").decoded()
    middle = cine.slices[len(cine.slices) // 2]
    true = np.array(middle.to_pixel(np.array(truth.centre_mm)))
    away = {}
    for name, long_axis in (("image", None), ("planes", folder / f"{EID}_20208_2_0.zip")):
        found = heart_centre(cine, long_axis)
        away[name] = float(np.hypot(*((np.array(middle.to_pixel(found.point_mm)) - true) * middle.spacing_mm)))
        if name == "image":
            tensor, _ = make_tensor(cine, found.point_mm, SETTINGS)
    es = cardiac_frames(tensor, SETTINGS["crop_mm"], "ukb")[1] - truth.es_frame * SETTINGS["frames"] / cine.n_frames
    heart = build_heart(draw_subject(SEED, index), np.random.default_rng(rng), PRESETS[size])
    reach = float(heart.epi_mm[heart.below_base > 0].max())
    return {**away, "reach": away["image"] + reach, "es": abs((es + 10) % 20 - 10)}


def rows_of(size: str, subjects: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        found = [measure(size, i, Path(name)) for i in range(subjects)]
    image, planes, reach, es = (np.array([f[k] for f in found]) for k in ("image", "planes", "reach", "es"))
    what = f"{subjects} {size} hearts"
    spread = ", ".join(f"{q} % within {np.percentile(image, q):.1f} mm" for q in (50, 95, 100))
    return [
        row(f"{what}: centre by the image within {NEAR_MM:.0f} mm", 100 * np.mean(image < NEAR_MM), "%", spread, SHARE, least=True),
        row(f"{what}: centre by the planes, farthest", planes.max(), "mm", "", PLANES_MM),
        row(f"{what}: reach of the wall from the centre, farthest", reach.max(), "mm", "half of the crop", SETTINGS["crop_mm"] / 2),
        row(f"{what}: end-systole within 2 frames", 100 * np.mean(es <= 2), "%", f"mean {es.mean():.1f} off", SHARE, least=True),
    ]  # fmt: skip


def row(name: str, value: float, unit: str, peer: str, target: float, least: bool = False) -> Row:
    met = bool(value >= target if least else value <= target)
    return {"name": name, "value": round(float(value), 2), "unit": unit, "peer": peer, "target": target, "met": met}


def main() -> None:
    """Prints the table, and writes it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--subjects", type=int, default=300)
    parser.add_argument("--full", type=int, default=40)
    arguments = parser.parse_args()
    rows = rows_of("small", arguments.subjects) + rows_of("full", arguments.full)
    for r in rows:
        print(f"{r['name']}: {r['value']} {r['unit']} (target {r['target']}, met: {r['met']}; {r['peer']})")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
