"""One row for every method and seed, on the validation split: what a choice of settings is made by."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from ptacl.artifacts import read_table, write_bytes
from ptacl.evaluation.compare import seed_of
from ptacl.evaluation.rows import EVERYBODY
from ptacl.evaluation.tables import REGRESSION, RETRIEVAL, VERSION, Row

PHASE = ("phase_accuracy_own", "phase_accuracy_other", "phase_accuracy_shifted")


def write_validation(
    regression: Sequence[Path], retrieval: Sequence[Path], settings: Mapping[str, Any], out: Path
) -> None:
    """Writes a CSV with columns by method and seed: recall@10 and mean reciprocal rank (mean of both directions), mean R² of
    the targets and of the extra targets by the mean of the ECG's tokens and by its phase bins, R² of every target, phase
    accuracies.
    """
    rows = []
    for scores, found in zip(regression, retrieval, strict=True):
        r2 = read_table(scores, kind=REGRESSION, version=VERSION[REGRESSION]).to_pylist()
        retrieved = read_table(found, kind=RETRIEVAL, version=VERSION[RETRIEVAL]).to_pylist()
        rows.append({"method": scores.parent.name, "seed": seed_of(scores), **_row(r2, retrieved, settings)})
    text = io.StringIO()
    columns = list(dict.fromkeys(c for r in rows for c in r))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(out, text.getvalue().encode())


def _row(regression: Sequence[Row], retrieval: Sequence[Row], settings: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, float | None] = {
        "recall_at_10": _mean([r["value"] for r in retrieval if _is(r, "identification", "recall", 10)]),
        "mrr": _mean([r["value"] for r in retrieval if _is(r, "identification", "mrr", None)]),
    }
    for inputs in ("ecg", "ecg_phase", "cmr"):
        of = {
            r["phenotype"]: r["value"]
            for r in regression
            if (r["protocol"], r["inputs"], r["metric"], r["subgroup"], r["label_fraction"])
            == ("probe", inputs, "r2", EVERYBODY, 1.0)
        }
        if of:
            found[f"{inputs}_r2_targets"] = _mean([of.get(t) for t in settings["targets"]])
            found[f"{inputs}_r2_extra_targets"] = _mean([of.get(t) for t in settings["extra_targets"]])
            found |= {f"{inputs}_r2_{t}": of.get(t) for t in [*settings["targets"], *settings["extra_targets"]]}
    found |= {m: _mean([r["value"] for r in retrieval if _is(r, "phase", m, None)]) for m in PHASE}
    return {k: "" if v is None else f"{v:.4f}" for k, v in found.items()}


def _is(row: Row, task: str, metric: str, k: int | None) -> bool:
    return (row["task"], row["metric"], row["k"]) == (task, metric, k)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None
