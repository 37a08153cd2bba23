"""Stage quality: a shard's usable recordings as small pictures, to find bad ones by eye, and why the others are not usable.

Private: it shows individuals. Records are named by their shard and their row in its manifest, never by an id.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from ptacl.artifacts import map_tensor, read_tensors, write_bytes
from ptacl.report import words
from ptacl.report.pages import render
from ptacl.report.paper import MV_PER_COUNT, ecg_small
from ptacl.report.pictures import enlarged, jpeg
from ptacl.report.rows import Row, read_rows
from ptacl.store.schema import CMR_TABLE, CMR_TENSORS, CMR_VIEWS, ECG_TABLE, ECG_TENSORS, VERSION

# What cards are put in order by, the suspicious first: what is said, and the number of a row.
ORDERS: dict[str, tuple[str, Callable[[Row, Row], float | None]]] = {
    "flags": ("number of flags", lambda ecg, cmr: len(ecg["flags"]) + len(cmr["flags"])),
    "noise": ("noise of the ECG", lambda ecg, _: ecg["noise_ratio"]),
    "drift": ("baseline drift of the ECG", lambda ecg, _: ecg["drift_uv"]),
    "limb": ("limb leads off their identities", lambda ecg, _: ecg["einthoven_uv"]),
    "peaks": ("disagreement with the device about beats", lambda ecg, _: _disagreement(ecg)),
    "rhythm": ("irregular rhythm", lambda ecg, _: ecg["rr_irregularity"]),
    "centre": ("doubt about the heart's centre", lambda _, cmr: _less(cmr["centre_confidence"])),
}


@dataclass(frozen=True)
class Card:
    """One row: pictures where there are any, else why not.

    box: left and top end and side of the crop, as parts of the picture's side. orders: numbers to put cards in order by.
    """

    row: int
    ecg: str
    cmr: str
    box: tuple[float, float, float]
    why: list[str]
    flags: list[tuple[str, str]]
    facts: list[str]
    orders: dict[str, float]


@dataclass(frozen=True)
class Shard:
    """The tables of a shard, row by row as in its manifest."""

    name: str
    ecg: list[Row]
    cmr: list[Row]

    @property
    def rows(self) -> list[tuple[Row, Row]]:
        return list(zip(self.ecg, self.cmr, strict=True))


def load_shard(results: Path, name: str) -> Shard:
    """Reads both tables of a shard. Raises ArtifactError."""
    ecg, cmr = results / f"ecg/{name}.parquet", results / f"cmr/{name}.parquet"
    return Shard(name, read_rows(ecg, ECG_TABLE), read_rows(cmr, CMR_TABLE))


def build_quality_page(results: Path, name: str, settings: Mapping[str, Any], out: Path) -> None:
    """Writes the page of one shard; settings: shards (how many there are)."""
    shard = load_shard(results, name)
    # Mapped: of a cine two frames of one slice are looked at.
    strips = map_tensor(results / f"ecg/{name}.safetensors", "ecg", kind=ECG_TENSORS, version=VERSION[ECG_TENSORS])
    cines = map_tensor(results / f"cmr/{name}.safetensors", "cine", kind=CMR_TENSORS, version=VERSION[CMR_TENSORS])
    views = read_tensors(results / f"cmr/{name}_views.safetensors", kind=CMR_VIEWS, version=VERSION[CMR_VIEWS])
    cards = []
    for i, (ecg, cmr) in enumerate(shard.rows):
        strip, picture, box = "", "", (0.0, 0.0, 0.0)
        if ecg["tensor_row"] is not None:
            strip = ecg_small(strips[ecg["tensor_row"]] * MV_PER_COUNT, ecg["lead_mask"])
        if (at := cmr["tensor_row"]) is not None:
            picture = jpeg(_row_of_pictures(views["view"][at], cines[at], cmr))
            left, top, side = views["box"][at].tolist()
            box = left, top, side
        cards.append(_card(i, ecg, cmr, strip, picture, box))
    number = int(name)
    neighbours = [(f"{k:04d}", word) for k, word in ((number - 1, "Shard before"), (number + 1, "Shard after"))]
    page = render(
        "quality.html.j2",
        title=f"Recordings of shard {name}",
        scripts=("quality.js",),
        shard=name,
        cards=cards,
        orders={k: said for k, (said, _) in ORDERS.items()},
        flags=Counter(f for c in cards for f in c.flags).most_common(),
        usable=sum(not c.why for c in cards),
        neighbours=[(n, word) for n, word in neighbours if 0 <= int(n) < settings["shards"]],
    )
    write_bytes(out, page.encode())


def build_quality_index(results: Path, names: Sequence[str], out: Path) -> None:
    """Writes the list of shards with what is in them, reasons and flags over all.

    Pages of shards that are no longer there are deleted: they show people whom nobody would look for in them.
    """
    for page in out.parent.glob("[0-9]*.html"):
        if page.stem not in names:
            page.unlink()
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    table: list[list[str]] = [["Shard", "Records", "Usable ECG and MRI", "Flagged", "Not usable"]]
    for name in names:
        rows = load_shard(results, name).rows
        why = [_why(*r) for r in rows]
        flagged = sum(bool(e["flags"] or c["flags"]) for e, c in rows)
        usable = sum(not w for w in why)
        link = Markup('<a href="{0}.html">{0}</a>').format(name)
        table.append([link, *map(str, (len(rows), usable, flagged, len(rows) - usable))])
        reasons.update(r for w in why for r in w)
        total.update(words.flag(f) for r in rows for half in r for f in half["flags"])
    text = render(
        "quality_index.html.j2",
        title="All recordings, to look through",
        scripts=("tables.js",),
        shards=table,
        reasons=[[n, str(k)] for n, k in reasons.most_common()],
        flags=[[n, str(k)] for n, k in total.most_common()],
    )
    write_bytes(out, text.encode())


def _card(row: int, ecg: Row, cmr: Row, strip: str, picture: str, box: tuple[float, float, float]) -> Card:
    flags = [(f"ecg-{f}", f"ECG: {words.flag(f)}") for f in ecg["flags"]]
    flags += [(f"cmr-{f}", f"MRI: {words.flag(f)}") for f in cmr["flags"]]
    facts = []
    if ecg["heart_rate_bpm"] is not None:
        facts.append(f"{ecg['heart_rate_bpm']:.0f}/min")
    if cmr["n_slices"] is not None:
        facts.append(f"{cmr['n_slices']} slices, {cmr['n_frames']} frames")
    if cmr["centre_method"] is not None:
        facts.append(f"centre by {words.CENTRES.get(cmr['centre_method'], cmr['centre_method'])}")
    if picture and (min(box[:2]) < 0 or max(box[:2]) + box[2] > 1):
        facts.append("the crop reaches beyond the image")
    numbers = {k: of(ecg, cmr) for k, (_, of) in ORDERS.items()}
    orders = {k: round(v, 4) for k, v in numbers.items() if v is not None and np.isfinite(v)}
    return Card(row, strip, picture, box, _why(ecg, cmr), flags, facts, orders)


def _why(ecg: Row, cmr: Row) -> list[str]:
    """Why a record has no usable pair, in words; empty where it has."""
    found = []
    for side, row in (("ecg", ecg), ("cmr", cmr)):
        if row["status"] != "ok":
            found.append(words.reason(f"no_{side}" if row["status"] == "absent" else f"{side}_{row['reason']}"))
    return found


def _row_of_pictures(view: np.ndarray, cine: np.ndarray, row: Row) -> np.ndarray:
    """The whole image, and what the model sees of its slice at end-diastole and end-systole: uint8 [P, 3 P]."""
    middle, size = cine[len(cine) // 2], view.shape[0]
    return np.concatenate([view, *(enlarged(middle[row[f]], size) for f in ("ed_frame", "es_frame"))], axis=1)


def _disagreement(ecg: Row) -> float | None:
    """How far our rate is from the device's, as a logarithm, and the share of its beats that none of ours lies at."""
    ratio, matched = ecg["r_agreement"], ecg["beats_matched"]
    if ratio is None and matched is None:
        return None
    return (abs(math.log(ratio)) if ratio else 0.0) + (1 - matched if matched is not None else 0.0)


def _less(value: float | None) -> float | None:
    return None if value is None else -value
