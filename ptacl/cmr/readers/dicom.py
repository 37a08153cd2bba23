"""Short-axis cine as a zip or a folder of DICOM files; the manifest in the zip is not needed and not read."""

import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ptacl.cmr.header import Frame, parse_frame
from ptacl.cmr.record import Cine, Slice
from ptacl.cmr.stack import PARALLEL, order_stack
from ptacl.errors import UnreadableCine

MAX_FILES, MAX_FILE_BYTES, MAX_TOTAL_BYTES = 20000, 64 * 2**20, 2 * 2**30
MIN_FRAMES, MIN_COMPLETE = 8, 0.9
SAME_POSITION_MM = 1.0

_SHORT_AXIS = re.compile(r"CINE_segmented_SAX(_b\d+)?", re.IGNORECASE)
_RESULT = re.compile(r"inline_?vf", re.IGNORECASE)


def read_dicom(path: Path, source: str) -> Cine:
    """Reads one short-axis stack. Raises UnreadableCine."""
    frames, flags = read_frames(path)
    wanted = [f for f in frames if _is_cine(f, source)]
    if not wanted:
        raise UnreadableCine("no_cine_series", f"{len(frames)} images, none of a short-axis cine")
    if any(_RESULT.search(f.description) for f in frames):
        flags.add("inlinevf_series")
    candidates = _largest_parallel_set(_split_by_position(wanted))
    chosen, n_repeats = _resolve_repeats(candidates)
    if n_repeats:
        flags.add("repeated_slice")
    n_frames = Counter(len(c) for c in chosen).most_common()
    # The commonest number of frames is the stack's; of equally common ones the larger.
    full = max(n for n, times in n_frames if times == n_frames[0][1])
    slices = []
    for candidate in chosen:
        if len(candidate) < MIN_COMPLETE * full:
            flags.add("slice_dropped")
            continue
        try:
            slices.append(_slice(candidate, full, flags))
        except ValueError:
            flags.add("slice_dropped")
    if not slices:
        raise UnreadableCine("truncated", "no slice can be decoded")
    return order_stack("dicom", slices, _nominal_rr(chosen), n_repeats, flags)


def read_frames(path: Path) -> tuple[list[Frame], set[str]]:
    """Every image of a zip or folder, sorted by series and instance; and flags. Raises UnreadableCine.

    Names within a zip are never used as paths.
    """
    frames, flags, total, seen = [], set(), 0, 0
    for data in _files(path):
        seen += 1
        if data is None:
            flags.add("corrupt_file")
            continue
        total += len(data)
        if seen > MAX_FILES or total > MAX_TOTAL_BYTES:
            raise UnreadableCine("too_large", "more or larger files than any cine has")
        frame = parse_frame(data)
        if frame is not None:
            frames.append(frame)
    if not frames:
        code = "truncated" if "corrupt_file" in flags else "empty_zip" if path.is_file() else "not_a_cine"
        raise UnreadableCine(code, "no DICOM image inside")
    return sorted(frames, key=lambda f: (f.series, f.instance, f.trigger_ms)), flags


def _files(path: Path) -> Iterator[bytes | None]:
    """Contents of the files of a folder or zip in name order; None for one that can't be read."""
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            yield file.read_bytes() if file.stat().st_size <= MAX_FILE_BYTES else None
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda m: m.filename)
            if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_TOTAL_BYTES:
                raise UnreadableCine("too_large", "the zip announces more than any cine has")
            for member in members:
                if member.is_dir() or member.filename.lower().endswith((".csv", ".cvs", ".txt", ".xml")):
                    continue
                yield _member(archive, member)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError):
        raise UnreadableCine("truncated", "the zip breaks off or is damaged") from None


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | None:
    """A member's content, None where it is damaged, encrypted or larger than an image can be."""
    if member.file_size > MAX_FILE_BYTES:
        return None
    try:
        with archive.open(member) as f:
            data = f.read(MAX_FILE_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, NotImplementedError):
        return None
    return data if len(data) <= MAX_FILE_BYTES else None


def _is_cine(frame: Frame, source: str) -> bool:
    if _RESULT.search(frame.description) or (frame.derived and np.isnan(frame.trigger_ms)):
        return False
    return source != "ukb" or _SHORT_AXIS.fullmatch(frame.description) is not None


