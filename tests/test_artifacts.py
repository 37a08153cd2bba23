"""Artifacts are whole or absent, the same bytes for the same content, and refused when of another version."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ptacl.artifacts import (
    atomic_path,
    read_table,
    read_tensors,
    settings_digest,
    table_metadata,
    tensor_digest,
    write_bytes,
    write_table,
    write_tensors,
)
from ptacl.errors import ArtifactError

TABLE = pa.table({"subject_id": ["9000001", "9000002"], "value": [1.0, None]})
TENSORS = {"b": np.arange(6, dtype=np.int16).reshape(2, 3), "a": np.zeros((0, 12), np.uint8)}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, TABLE, kind="k", version=1, settings={})
    before = path.read_bytes()
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.parquet"]


def test_what_a_killed_process_left_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = os.uname().nodename
    names = {w: f".x.parquet.{host}.{pid}.tmp" for w, pid in (("dead", dead.pid), ("alive", os.getppid()))}
    names["elsewhere"] = f".x.parquet.{host}2.{dead.pid}.tmp"
    names["other file"] = f".xx.parquet.{host}.{dead.pid}.tmp"
    for name in names.values():
        (tmp_path / name).write_bytes(b"half")
    write_bytes(tmp_path / "x.parquet", b"whole")
    assert set(os.listdir(tmp_path)) == {"x.parquet", *names.values()} - {names["dead"]}


def test_tables_and_tensors_come_back_with_their_metadata(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", TABLE, kind="k", version=1, settings={"a": 1}, extra={"x": "y"})
    table = read_table(tmp_path / "t.parquet", kind="k", version=1)
    assert table.equals(TABLE)
    assert table_metadata(table)["x"] == "y"
    assert table_metadata(table)["ptacl.settings"] == settings_digest({"a": 1})
    write_tensors(tmp_path / "t.safetensors", TENSORS, kind="k", version=1, settings={})
    tensors = read_tensors(tmp_path / "t.safetensors", kind="k", version=1)
    assert tensor_digest(tensors) == tensor_digest(TENSORS)


@pytest.mark.parametrize(("kind", "version"), [("other", 1), ("k", 2)])
def test_another_kind_or_version_is_refused_by_name(tmp_path: Path, kind: str, version: int) -> None:
    write_table(tmp_path / "t.parquet", TABLE, kind="k", version=1, settings={})
    write_tensors(tmp_path / "t.safetensors", TENSORS, kind="k", version=1, settings={})
    for read, name in ((read_table, "t.parquet"), (read_tensors, "t.safetensors")):
        with pytest.raises(ArtifactError, match=f"expected a {kind} of schema version {version}, found k of version 1"):
            read(tmp_path / name, kind=kind, version=version)


@pytest.mark.parametrize("name", ["t.parquet", "t.safetensors"])
def test_a_truncated_or_missing_artifact_is_an_artifact_error(tmp_path: Path, name: str) -> None:
    read = read_table if name.endswith("parquet") else read_tensors
    with pytest.raises(ArtifactError, match="not there"):
        read(tmp_path / name, kind="k", version=1)
    if name.endswith("parquet"):
        write_table(tmp_path / name, TABLE, kind="k", version=1, settings={})
    else:
        write_tensors(tmp_path / name, TENSORS, kind="k", version=1, settings={})
    whole = (tmp_path / name).read_bytes()
    for length in (0, 1, 9, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            read(tmp_path / name, kind="k", version=1)


def test_the_same_content_is_the_same_bytes_whatever_the_order_of_keys(tmp_path: Path) -> None:
    reverse = dict(reversed(list(TENSORS.items())))
    for name, tensors, settings in (("1", TENSORS, {"a": 1, "b": 2}), ("2", reverse, {"b": 2, "a": 1})):
        write_tensors(tmp_path / name, tensors, kind="k", version=1, settings=settings, extra={"z": "1", "c": "2"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_tensor_digest_sees_names_shapes_types_and_values() -> None:
    variants = [
        TENSORS,
        {"b": TENSORS["b"].reshape(3, 2), "a": TENSORS["a"]},
        {"b": TENSORS["b"].astype(np.int32), "a": TENSORS["a"]},
        {"c": TENSORS["b"], "a": TENSORS["a"]},
        {"b": TENSORS["b"] + 1, "a": TENSORS["a"]},
    ]
    assert len({tensor_digest(v) for v in variants}) == len(variants)
