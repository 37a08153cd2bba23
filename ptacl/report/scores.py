"""Tables of scores that the page and the study's document share: header and rows of text.

`name` says how a method is written: in words on the page, as code in the document.
"""

from collections.abc import Callable, Sequence

from ptacl.evaluation.rows import EVERYBODY
from ptacl.report import words
from ptacl.report.load import Row, Study
from ptacl.report.shown import PREFERRED

# The phenotypes that stand for all where a table can't show every one.
MAIN = ("LVEDV", "LVM", "LVEF")

Table = list[list[str]]
Name = Callable[[str], str]


def cell(row: Row | None, digits: int = 2) -> str:
    """Value, interval, and spread over seeds."""
    text = words.with_interval(row, digits)
    return text if row is None or row.get("seed_sd") is None else f"{text} ± {words.number(row['seed_sd'], digits + 1)}"


def score_rows(
    rows: Sequence[Row], methods: Sequence[str], phenotypes: Sequence[str], name: Name, metric: str = "r2"
) -> Table:
    """A row of cells for every method that has any, of everybody with all labels."""
    by = {
        (r["method"], r["phenotype"]): r
        for r in rows
        if (r["metric"], r["subgroup"], r["label_fraction"]) == (metric, EVERYBODY, 1.0)
    }
    table = []
    for m in methods:
        found = [by.get((m, p)) for p in phenotypes]
        if any(found):
            table.append([name(m), *map(cell, found)])
    return table


def order(study: Study, rows: Sequence[Row]) -> list[str]:
    """Methods of the rows: references, the study's in its order, ceilings."""
    found = list(dict.fromkeys(r["method"] for r in rows))
    mine = [m for m in study.config["methods"] if m in found]
    rest = [m for m in found if m not in mine]
    return [m for m in rest if not m.startswith("ceiling")] + mine + [m for m in rest if m.startswith("ceiling")]


def shown(rows: Sequence[Row]) -> list[str]:
    """The main phenotypes that are among the rows."""
    return [p for p in MAIN if any(r["phenotype"] == p for r in rows)]


def best(study: Study) -> str:
    """The method that a page is about where it can show only one."""
    scored = {r["method"] for r in study.headline}
    return next((m for m in (*PREFERRED, *study.config["methods"]) if m in scored), "")


def covariates(study: Study, name: Name) -> Table:
    """R² of covariates alone and with the ECG, and what the ECG adds to them (partial R²)."""
    both = [r for r in study.regression if r["inputs"] == "covariates_ecg"]
    names, methods = shown(study.regression), order(study, both)
    gains = {r[0]: r[1:] for r in score_rows(both, methods, names, name, "partial_r2")}
    nothing = ["–"] * len(names)
    rows = score_rows(study.regression, ["covariates"], names, name) + score_rows(both, methods, names, name)
    head = ["method", *names, *(f"partial, {n}" for n in names)]
    return [head, *([*r, *gains.get(r[0], nothing)] for r in rows)]


def agreement(study: Study) -> Table:
    """Errors in units, calibration, bias and limits of agreement of the method that the page is about."""
    table = [["quantity", "mean absolute error", "Pearson r", "calibration slope", "bias", "limits of agreement"]]
    method, evaluate = best(study), study.config["evaluate"]
    for quantity in [*evaluate["targets"], *evaluate["extra_targets"]]:
        by = {r["metric"]: r for r in study.headline if (r["method"], r["phenotype"]) == (method, quantity)}
        if by.get("mae", {}).get("value") is not None:
            mae = by["mae"]["value"]
            digits = 3 if mae < 0.1 else 2 if mae < 1 else 1
            limits = [words.number(by[m]["value"], digits) for m in ("loa_lo", "loa_hi")]
            error = f"{words.with_interval(by['mae'], digits)} {words.unit(quantity)}".strip()
            r, slope = words.with_interval(by["pearson_r"]), words.with_interval(by["calibration_slope"])
            table.append(
                [words.label(quantity), error, r, slope, words.with_interval(by["bias"], digits), " to ".join(limits)]
            )
    return table


def below(study: Study, name: Name) -> list[tuple[str, str, int, Table]]:
    """How well values below a limit are told apart: its name, share of visits below in percent, visits, and table."""
    found = []
    for quantity in [f"{t}_below_{limit:g}" for t, limit in study.config["evaluate"]["below"].items()]:
        rows = [r for r in study.headline if r["phenotype"] == quantity]
        methods = order(study, rows)
        precise = {r[0]: r[1] for r in score_rows(rows, methods, [quantity], name, "auprc")}
        told = [[*r, precise.get(r[0], "–")] for r in score_rows(rows, methods, [quantity], name, "auroc")]
        share = next((r for r in rows if r["metric"] == "prevalence" and r["value"] is not None), None)
        if told and share:
            table = [["method", "area under the ROC curve", "average precision"], *told]
            found.append((words.label(quantity), words.number(100 * share["value"], 1), share["n"], table))
    return found


def subgroups(study: Study) -> Table:
    """R², its ceiling and bias of the method that the page is about, by subgroup."""
    method = best(study)
    own = [r for r in study.regression if (r["method"], r["inputs"], r["label_fraction"]) == (method, "ecg", 1.0)]
    by, names = {(r["subgroup"], r["phenotype"], r["metric"]): r for r in own}, shown(own)
    heads = (x for p in names for x in (f"{p} R²", "ceiling", f"{p} bias ({words.unit(p)})"))
    table = [["subgroup", "visits", *heads]]
    for group in dict.fromkeys(r["subgroup"] for r in own):
        cells = []
        for p in names:
            r2 = by.get((group, p, "r2"))
            ceiling = words.number(r2["ceiling"]) if r2 else "–"
            cells += [words.with_interval(r2), ceiling, words.with_interval(by.get((group, p, "bias")), 1)]
        n = max(r["n"] for r in own if r["subgroup"] == group)
        table.append([words.SUBGROUPS.get(group, group), f"{n:,}", *cells])
    return table


def nuisances(study: Study, name: Name) -> Table:
    """How well embeddings tell what is no phenotype."""
    metric = {r["phenotype"]: {"r2": "R²", "auroc": "area under the curve"}[r["metric"]] for r in study.nuisances}
    by = {(r["method"], r["phenotype"]): r for r in study.nuisances}
    table = [["embedding", *(f"{words.label(n)} ({m})" for n, m in metric.items())]]
    table += [[name(m), *(cell(by.get((m, n))) for n in metric)] for m in order(study, study.nuisances)]
    return table
