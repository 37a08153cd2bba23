"""Stage package: a trained model as a folder that stands for itself, and its gallery, which stays with the study."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ptacl import __version__
from ptacl.artifacts import read_table, write_bytes, write_tensors
from ptacl.cohort.fields import QUANTITIES
from ptacl.counts import told
from ptacl.evaluation import tables
from ptacl.evaluation.embed import EMBEDDINGS
from ptacl.evaluation.embed import VERSION as EMBEDDINGS_VERSION
from ptacl.evaluation.ridge import fit_heads
from ptacl.evaluation.rows import places
from ptacl.package.calibration import COVERAGE, TYPICAL, Typical, conformal_quantile, first_visits, training_range
from ptacl.package.card import card
from ptacl.package.files import ABOUT, CARD, KIND, VERSION, WEIGHTS
from ptacl.package.gallery import write_gallery
from ptacl.store.schema import COHORT_SUBJECTS
from ptacl.store.schema import VERSION as STORE_VERSIONS
from ptacl.training.checkpoint import load_weights

# Fewer labels of the training split than this, and a phenotype is left out.
LEAST_LABELS = 10


@dataclass(frozen=True)
class Sources:
    """Where a package is made from: the trained model, the embeddings, the cohort table, the scores."""

    model: Path
    embeddings: Path
    subjects: Path
    regression: Path


def build_package(
    sources: Sources, settings: Mapping[str, Any], method: str, seed: int, out_dir: Path, gallery: Path
) -> None:
    """Writes weights, package.yaml and the model card to `out_dir`, which hold no individual's data; and the gallery.

    settings: ecg, source, scale, encoder, targets. The probes are those of the evaluation, fitted on the training split;
    intervals come from the calibration split.
    """
    columns = ["subject_id", "visit", "split", "ecg_feature", "ecg_proj", "cmr_proj"]
    table = read_table(sources.embeddings, kind=EMBEDDINGS, version=EMBEDDINGS_VERSION, columns=columns)
    subjects, visits = table["subject_id"].to_pylist(), table["visit"].to_pylist()
    split = np.array(table["split"].to_pylist(), str)
    features = np.stack(table["ecg_feature"].to_numpy(zero_copy_only=False))
    cohort = _cohort(sources.subjects, list(zip(subjects, visits, strict=True)), settings["targets"])

    train, calibration, test = (split == name for name in ("train", "calibration", "test"))
    names = [n for n, v in cohort.items() if np.isfinite(v[train]).sum() >= LEAST_LABELS]
    targets = np.stack([cohort[n] for n in names], 1) if names else np.zeros((len(split), 0))
    heads = fit_heads(features, targets, subjects, train)
    error = np.abs(features.astype(np.float64) @ heads.weight + heads.intercept - targets)
    calibrating = first_visits(subjects, visits, calibration)
    typical = Typical.of(features[train])

    scores, phenotypes = _scores(sources.regression), []
    for j, name in enumerate(names):
        half = conformal_quantile(error[calibrating, j], COVERAGE)
        known = targets[train, j][np.isfinite(targets[train, j])]
        tested = error[test, j][np.isfinite(error[test, j])]
        phenotypes.append(
            {
                "name": name, "unit": QUANTITIES[name].unit if name in QUANTITIES else "", "half_width": half,
                "range": training_range(known),
                "labels": {"train": told(len(known)), "calibration": told(int(np.isfinite(error[calibrating, j]).sum()))},
                "test": {"n": told(len(tested)), "covered": _share(tested, half), **scores.get(name, {})},
            }
        )  # fmt: skip
    weights = load_weights(sources.model)
    ours = {k: v.numpy() for k, v in weights.items() if k.startswith(("ecg.", "ecg_head."))}
    about = {
        "ptacl_package": VERSION, "made_by": f"ptacl {__version__}", "method": method, "seed": seed,
        "encoder": dict(settings["encoder"]), "projects": any(k.startswith("ecg_head.") for k in ours),
        "scale_mv": settings["scale"], "ecg": dict(settings["ecg"]), "source": settings["source"],
        "people": {name: told(len({s for s, x in zip(subjects, split.tolist(), strict=True) if x == name}))
                   for name in ("train", "val", "calibration", "test")},
        "coverage": COVERAGE, "phenotypes": phenotypes,
        "typical_distance": conformal_quantile(typical.distance(features[calibrating]), TYPICAL),
    }  # fmt: skip
    tensors = {
        **ours, "probe.weight": heads.weight, "probe.intercept": heads.intercept, "typical.mean": typical.mean,
        "typical.whiten": typical.whiten,
    }  # fmt: skip
    write_tensors(out_dir / WEIGHTS, tensors, kind=KIND, version=VERSION, settings=settings)
    write_bytes(out_dir / ABOUT, yaml.safe_dump(about, sort_keys=False, allow_unicode=True).encode())
    write_bytes(out_dir / CARD, card(about).encode())

    of = "cmr" if about["projects"] else "ecg"
    vectors = features if of == "ecg" else np.stack(table["cmr_proj"].to_numpy(zero_copy_only=False))
    once = first_visits(subjects, visits, np.ones(len(subjects), bool))
    write_gallery(gallery, vectors[once], {n: cohort[n][once] for n in names}, of, settings)


def _cohort(path: Path, keys: list[tuple[str, int]], names: list[str]) -> dict[str, np.ndarray]:
    """Float64 [rows] of each phenotype that the cohort table has, NaN where unknown."""
    table = read_table(path, kind=COHORT_SUBJECTS, version=STORE_VERSIONS[COHORT_SUBJECTS])
    rows = places(keys, table, "the cohort's subjects.parquet")
    there = [n for n in names if n in table.column_names]
    return {n: table[n].to_numpy(zero_copy_only=False).astype(np.float64)[rows] for n in there}


def _share(errors: np.ndarray, half: float | None) -> float | None:
    return None if half is None or not len(errors) else round(float((errors <= half).mean()), 2)


def _scores(path: Path) -> dict[str, dict[str, Any]]:
    """By phenotype, R² and mean absolute error of the probe on the test split with their intervals, as evaluated."""
    version = tables.VERSION[tables.REGRESSION]
    wanted = {"protocol": "probe", "inputs": "ecg", "label_fraction": 1.0, "subgroup": "all"}
    found: dict[str, dict[str, Any]] = {}
    for r in read_table(path, kind=tables.REGRESSION, version=version).to_pylist():
        if r["metric"] in ("r2", "mae") and all(r[k] == v for k, v in wanted.items()):
            found.setdefault(r["phenotype"], {})[r["metric"]] = [r["value"], r["lo"], r["hi"]]
    return found
