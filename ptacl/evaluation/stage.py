"""Stage evaluate: scores of one method with one seed, and of the reference rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table
from ptacl.evaluation import tables
from ptacl.evaluation.references import reference_predictions
from ptacl.evaluation.retrieval import Draws, identification, phase_retrieval, phenotype_similarity
from ptacl.evaluation.ridge import probe, standardised
from ptacl.evaluation.tables import Targets, score_regression, write_scores

EMBEDDINGS, PAIRS, INPUT_VERSION = "embeddings", "pairs", 1
PROJECTION = 128


def evaluate(
    method: str,
    seed: int,
    settings: Mapping[str, Any],
    embeddings: Path,
    subjects: Path,
    out_regression: Path,
    out_retrieval: Path,
    out_predictions: Path,
    *,
    feature: str = "ecg_feature",
) -> None:
    """Probe regression from `feature`, and retrieval where the method has projections.

    `settings` is the config's `evaluate` section. With feature "cmr_feature" (the upper reference) nothing is retrieved.
    """
    table = read_table(embeddings, kind=EMBEDDINGS, version=INPUT_VERSION)
    keys = list(zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True))
    split = np.array(table["split"].to_pylist())
    targets = Targets(subjects, keys, settings)
    features = _matrix(table, feature)
    predicted = probe(features, targets.values, [s for s, _ in keys], split == "train")
    scores, predictions = score_regression(method, keys, targets, predicted, split == "test", settings)
    retrieved = _retrieval(table, keys, split, targets, settings) if feature == "ecg_feature" else []
    write_scores(out_regression, scores, tables.REGRESSION_SCHEMA, tables.REGRESSION, settings)
    write_scores(
        out_retrieval, [{"method": method, **r} for r in retrieved], tables.RETRIEVAL_SCHEMA, tables.RETRIEVAL, settings
    )
    write_scores(out_predictions, predictions, tables.PREDICTIONS_SCHEMA, tables.PREDICTIONS, settings)


def evaluate_references(
    settings: Mapping[str, Any], pairs: Path, subjects: Path, ecg_dir: Path, out_regression: Path, out_predictions: Path
) -> None:
    """The rows that keep the methods honest, scored on the same test subjects."""
    rows = read_table(pairs, kind=PAIRS, version=INPUT_VERSION).to_pylist()
    keys = [(r["subject_id"], r["visit"]) for r in rows]
    targets = Targets(subjects, keys, settings)
    test = np.array([r["split"] == "test" for r in rows])
    scores: list[dict[str, Any]] = []
    predictions: list[dict[str, Any]] = []
    for name, predicted in reference_predictions(rows, targets, ecg_dir, settings).items():
        more_scores, more_predictions = score_regression(name, keys, targets, predicted, test, settings)
        # A table of reference predictions has rows only for the phenotypes that it names.
        scores += [r for r in more_scores if r["n"] or not name.startswith("ceiling_")]
        predictions += more_predictions
    write_scores(out_regression, scores, tables.REGRESSION_SCHEMA, tables.REGRESSION, settings)
    write_scores(out_predictions, predictions, tables.PREDICTIONS_SCHEMA, tables.PREDICTIONS, settings)


def _retrieval(
    table: pa.Table, keys: list[tuple[str, int]], split: np.ndarray, targets: Targets, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    draws = Draws(settings["bootstraps"], settings["seed"])
    test, train = np.flatnonzero(split == "test"), split == "train"
    who = [keys[i][0] for i in test]
    phenotypes = {n: targets.values[test, j] for j, n in enumerate(targets.names) if n in settings["targets"]}
    sd = {
        n: float(np.std(v)) if len(v := targets.values[train, j][np.isfinite(targets.values[train, j])]) > 1 else np.nan
        for j, n in enumerate(targets.names)
    }
    rows: list[dict[str, Any]] = []
    paired = table["ecg_proj"].null_count == 0 and table["cmr_proj"].null_count == 0 and len(test) > 0
    if paired:
        ecg, cmr = _matrix(table, "ecg_proj")[test], _matrix(table, "cmr_proj")[test]
        first = _first_visits(keys, test)
        names = [who[i] for i in first]
        for direction, query, gallery in (("ecg_to_cmr", ecg, cmr), ("cmr_to_ecg", cmr, ecg)):
            rows += identification(query[first], gallery[first], names, direction, draws)
            rows += phenotype_similarity(query, gallery, who, phenotypes, sd, direction, draws)
        rows += _phase(table, keys, test, draws)
    else:
        # Raw features share a large mean, which would make all cosines alike.
        ecg = standardised(_matrix(table, "ecg_feature"), train)[test]
    return rows + phenotype_similarity(ecg, ecg, who, phenotypes, sd, "ecg_to_ecg", draws)


def _phase(table: pa.Table, keys: list[tuple[str, int]], test: np.ndarray, draws: Draws) -> list[dict[str, Any]]:
    """Phase retrieval over the test subjects' first visits with usable phase; nothing where there is none."""
    known = table["ecg_phase"].is_valid().to_numpy(zero_copy_only=False)
    rows = [int(test[i]) for i in _first_visits(keys, test) if known[test[i]]]
    if not rows:
        return []
    ecg, cmr = (
        np.array([table[c][i].as_py() for i in rows], np.float32).reshape(len(rows), -1, PROJECTION)
        for c in ("ecg_phase", "cmr_phase")
    )
    return phase_retrieval(ecg, cmr, [keys[i][0] for i in rows], draws)


def _first_visits(keys: list[tuple[str, int]], rows: np.ndarray) -> list[int]:
    """Places within `rows` of each subject's first visit; keys are sorted by subject and visit."""
    seen: set[str] = set()
    return [i for i, r in enumerate(rows) if not (keys[r][0] in seen or seen.add(keys[r][0]))]  # type: ignore[func-returns-value]


def _matrix(table: pa.Table, column: str) -> np.ndarray:
    """A list column as float64 [n, D], NaN in rows without a value."""
    lists = table[column].combine_chunks()
    known = np.asarray(lists.is_valid())
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    values = np.full((len(lists), len(flat) // max(int(known.sum()), 1)), np.nan)
    values[known] = flat.reshape(int(known.sum()), values.shape[1])
    return values
