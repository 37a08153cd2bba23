"""The artifacts of a finished study, gathered for the page."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from ptacl.artifacts import read_table
from ptacl.errors import ArtifactError
from ptacl.evaluation import tables as scores_of
from ptacl.evaluation.compare import CEILINGS
from ptacl.evaluation.rows import EVERYBODY
from ptacl.report.rows import Row, read_rows
from ptacl.report.shown import shown_method
from ptacl.store.schema import VERSION

EMBEDDINGS, EMBEDDINGS_VERSION = "embeddings", 2
_SCORES = ("value", "lo", "hi")


@dataclass
class Study:
    """Everything the page shows. Scores are means over seeds, with `seeds` and `seed_sd`.

    regression: the probe's; finetuned and nuisances: those of the other protocols, never mixed. alignment: mean
    similarities of phase bins, of the first seed, like history and predictions.
    """

    config: Mapping[str, Any]
    flow: Row
    subjects: list[Row]
    pairs: list[Row]
    ecg: list[Row]
    cmr: list[Row]
    history: dict[str, list[Row]]
    regression: list[Row]
    finetuned: list[Row]
    nuisances: list[Row]
    retrieval: list[Row]
    predictions: dict[str, list[Row]]
    differences: list[Row]
    alignment: dict[str, list[Row]]
    embedding: "Embedding | None"

    @property
    def headline(self) -> list[Row]:
        """The probe of everybody with all labels, from the ECG alone: one row for a method, phenotype and metric."""
        return [r for r in self.regression if is_headline(r)]


@dataclass
class Embedding:
    """What one method makes of every pair's ECG: features float32 [n, D] of (subject, visit) keys, first seed."""

    method: str
    keys: list[tuple[str, int]]
    features: np.ndarray


def load_study(results: Path, config: Mapping[str, Any]) -> Study:
    """Reads what the stages left below `results`. Raises ArtifactError where something is missing."""
    definitions, seeds, shards = config["pretrain"]["methods"], config["seeds"], range(config["cohort"]["shards"])
    # Those learnt from labels are compared elsewhere.
    methods = [m for m in config["methods"] if definitions[m]["objective"] != "supervised"]
    trained = [m for m in methods if "embedding_of" not in definitions[m]]

    def rows(path: str, kind: str) -> list[Row]:
        return read_rows(results / path, kind, VERSION.get(kind, scores_of.VERSION.get(kind, 1)))

    def of_methods(folder: str, names: list[str], end: str = "") -> list[Row]:
        return [r for m in names for s in seeds for r in rows(f"{folder}/{m}/seed{s}{end}.parquet", folder)]

    learnt_from_labels = [m for m in config["methods"] if definitions[m]["objective"] != "none"]
    finetuned = learnt_from_labels if "finetune" in config["evaluate"]["protocols"] else []
    every = over_seeds(of_methods("regression", methods) + rows("regression/references.parquet", "regression"))
    regression, first = with_ceilings([r for r in every if r["protocol"] == "probe"]), seeds[0]
    learnt = over_seeds(of_methods("regression", finetuned, "_finetuned"))
    ceilings = [r for r in regression if r["method"] in CEILINGS.values()]
    predictions = {m: rows(f"predictions/{m}/seed{first}.parquet", "predictions") for m in methods}
    return Study(
        config=config,
        flow=_flow(results / "pairs/flow.json"),
        subjects=rows("cohort/subjects.parquet", "cohort_subjects"),
        pairs=rows("pairs/pairs.parquet", "pairs"),
        ecg=[r for s in shards for r in rows(f"ecg/{s:04d}.parquet", "ecg_table")],
        cmr=[r for s in shards for r in rows(f"cmr/{s:04d}.parquet", "cmr_table")],
        history={m: rows(f"models/{m}/seed{first}/history.parquet", "history") for m in trained},
        regression=regression,
        finetuned=with_ceilings([*ceilings, *learnt])[len(ceilings) :] if learnt else [],
        nuisances=[r for r in every if r["protocol"] == "nuisance"],
        retrieval=over_seeds(of_methods("retrieval", methods) + rows("retrieval/references.parquet", "retrieval")),
        predictions={m: [r for r in of if is_headline(r | {"subgroup": EVERYBODY})] for m, of in predictions.items()},
        differences=rows("regression/differences.parquet", "differences"),
        alignment={m: rows(f"alignment/{m}/seed{first}.parquet", "alignment") for m in methods},
        embedding=_embedding(results, shown_method(config), first),
    )


def _embedding(results: Path, method: str | None, seed: int) -> Embedding | None:
    if method is None:
        return None
    table = read_table(
        results / f"embeddings/{method}/seed{seed}.parquet", kind=EMBEDDINGS, version=EMBEDDINGS_VERSION,
        columns=["subject_id", "visit", "ecg_feature"],
    )  # fmt: skip
    keys = list(zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True))
    return Embedding(method, keys, np.stack(table["ecg_feature"].to_numpy(zero_copy_only=False)))


def is_headline(row: Row) -> bool:
    """Whether a score or prediction is of everybody, with all labels, from what the method itself looks at."""
    own = row["inputs"] not in ("ecg_phase", "covariates_ecg") or row["method"].startswith("ceiling_")
    return own and row["protocol"] == "probe" and row["label_fraction"] == 1.0 and row["subgroup"] == EVERYBODY


def with_ceilings(rows: list[Row]) -> list[Row]:
    """The rows with `ceiling`: the best attainable value of the same quantity from the same inputs, null where unknown."""
    by = {
        (r["method"], r["phenotype"], r["metric"], r["subgroup"]): r["value"]
        for r in rows
        if r["method"].startswith("ceiling_") and r["label_fraction"] == 1.0
    }
    place = ("phenotype", "metric", "subgroup")
    return [r | {"ceiling": by.get((CEILINGS.get(r["inputs"]), *(r[c] for c in place)))} for r in rows]


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
