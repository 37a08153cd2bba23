"""Stage report: the page and the comparison as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptacl.artifacts import write_bytes
from ptacl.report.load import load_study
from ptacl.report.page import build_page
from ptacl.report.tables import write_csv

_COMMON = ("value", "lo", "hi")
REGRESSION_COLUMNS = (
    "method", "protocol", "phenotype", "metric", *_COMMON, "n", "label_fraction", "subgroup", "note", "seeds",
    "seed_sd",
)  # fmt: skip
RETRIEVAL_COLUMNS = (
    "method", "task", "direction", "phenotype", "metric", "k", *_COMMON, "chance", "oracle", "gallery", "n", "note",
    "seeds", "seed_sd",
)  # fmt: skip


def build_report(results: Path, config: Mapping[str, Any]) -> None:
    """Writes report/index.html, tables/regression_probe.csv and tables/retrieval.csv below `results`."""
    study = load_study(results, config)
    write_csv(results / "tables/regression_probe.csv", study.regression, REGRESSION_COLUMNS)
    write_csv(results / "tables/retrieval.csv", study.retrieval, RETRIEVAL_COLUMNS)
    write_bytes(results / "report/index.html", build_page(study, results).encode())