def _split_by_position(frames: list[Frame]) -> list[list[Frame]]:
    """Frames of one series at one position and orientation, in cycle order: candidates for a slice."""
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for f in frames:
        normal = np.cross(f.row_axis, f.column_axis)
        key = f.series, round(float(f.origin_mm @ normal), 1), *np.round(f.origin_mm, 0), f.rows, f.columns
        groups[key].append(f)
    candidates = []
    for group in groups.values():
        # The same instant twice in one series: the later instance is the repeat that was kept.
        by_time = {(f.trigger_ms if np.isfinite(f.trigger_ms) else f.instance): f for f in group}
        if len(by_time) < 2:
            by_time = {float(f.instance): f for f in group}
        candidates.append(sorted(by_time.values(), key=lambda f: (np.nan_to_num(f.trigger_ms), f.instance)))
    return [c for c in candidates if len(c) >= MIN_FRAMES]


def _largest_parallel_set(candidates: list[list[Frame]]) -> list[list[Frame]]:
    """The candidates whose plane is parallel to that of as many others as possible."""
    if not candidates:
        raise UnreadableCine("no_cine_series", f"no slice has {MIN_FRAMES} frames")
    axes = np.array([np.concatenate([c[0].row_axis, c[0].column_axis]) for c in candidates])
    parallel = (axes[:, :3] @ axes[:, :3].T > PARALLEL) & (axes[:, 3:] @ axes[:, 3:].T > PARALLEL)
    normals = np.cross(axes[:, :3], axes[:, 3:])
    places = [round(float(c[0].origin_mm @ n)) for c, n in zip(candidates, normals, strict=True)]
    size = [len({places[j] for j in np.flatnonzero(row)}) for row in parallel]
    return [candidates[j] for j in np.flatnonzero(parallel[int(np.argmax(size))])]


def _resolve_repeats(candidates: list[list[Frame]]) -> tuple[list[list[Frame]], int]:
    """One candidate per position: the most complete, then the latest. Returns them and the number left out."""
    normal = np.cross(candidates[0][0].row_axis, candidates[0][0].column_axis)
    candidates = sorted(candidates, key=lambda c: float(c[0].origin_mm @ normal))
    groups: list[list[list[Frame]]] = []
    for candidate in candidates:
        place = float(candidate[0].origin_mm @ normal)
        if groups and abs(place - float(groups[-1][0][0].origin_mm @ normal)) < SAME_POSITION_MM:
            groups[-1].append(candidate)
        else:
            groups.append([candidate])

    def rank(c: list[Frame]) -> tuple[int, str, float]:
        return len(c), c[0].acquisition_time, np.nan_to_num(c[0].series_number)

    return [max(g, key=rank) for g in groups], len(candidates) - len(groups)


def _slice(frames: list[Frame], full: int, flags: set[str]) -> Slice:
    """Decodes one slice; a few missing frames are interpolated on phase. Raises ValueError."""
    pixels = np.stack([f.pixels() for f in frames])
    trigger = np.array([f.trigger_ms for f in frames])
    if len(frames) != full:
        pixels = _fill_frames(pixels, trigger, full)
        trigger = np.full(full, np.nan)
        flags.add("frames_interpolated")
    first = frames[0]
    return Slice(
        pixels, first.origin_mm, first.row_axis, first.column_axis, first.spacing_mm, trigger,
        [f.instance for f in frames],
    )  # fmt: skip


def _fill_frames(pixels: np.ndarray, trigger_ms: np.ndarray, full: int) -> np.ndarray:
    """Frames at the phases k / full by circular linear interpolation between those there."""
    n = len(pixels)
    step = np.nanmedian(np.diff(trigger_ms)) if np.isfinite(trigger_ms).all() else np.nan
    # Positions in units of a frame; without timing the gap is unknown, and the frames are spread evenly.
    known = (trigger_ms - trigger_ms[0]) / step if np.isfinite(step) and step > 0 else np.arange(n) * full / n
    known = np.concatenate([known, [known[0] + full]])
    target = np.arange(full, dtype=float)
    right = np.clip(np.searchsorted(known, target, side="right"), 1, n)
    weight = (target - known[right - 1]) / np.maximum(known[right] - known[right - 1], 1e-6)
    weight = np.clip(weight, 0, 1)[:, None, None].astype(np.float32)
    return ((1 - weight) * pixels[right - 1] + weight * pixels[right % n]).astype(np.float32)


def _nominal_rr(chosen: list[list[Frame]]) -> float | None:
    """Median of the headers' NominalInterval, where there is a plausible one."""
    values = [f.nominal_rr_ms for c in chosen for f in c[:1] if 300 <= f.nominal_rr_ms <= 3000]
    return float(np.median(values)) if values else None
