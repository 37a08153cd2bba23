"""Stage report: the page and the comparison as CSV."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ptacl.artifacts import write_bytes
from ptacl.counts import Exact, Rounded, shareable
from ptacl.evaluation.tables import DIFFERENCES, SCHEMA
from ptacl.report.load import Study, load_study
from ptacl.report.page import build_page
from ptacl.report.tables import write_csv

_COMMON = ("value", "lo", "hi")
_SEEDS = ("n", "note", "seeds", "seed_sd")
REGRESSION_COLUMNS = (
    "method", "protocol", "inputs", "phenotype", "metric", *_COMMON, "ceiling", "label_fraction", "subgroup", *_SEEDS,
)  # fmt: skip
RETRIEVAL_COLUMNS = (
    "method", "task", "direction", "phenotype", "metric", "k", *_COMMON, "chance", "oracle", "gallery", *_SEEDS,
)  # fmt: skip


def build_report(results: Path, config: Mapping[str, Any]) -> None:
    """Writes the page and the CSVs: report/ and tables/, and below shareable/ those that hold aggregates only."""
    study = load_study(results, config)
    _write(results, study, results, Exact())
    _write(results / "shareable", _aggregates(study), results, Rounded())


def _write(folder: Path, study: Study, results: Path, counts: Exact) -> None:
    """The page, and scores and differences by protocol, retrieval and nuisances as CSV."""
    tables = folder / "tables"
    write_csv(tables / "regression_probe.csv", study.regression, REGRESSION_COLUMNS)
    if study.finetuned:
        write_csv(tables / "regression_finetune.csv", study.finetuned, REGRESSION_COLUMNS)
    write_csv(tables / "nuisances.csv", study.nuisances, [c for c in REGRESSION_COLUMNS if c != "ceiling"])
    write_csv(tables / "retrieval.csv", study.retrieval, RETRIEVAL_COLUMNS)
    for name, protocol in (("probe", "probe"), ("finetune", "finetune"), ("retrieval", None)):
        differences = [d for d in study.differences if d["protocol"] == protocol]
        if protocol != "finetune" or study.finetuned:
            write_csv(tables / f"differences_{name}.csv", differences, SCHEMA[DIFFERENCES].names)
    write_bytes(folder / "report/index.html", build_page(study, results, counts).encode())


def _aggregates(study: Study) -> Study:
    """The study with counts in its scores rounded, and without scores of fewer people than may be told."""
    return replace(
        study,
        regression=shareable(study.regression),
        finetuned=shareable(study.finetuned),
        nuisances=shareable(study.nuisances),
        retrieval=shareable(study.retrieval),
        differences=shareable(study.differences),
    )
