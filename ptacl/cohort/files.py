"""The raw files of the rows: size, time and identity of each, asked for once, and files that serve two people."""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ptacl.cohort.identity import PATHS

# How much of two files of one size is compared, from either end, before the whole of them is.
_REACHES = (2**12, 2**16, None)
_SIGNALS = (".mat", ".dat", ".MAT", ".DAT")


@dataclass(frozen=True)
class Files:
    """Facts about distinct paths [m]; sizes and times are -1 where there is no such file.

    A WFDB header counts together with its signal file, a folder with the files in it. `signal` is what tells people apart by
    its content: the signal file of a header, else the file or folder itself; `inode` is (device, number) of it.
    """

    paths: pa.Array
    size: np.ndarray
    mtime_ns: np.ndarray
    signal: list[str | None]
    signal_size: np.ndarray
    inode: np.ndarray

    def places(self, column: pa.ChunkedArray) -> np.ndarray:
        """Where each path of a column stands in `paths`, -1 for null; int64 [n]."""
        found = pc.index_in(column, value_set=self.paths)
        return pc.if_else(pc.is_valid(column), found, -1).to_numpy().astype(np.int64)


def facts(rows: pa.Table, root: Path, known: Mapping[str, os.stat_result]) -> Files:
    """Looks at every file of the rows once; `known` holds what listing the folders has told already, by path."""
    columns = [rows[c].combine_chunks().drop_null() for c in PATHS]
    paths = pa.concat_arrays(columns).unique()
    m, base = len(paths), os.fspath(root)
    size, mtime, signal_size = (np.full(m, -1, np.int64) for _ in range(3))
    inode = np.full((m, 2), -1, np.int64)
    signal: list[str | None] = [None] * m
    for i, name in enumerate(paths.to_pylist()):
        path = os.path.join(base, name)
        try:
            own = known[name] if name in known else os.stat(path)
        except (OSError, ValueError):  # ValueError: a NUL in the name
            continue
        signal[i], told, parts = path, own, [own]
        is_folder = stat.S_ISDIR(own.st_mode)
        if is_folder:
            parts = [s for p in _files_below(path) if (s := _stat(p))]
        elif path.lower().endswith(".hea"):
            found = {p: s for suffix in _SIGNALS if (s := _stat(p := path[:-4] + suffix))}
            parts += found.values()
            signal[i], told = next(iter(found.items()), (path, own))
        size[i] = sum(s.st_size for s in parts)
        mtime[i] = max((s.st_mtime_ns for s in parts), default=0)
        signal_size[i] = size[i] if is_folder else told.st_size
        inode[i] = told.st_dev, np.uint64(told.st_ino).astype(np.int64)
    return Files(paths, size, mtime, signal, signal_size, inode)


def _files_below(folder: str) -> list[str]:
    return sorted(os.path.join(d, name) for d, _, names in os.walk(folder) for name in names)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def shared(rows: pa.Table, files: Files) -> np.ndarray:
    """Whether each row holds a file that another subject holds too, bool [n].

    Same path, same inode, or the same content: compared only where sizes agree between different subjects, first a little
    from both ends and the whole only where that agrees. Empty files have no content to share.
    """
    who_of = rows["subject_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    places = [files.places(rows[c]) for c in PATHS]
    row = np.concatenate([np.flatnonzero(p >= 0) for p in places])
    file = np.concatenate([p[p >= 0] for p in places])
    who = who_of[row]
    by_two = _held_by_two(file, who)
    _, inodes = np.unique(files.inode, axis=0, return_inverse=True)
    by_two |= _held_by_two(np.where(files.inode[file, 1] > 0, inodes.reshape(-1)[file], -1), who)
    group = np.where(files.signal_size[file] > 0, files.signal_size[file], -1)
    alike = _held_by_two(group, who)
    for reach in _REACHES:
        codes: dict[tuple[int, bytes], int] = {}
        suspects, before = file[alike].tolist(), group[alike].tolist()
        of_file = {
            f: codes.setdefault((g, _digest(str(files.signal[f]), reach)), len(codes))
            for f, g in dict(zip(suspects, before, strict=True)).items()
        }
        group = np.full(len(file), -1)
        group[alike] = [of_file[f] for f in suspects]
        alike = _held_by_two(group, who)
    result = np.zeros(rows.num_rows, bool)
    result[row[by_two | alike]] = True
    return result


def _held_by_two(group: np.ndarray, who: np.ndarray) -> np.ndarray:
    """Whether the group (int [k], -1: none) of each holding has holders of two subjects, bool [k]."""
    if not len(group):
        return np.zeros(0, bool)
    order = np.lexsort((who, group))
    sorted_group, sorted_who = group[order], who[order]
    starts = np.flatnonzero(np.diff(sorted_group, prepend=sorted_group[:1] - 1))
    ends = np.append(starts[1:], len(group))
    two = (sorted_who[starts] != sorted_who[ends - 1]) & (sorted_group[starts] >= 0)
    result = np.zeros(len(group), bool)
    result[order] = np.repeat(two, ends - starts)
    return result


def _digest(path: str, reach: int | None) -> bytes:
    """SHA-256 of the first and last `reach` bytes, or of all; the path itself where the file can't be read.

    Of a folder that of its files, whatever their names and order.
    """
    if os.path.isdir(path):
        return hashlib.sha256(b"".join(sorted(_digest(p, reach) for p in _files_below(path)))).digest()
    try:
        with open(path, "rb", buffering=0) as f:
            if reach is None:
                return hashlib.file_digest(f, "sha256").digest()
            data = f.read(reach)
            if len(data) == reach:
                f.seek(max(f.seek(0, os.SEEK_END) - reach, reach))
                data += f.read(reach)
            return hashlib.sha256(data).digest()
    except OSError:
        return path.encode()
