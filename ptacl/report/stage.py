"""Stage report: the page and the comparison as CSV."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptacl.artifacts import write_bytes
from ptacl.evaluation.tables import DIFFERENCES, SCHEMA
from ptacl.report.load import load_study
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
    """Writes report/index.html and the CSVs below tables/: scores and differences by protocol, retrieval, nuisances."""
    study = load_study(results, config)
    folder = results / "tables"
    write_csv(folder / "regression_probe.csv", study.regression, REGRESSION_COLUMNS)
    if study.finetuned:
        write_csv(folder / "regression_finetune.csv", study.finetuned, REGRESSION_COLUMNS)
    write_csv(folder / "nuisances.csv", study.nuisances, [c for c in REGRESSION_COLUMNS if c != "ceiling"])
    write_csv(folder / "retrieval.csv", study.retrieval, RETRIEVAL_COLUMNS)
    for name, protocol in (("probe", "probe"), ("finetune", "finetune"), ("retrieval", None)):
        differences = [d for d in study.differences if d["protocol"] == protocol]
        if protocol != "finetune" or study.finetuned:
            write_csv(folder / f"differences_{name}.csv", differences, SCHEMA[DIFFERENCES].names)
    write_bytes(results / "report/index.html", build_page(study, results).encode())
