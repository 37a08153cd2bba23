"""Writing and reading the files between stages: whole or absent, byte-deterministic, versioned.

Every artifact is written to a name of its own process in the same folder, fsynced and renamed, so a killed job
never leaves half a file under the final name. Tables (Parquet) and tensors (safetensors) carry their kind, their
schema version and the digest of the settings that made them; another kind or version is refused by name.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save as save_safetensors

from ptacl.errors import ArtifactError

KIND, VERSION, SETTINGS = "ptacl.artifact", "ptacl.version", "ptacl.settings"


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed, on failure removed.

    What processes of this host left there when they were killed goes as well; that of a living one, which makes the same
    file a second time, stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(path)
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as f:
            os.fsync(f.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_left_behind(path: Path) -> None:
    for left in _unfinished(path.parent):
        pid = left.name.removeprefix(f".{path.name}.{os.uname().nodename}.").removesuffix(".tmp")
        if pid.isdigit() and not _alive(int(pid)):
            left.unlink(missing_ok=True)


@functools.cache
def _unfinished(folder: Path) -> list[Path]:
    """Temporary files of this host in a folder, looked for once in a process: the folder may hold a hundred thousand files."""
    return list(folder.glob(f".*.{os.uname().nodename}.*.tmp"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def settings_digest(settings: Mapping[str, Any]) -> str:
    """16 hex digits over the settings as sorted JSON: the same whatever the order of the keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def tensor_digest(tensors: Mapping[str, np.ndarray]) -> str:
    """16 hex digits over names, dtypes, shapes and bytes of the tensors."""
    h = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        h.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        h.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return h.hexdigest()[:16]


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes `data` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes sorted, indented JSON atomically."""
    write_bytes(path, (json.dumps(value, sort_keys=True, indent=2) + "\n").encode())


def write_table(
    path: str | os.PathLike,
    table: pa.Table,
    *,
    kind: str,
    version: int,
    settings: Mapping[str, Any],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes a Parquet table with its kind, schema version and settings digest in the schema metadata.

    `extra` adds further metadata entries (such as the digest of a shard's tensors). The caller sorts the rows.
    """
    metadata = {KIND: kind, VERSION: str(version), SETTINGS: settings_digest(settings), **(extra or {})}
    table = table.replace_schema_metadata(dict(sorted(metadata.items())))
    # Embeddings hardly shrink, and take several times as long to read when compressed or looked up in dictionaries.
    words = [f.name for f in table.schema if pa.types.is_string(f.type)]
    vectors = [f.name for f in table.schema if pa.types.is_list(f.type) and pa.types.is_float32(f.type.value_type)]
    compression = {n: "zstd" for n in table.column_names if n not in vectors}
    compression |= {f"{n}.list.element": "none" for n in vectors}
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression=compression, use_dictionary=words)


def read_table(path: str | os.PathLike, *, kind: str, version: int, columns: list[str] | None = None) -> pa.Table:
    """Reads a table written by `write_table`; metadata stays in `table.schema.metadata` (bytes keys).

    Raises ArtifactError when the file is missing, unreadable, or of another kind or version.
    """
    try:
        table = pq.read_table(path, columns=columns, partitioning=None)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not there; run the stage that writes it") from None
    except (pa.ArrowInvalid, OSError) as e:
        raise ArtifactError(f"{path}: not a readable Parquet file ({e})") from None
    _check(path, table_metadata(table), kind, version)
    return table


def table_metadata(table: pa.Table) -> dict[str, str]:
    """The schema metadata of a table as text, without Arrow's own entries."""
    return {
        k.decode(): v.decode()
        for k, v in (table.schema.metadata or {}).items()
        if not k.startswith((b"ARROW:", b"pandas"))
    }


def write_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    *,
    kind: str,
    version: int,
    settings: Mapping[str, Any],
    extra: Mapping[str, str] | None = None,
) -> None:
    """Writes named arrays as safetensors, with kind, version and settings digest in the header."""
    metadata = {KIND: kind, VERSION: str(version), SETTINGS: settings_digest(settings), **(extra or {})}
    # One metadata entry: safetensors keeps several in a hash map, whose order differs from process to process.
    header = {"ptacl": json.dumps(metadata, sort_keys=True)}
    write_bytes(path, save_safetensors({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata=header))


def read_tensors(path: str | os.PathLike, *, kind: str, version: int) -> dict[str, np.ndarray]:
    """Reads every array of a file of `write_tensors`.

    Raises ArtifactError when the file is missing, unreadable, or of another kind or version.
    """
    with _as_artifact_errors(path), safe_open(str(path), framework="numpy") as f:
        _check(path, json.loads((f.metadata() or {}).get("ptacl", "{}")), kind, version)
        return {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)


def map_tensor(path: str | os.PathLike, name: str, *, kind: str, version: int) -> np.ndarray:
    """One array of a file of `write_tensors`, mapped: its bytes are read from disk when they are looked at, and not kept.

    Read-only. Raises ArtifactError as `read_tensors` does.
    """
    with _as_artifact_errors(path):
        with safe_open(str(path), framework="numpy") as f:
            _check(path, json.loads((f.metadata() or {}).get("ptacl", "{}")), kind, version)
        # The format: 8 bytes with the header's length, the header as JSON, then the arrays at its offsets.
        with open(path, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            entry = json.loads(f.read(length))[name]
        dtype = {"U8": np.uint8, "I16": np.int16}[entry["dtype"]]
        if 0 in entry["shape"]:
            return np.zeros(entry["shape"], dtype)
        first = 8 + length + entry["data_offsets"][0]
        return np.memmap(path, dtype, "r", first, tuple(entry["shape"]))


@contextlib.contextmanager
def _as_artifact_errors(path: str | os.PathLike) -> Iterator[None]:
    """Whatever goes wrong with a safetensors file, as one line that names it."""
    try:
        yield
    except FileNotFoundError:
        raise ArtifactError(f"{path}: not there; run the stage that writes it") from None
    except ArtifactError:
        raise
    except Exception as e:  # safetensors raises its own type for every malformed header
        raise ArtifactError(f"{path}: not a readable safetensors file ({e})") from None


def _check(path: str | os.PathLike, metadata: Mapping[str, str], kind: str, version: int) -> None:
    found = metadata.get(KIND), metadata.get(VERSION)
    if found != (kind, str(version)):
        raise ArtifactError(
            f"{path}: expected a {kind} of schema version {version}, found {found[0] or 'no PTACL artifact'}"
            f" of version {found[1]}; delete it and run its stage again"
        )
