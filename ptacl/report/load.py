"""The artifacts of a finished study, gathered for the page."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pyarrow as pa

from ptacl.artifacts import read_table
from ptacl.errors import ArtifactError
from ptacl.evaluation.compare import compare_regression
from ptacl.store.schema import VERSION

Row = dict[str, Any]
_SCORES = ("value", "lo", "hi")


@dataclass
class Study:
    """Everything the page shows. Scores are means over seeds, with `seeds` and `seed_sd`."""

    config: Mapping[str, Any]
    flow: Row
    subjects: list[Row]
    pairs: list[Row]
    ecg: list[Row]
    cmr: list[Row]
    history: dict[str, list[Row]]
    regression: list[Row]
    retrieval: list[Row]
    predictions: dict[str, list[Row]]
    differences: list[Row]


def load_study(results: Path, config: Mapping[str, Any]) -> Study:
    """Reads what the stages left below `results`. Raises ArtifactError where something is missing."""
    definitions, seeds, shards = config["pretrain"]["methods"], config["seeds"], range(config["cohort"]["shards"])
    # Those learnt from labels are compared elsewhere.
    methods = [m for m in config["methods"] if definitions[m]["objective"] != "supervised"]
    trained = [m for m in methods if "embedding_of" not in definitions[m]]

    def rows(path: str, kind: str) -> list[Row]:
        return read_table(results / path, kind=kind, version=VERSION.get(kind, 1)).to_pylist()

    def scores(folder: str) -> list[Row]:
        of_seeds = [
            r for m in methods for s in seeds for r in rows(f"{folder}/{m}/seed{s}.parquet", folder)
        ]  # fmt: skip
        return over_seeds(of_seeds)

    first = seeds[0]
    predictions = {m: rows(f"predictions/{m}/seed{first}.parquet", "predictions") for m in methods}
    return Study(
        config=config,
        flow=_flow(results / "pairs/flow.json"),
        subjects=rows("cohort/subjects.parquet", "cohort_subjects"),
        pairs=rows("pairs/pairs.parquet", "pairs"),
        ecg=[r for s in shards for r in rows(f"ecg/{s:04d}.parquet", "ecg_table")],
        cmr=[r for s in shards for r in rows(f"cmr/{s:04d}.parquet", "cmr_table")],
        history={m: rows(f"models/{m}/seed{first}/history.parquet", "history") for m in trained},
        regression=scores("regression") + over_seeds(rows("regression/references.parquet", "regression")),
        retrieval=scores("retrieval"),
        predictions=predictions,
        differences=_differences(results, methods, first, config),
    )


def _flow(path: Path) -> Row:
    """The participant flow. Raises ArtifactError unless pairs and excluded add up to everyone found."""
    flow: Row = json.loads(path.read_text())
    total = flow["pairs"] + sum(flow["excluded"].values())
    if total != flow["subjects"]:
        raise ArtifactError(f"pairs/flow.json: {flow['subjects']} found, but pairs and excluded add up to {total}")
    return flow


def over_seeds(rows: list[Row]) -> list[Row]:
    """Mean of value and interval ends over seeds, in order of first appearance; null where a seed has none."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for r in rows:
        groups[tuple(v for k, v in r.items() if k not in (*_SCORES, "chance", "oracle", "note"))].append(r)
    merged = []
    for group in groups.values():
        row = dict(group[0])
        for name in (*_SCORES, "chance", "oracle"):
            if name in row:
                values = [r[name] for r in group]
                row[name] = None if any(v is None for v in values) else fmean(values)
        values = [r["value"] for r in group if r["value"] is not None]
        merged.append(row | {"seeds": len(group), "seed_sd": stdev(values) if len(values) > 1 else None})
    return merged


def _differences(results: Path, methods: list[str], seed: int, config: Mapping[str, Any]) -> list[Row]:
    """Paired differences of ptacl from global, where both are there."""
    if not {"ptacl", "global"} <= set(methods):
        return []
    paths = [results / f"predictions/{m}/seed{seed}.parquet" for m in ("global", "ptacl")]
    table: pa.Table = compare_regression(paths, "global", config["evaluate"])
    return table.to_pylist()
