"""Who is who: splits and shards by keyed hash, duplicates, and files that serve two people."""

import hashlib
import hmac
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

SPLITS = ("train", "val", "calibration", "test")
_UPPER = (0.60, 0.70, 0.85, 1.0)
SMALL_STUDY = 20


@dataclass(frozen=True)
class Row:
    """One (subject, visit) with its files; paths are relative to the cohort's root where they lie below it."""

    subject_id: str
    visit: int
    ecg_path: str | None = None
    cmr_path: str | None = None
    lax_path: str | None = None

    @property
    def paths(self) -> list[str]:
        return [p for p in (self.ecg_path, self.cmr_path, self.lax_path) if p]


def keyed_fraction(subject_id: str, key: str, purpose: str) -> float:
    """A number in [0, 1) from HMAC-SHA256 of the id: the same for ever, unrelated between purposes."""
    digest = hmac.new(key.encode(), f"{purpose}:{subject_id}".encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign_splits(subjects: Sequence[str], key: str) -> dict[str, str]:
    """Split of each subject, 60/10/15/15 into train, val, calibration, test.

    By the hash itself, so that newcomers move nobody; with fewer than 20 subjects by its rank, so that no part is empty
    from four subjects up.
    """
    fraction = {s: keyed_fraction(s, key, "split") for s in set(subjects)}
    if len(fraction) >= SMALL_STUDY:
        return {s: _split(f) for s, f in fraction.items()}
    ranked, n = sorted(fraction, key=lambda s: (fraction[s], s)), len(fraction)
    # One each for val, calibration and test first, as far as there are people; shares of the rest by rounding.
    sizes = [0, *(max(round(n * share), 1 if n >= 4 else 0) for share in (0.10, 0.15, 0.15))]
    sizes[0] = n - sum(sizes)
    names = [name for name, size in zip(SPLITS, sizes, strict=True) for _ in range(size)]
    return dict(zip(ranked, names, strict=True))


def _split(fraction: float) -> str:
    return next(name for name, upper in zip(SPLITS, _UPPER, strict=True) if fraction < upper)


def shard_of(subject_id: str, key: str, shards: int) -> int:
    """The shard of a subject, 0 <= shard < shards."""
    return int(keyed_fraction(subject_id, key, "shard") * shards)


def resolve_duplicates(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The same (subject, visit) twice: the first path in sort order stays. Returns (kept, excluded)."""
    kept: dict[tuple[str, int], Row] = {}
    excluded: list[Row] = []
    for row in sorted(rows, key=lambda r: (r.subject_id, r.visit, r.paths)):
        if (row.subject_id, row.visit) in kept:
            excluded.append(row)
        else:
            kept[row.subject_id, row.visit] = row
    return list(kept.values()), excluded


def shared_files(rows: list[Row], root: Path) -> set[tuple[str, int]]:
    """The (subject, visit) rows that hold a file which another subject holds too.

    Same path, same inode, or the same content (compared only where sizes agree).
    """
    by_size: dict[int, list[tuple[Row, Path]]] = defaultdict(list)
    by_file: dict[object, set[Row]] = defaultdict(set)
    for row in rows:
        for name in row.paths:
            path = root / name
            by_file["path", name].add(row)
            try:
                stat = path.stat()
            except OSError:
                continue
            if path.is_file():
                by_file["inode", stat.st_dev, stat.st_ino].add(row)
                by_size[stat.st_size].append((row, path))
    for candidates in by_size.values():
        if len({row.subject_id for row, _ in candidates}) > 1:
            for row, path in candidates:
                # A WFDB header is text of a few hundred bytes; its signal file tells people apart.
                by_file["content", *map(_content, _signal_files(path))].add(row)
    return {
        (row.subject_id, row.visit)
        for holders in by_file.values()
        if len({r.subject_id for r in holders}) > 1
        for row in holders
    }


def _signal_files(path: Path) -> list[Path]:
    if path.suffix != ".hea":
        return [path]
    return sorted(p for s in (".mat", ".dat") if (p := path.with_suffix(s)).is_file()) or [path]


def _content(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def relative(row: Row, root: Path) -> Row:
    """The row with paths relative to `root` where they lie below it."""

    def shorten(name: str | None) -> str | None:
        if name is None:
            return None
        path = Path(name)
        return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else name

    return replace(row, ecg_path=shorten(row.ecg_path), cmr_path=shorten(row.cmr_path), lax_path=shorten(row.lax_path))
