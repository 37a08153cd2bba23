"""Who is who: valid ids, duplicates, and splits and shards by keyed hash. Rows are Arrow tables.

A table of rows has subject_id (string), visit (int8) and ecg_path, cmr_path, lax_path (string, null where absent).
"""

import hmac
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPLITS = ("train", "val", "calibration", "test")
PATHS = ("ecg_path", "cmr_path", "lax_path")
_UPPER = (0.60, 0.70, 0.85)
SMALL_STUDY = 20
# Letters, digits, dots, dashes and underscores, at most 64 of them; letters or digits at both ends.
VALID_ID = r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?$"
# What spreadsheets make of a long number: digits are lost, and with them the person.
SCIENTIFIC = r"^[0-9]+(\.[0-9]+[eE]\+?|[eE]\+)[0-9]+$"


def keyed_fractions(subjects: Sequence[str], key: str, purpose: str) -> np.ndarray:
    """Numbers in [0, 1) from HMAC-SHA256 of the ids, float64 [n]: the same for ever, unrelated between purposes."""
    secret = key.encode()
    digests = b"".join(hmac.digest(secret, f"{purpose}:{s}".encode(), "sha256")[:8] for s in subjects)
    # The largest hash rounds up to 1.0.
    return np.minimum(np.frombuffer(digests, ">u8").astype(np.float64) / 2**64, np.nextafter(1.0, 0.0))


def split_of(subjects: Sequence[str], key: str) -> np.ndarray:
    """Split of each distinct subject as a place in SPLITS, int [n]: 60/10/15/15 train, val, calibration, test.

    By the hash itself, so that newcomers move nobody; with fewer than 20 subjects by its rank, so that no part is empty
    from four subjects up.
    """
    fractions, n = keyed_fractions(subjects, key, "split"), len(subjects)
    if n >= SMALL_STUDY:
        return np.searchsorted(_UPPER, fractions, side="right")
    # One each for val, calibration and test first, as far as there are people; shares of the rest by rounding.
    sizes = [0, *(max(round(n * share), 1 if n >= 4 else 0) for share in (0.10, 0.15, 0.15))]
    sizes[0] = n - sum(sizes)
    parts = np.empty(n, np.int64)
    parts[sorted(range(n), key=lambda i: (fractions[i], subjects[i]))] = np.repeat(np.arange(len(SPLITS)), sizes)
    return parts


def shard_of(subjects: Sequence[str], key: str, shards: int) -> np.ndarray:
    """The shard of each subject, int32 [n], 0 <= shard < shards."""
    return (keyed_fractions(subjects, key, "shard") * shards).astype(np.int32)


def with_split_and_shard(rows: pa.Table, key: str, shards: int) -> pa.Table:
    """The rows with columns split (string) and shard (int32), hashed once per subject."""
    subjects = rows["subject_id"].combine_chunks().dictionary_encode()
    distinct = subjects.dictionary.to_pylist()
    split = pa.array(SPLITS).take(pa.array(split_of(distinct, key)))
    shard = pa.array(shard_of(distinct, key, shards))
    return rows.append_column("split", split.take(subjects.indices)).append_column(
        "shard", shard.take(subjects.indices)
    )


def valid_ids(rows: pa.Table) -> pa.ChunkedArray:
    """Whether each row's id has the form an id may have, bool [n]."""
    ids = rows["subject_id"]
    return pc.and_not(
        pc.match_substring_regex(ids, pattern=VALID_ID), pc.match_substring_regex(ids, pattern=SCIENTIFIC)
    )


def first_of_each(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The same (subject, visit) twice: the first path in sort order stays. Returns (kept, excluded), both sorted."""
    order = pc.sort_indices(rows, sort_keys=[(c, "ascending") for c in ("subject_id", "visit", *PATHS)])
    rows = rows.take(order).combine_chunks()
    again = np.zeros(rows.num_rows, bool)
    if rows.num_rows:
        same = [pc.equal(rows[c][1:], rows[c][:-1]).to_numpy() for c in ("subject_id", "visit")]
        again[1:] = same[0] & same[1]
    return rows.filter(pa.array(~again)), rows.filter(pa.array(again))


def relative_paths(rows: pa.Table, root: str) -> pa.Table:
    """The rows with absolute paths below `root` made relative to it; others are relative to it already."""
    prefix = os.path.join(os.path.abspath(root), "")
    for i, name in enumerate(rows.column_names):
        if name in PATHS:
            below = pc.starts_with(rows[name], pattern=prefix)
            if pc.any(below).as_py():
                cut = pc.if_else(below, pc.utf8_slice_codeunits(rows[name], len(prefix)), rows[name])
                rows = rows.set_column(i, name, cut)
    return rows
