"""What evaluation writes: kinds, versions and columns."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ptacl.artifacts import write_table

Row = dict[str, Any]

REGRESSION, RETRIEVAL, PREDICTIONS, QUERIES = "regression", "retrieval", "predictions", "queries"
ALIGNMENT, DIFFERENCES = "alignment", "differences"
VERSION = {REGRESSION: 2, RETRIEVAL: 2, PREDICTIONS: 2, QUERIES: 1, ALIGNMENT: 1, DIFFERENCES: 1}

_text, _number, _count = pa.string(), pa.float64(), pa.int32()
_interval = {"value": _number, "lo": _number, "hi": _number}
# protocol: probe | finetune | nuisance. inputs: what a prediction is made from. n: rows that are scored.
_FIT = {"method": _text, "protocol": _text, "inputs": _text, "label_fraction": _number}

SCHEMA = {
    REGRESSION: pa.schema(
        {**_FIT, "phenotype": _text, "metric": _text, "subgroup": _text, **_interval, "n": _count, "note": _text}
    ),
    RETRIEVAL: pa.schema(
        {
            "method": _text, "task": _text, "direction": _text, "phenotype": _text, "metric": _text, "k": _count,
            **_interval, "chance": _number, "oracle": _number, "gallery": _count, "n": _count, "note": _text,
        }
    ),
    # Every prediction of the split that is scored.
    PREDICTIONS: pa.schema(
        {
            **_FIT, "subject_id": _text, "visit": pa.int8(), "phenotype": _text, "truth": _number,
            "prediction": _number,
        }
    ),
    # What retrieval found for every query: differences between methods pair over them.
    QUERIES: pa.schema(
        {
            "method": _text, "subject_id": _text, "visit": pa.int8(), "task": _text, "direction": _text,
            "phenotype": _text, "metric": _text, "k": _count, "value": _number,
        }
    ),
    # Mean over patients of the cosine between an ECG phase bin and a CMR phase bin. frames: own | other | shifted.
    ALIGNMENT: pa.schema(
        {"method": _text, "frames": _text, "ecg_bin": _count, "cmr_bin": _count, "cosine": _number, "n": _count}
    ),
    # Of pairs of methods, in the same draws. kind: difference | share (of the baseline's value). seed_sd: the spread of the
    # values of single seeds, which the interval does not hold. p_holm: corrected among the quantities of the pair.
    DIFFERENCES: pa.schema(
        {
            "method": _text, "baseline": _text, "protocol": _text, "inputs": _text, "task": _text, "direction": _text,
            "phenotype": _text, "metric": _text, "k": _count, "kind": _text, **_interval, "p": _number,
            "p_holm": _number, "n": _count, "seeds": _count, "seed_sd": _number,
        }
    ),
}  # fmt: skip


def block(kind: str, n: int, **columns: Any) -> pa.Table:
    """n rows of a kind from columns, each a sequence or one value for all; columns that are left out are null."""
    arrays = []
    for field in SCHEMA[kind]:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(n, field.type))
        elif isinstance(values, str | int | float):
            arrays.append(pa.repeat(pa.scalar(values, field.type), n))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA[kind])


def write_rows(path: Path, rows: Sequence[Row | pa.Table], kind: str, settings: Mapping[str, Any]) -> None:
    """Writes rows or blocks of a kind; columns a row lacks are null."""
    schema = SCHEMA[kind]
    blocks = [r for r in rows if isinstance(r, pa.Table)]
    single = [r for r in rows if not isinstance(r, pa.Table)]
    table = pa.concat_tables([pa.Table.from_pylist(single, schema=schema), *blocks])
    write_table(path, table, kind=kind, version=VERSION[kind], settings=settings)
