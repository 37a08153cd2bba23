"""Tables: the comparison as CSV, and the page's tables as rows of text."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from ptacl.artifacts import write_bytes
from ptacl.cohort.fields import COVARIATES, PHENOTYPES
from ptacl.counts import NOT_TOLD, Exact
from ptacl.evaluation.rows import EVERYBODY
from ptacl.report import words
from ptacl.report.load import Row, Study
from ptacl.report.paper import LEADS

SPLITS = ("train", "val", "calibration", "test")


def write_csv(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Rows as CSV; empty where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for r in rows:
        writer.writerow({k: "" if r.get(k) is None else r[k] for k in columns})
    write_bytes(path, text.getvalue().encode())


def cohort_table(study: Study, counts: Exact) -> list[list[str]]:
    """Header and rows: number, covariates and phenotypes (mean and SD) of the pairs by split and sex."""
    known = {(s["subject_id"], s["visit"]): s for s in study.subjects}
    pairs = [(p["split"], known[p["subject_id"], p["visit"]]) for p in study.pairs]
    groups = [("all", [s for _, s in pairs])]
    groups += [(split, [s for x, s in pairs if x == split]) for split in SPLITS]
    groups += [(name, [s for _, s in pairs if s.get("sex") == code]) for name, code in (("women", 0.0), ("men", 1.0))]
    sizes = counts.texts([len(g) for _, g in groups[1:5]]) + counts.texts([len(g) for _, g in groups[5:]])
    table = [["", *(name for name, _ in groups)], ["pairs", counts.text(len(pairs)), *sizes]]
    names = [n for n in (*COVARIATES, *PHENOTYPES) if any(s.get(n) is not None for _, s in pairs) and n != "sex"]
    if any(s.get("sex") is not None for _, s in pairs):
        female = [[s["sex"] == 0.0 for s in g if s.get("sex") is not None] for _, g in groups]
        # The number of a part whose size is not told would tell it.
        shares = [
            NOT_TOLD if size == NOT_TOLD else counts.share(f) for size, f in zip(table[1][1:], female, strict=True)
        ]
        table.append(["women", *shares])
    for n in names:
        title = f"{words.label(n)} ({words.unit(n)})" if words.unit(n) else words.label(n)
        table.append([title, *(_mean_sd([s[n] for s in g if s.get(n) is not None], counts) for _, g in groups)])
    return table


def quality_tables(study: Study, counts: Exact) -> list[tuple[str, list[list[str]]]]:
    """Titles with tables: flags of usable ECGs and cines, how the heart's centre was found."""
    ecg = [r for r in study.ecg if r["status"] == "ok"]
    cmr = [r for r in study.cmr if r["status"] == "ok"]
    return [
        ("ECG: usable recordings with a flag", _flags(ecg, counts)),
        ("ECG: leads that are flat", _flat_leads(ecg, counts)),
        (
            "ECG: cardiac phase",
            [["usable for the local loss", counts.share([bool(r["phase_ok"]) for r in ecg])],
             ["R peaks by the first detector", counts.share([(r["r_method"] or "").startswith("sleepecg:II") for r in ecg])]],
        ),
        ("CMR: usable cines with a flag", _flags(cmr, counts)),
        ("CMR: how the heart's centre was found", _counts(Counter(r["centre_method"] for r in cmr), counts)),
    ]  # fmt: skip


def _flags(rows: list[Row], counts: Exact) -> list[list[str]]:
    found = Counter(words.flag(f) for r in rows for f in r["flags"])
    return [["usable", counts.text(len(rows))], *_counts(found, counts)]


def _flat_leads(rows: list[Row], counts: Exact) -> list[list[str]]:
    flat = Counter({lead: sum(not r["lead_mask"][i] for r in rows) for i, lead in enumerate(LEADS)})
    return _counts(+flat, counts) or [["none", counts.text(0)]]


def _counts(counter: Counter, counts: Exact) -> list[list[str]]:
    ordered = sorted(counter.items(), key=lambda x: (-x[1], str(x[0])))
    return [[str(k), text] for (k, _), text in zip(ordered, counts.texts([n for _, n in ordered]), strict=True)]


def regression_table(study: Study, methods: Sequence[str], phenotypes: Sequence[str]) -> list[list[str]]:
    """Header and rows: R² with interval, r, mean absolute error, n, by phenotype and method."""
    by = {(r["method"], r["phenotype"], r["metric"]): r for r in study.headline}
    table = [["quantity", "method", "R² (95 % interval)", "Pearson r", "mean absolute error", "n", "note"]]
    for name in phenotypes:
        for m in methods:
            r2 = by.get((m, name, "r2"))
            if r2 is not None:
                mae = by.get((m, name, "mae"), {}).get("value")
                error = f"{words.number(mae)} {words.unit(name)}".strip() if mae is not None else "–"
                pearson = words.number(by.get((m, name, "pearson_r"), {}).get("value"))
                row = [words.label(name), words.method(m), words.with_interval(r2), pearson, error]
                table.append([*row, str(r2["n"]), r2["note"] or ""])
    return table


def finetuned_table(study: Study) -> list[list[str]]:
    """Header and rows: R² of fine-tuned models with all labels, by method and target; the header alone where there are none."""
    rows = [r for r in study.finetuned if (r["metric"], r["subgroup"], r["label_fraction"]) == ("r2", EVERYBODY, 1.0)]
    names = [t for t in study.config["evaluate"]["targets"] if any(r["phenotype"] == t for r in rows)]
    by = {(r["method"], r["phenotype"]): r for r in rows}
    table = [["method", *map(words.label, names)]]
    for m in dict.fromkeys(r["method"] for r in rows):
        table.append([words.method(m), *(words.with_interval(by.get((m, n))) for n in names)])
    return table


def identification_table(study: Study) -> list[list[str]]:
    """Header and rows: recall, median rank and mean reciprocal rank by method and direction, with chance."""
    rows = [r for r in study.retrieval if r["task"] == "identification"]
    table = [["method", "direction", "R@1", "R@5", "R@10", "median rank", "mean reciprocal rank", "gallery", "note"]]
    for m, d in dict.fromkeys((r["method"], r["direction"]) for r in rows):
        by = {(r["metric"], r["k"]): r for r in rows if (r["method"], r["direction"]) == (m, d)}
        cells = [by.get(("recall", k)) for k in (1, 5, 10)] + [by.get(("median_rank", None)), by.get(("mrr", None))]
        digits = (2, 2, 2, 0, 2)
        texts = [
            f"{words.with_interval(c, n)}; chance {words.number(c['chance'], n if n == 0 else 3)}" if c else "–"
            for c, n in zip(cells, digits, strict=True)
        ]
        first = cells[0] or {}
        table.append([words.method(m), direction(d), *texts, str(first.get("gallery", "")), first.get("note") or ""])
    return table


def similarity_table(study: Study, k: int = 10) -> list[list[str]]:
    """Header and rows: precision and mean difference of the first k, chance and oracle, by phenotype and method."""
    rows = [r for r in study.retrieval if r["task"] == "phenotype" and r["k"] == k]
    head = ["quantity", "method", "direction", f"precision@{k}", "chance", "oracle", f"difference of the first {k}"]
    table = [[*head, "chance"]]
    rank = {name: i for i, name in enumerate(PHENOTYPES)}
    asked = dict.fromkeys((r["phenotype"], r["method"], r["direction"]) for r in rows)
    for name, m, d in sorted(asked, key=lambda x: rank.get(x[0], len(rank))):
        by = {r["metric"]: r for r in rows if (r["phenotype"], r["method"], r["direction"]) == (name, m, d)}
        p, a = by.get("precision"), by.get("abs_difference")
        if p and a:
            units = words.unit(name)
            table.append(
                [
                    words.label(name), words.method(m), direction(d), words.with_interval(p), words.number(p["chance"]),
                    words.number(p["oracle"]), f"{words.with_interval(a, 1)} {units}",
                    f"{words.number(a['chance'], 1)} {units}",
                ]
            )  # fmt: skip
    return table


def phase_table(study: Study) -> list[list[str]]:
    """Header and rows: phase retrieval on own and on another patient's frames."""
    rows = [r for r in study.retrieval if r["task"] == "phase" and r["direction"] == "ecg_to_cmr"]
    table = [
        [
            "method",
            "own frames",
            "other patients' frames",
            "gap",
            "own frames, cine from mid-cycle",
            "chance",
            "patients",
        ]
    ]
    for m in dict.fromkeys(r["method"] for r in rows):
        by = {r["metric"].removeprefix("phase_accuracy_"): r for r in rows if r["method"] == m}
        texts = [words.with_interval(by.get(name)) for name in ("own", "other", "gap", "shifted")]
        table.append([words.method(m), *texts, words.number(by["own"]["chance"]), str(by["own"]["n"])])
    return table


def direction(name: str) -> str:
    """`ecg_to_cmr` as people write it."""
    return " → ".join(x.upper() for x in name.split("_to_"))


def _mean_sd(values: Sequence[float], counts: Exact) -> str:
    if not counts.enough(len(values)):
        return "–"
    digits = 2 if abs(fmean(values)) < 10 else 1
    return f"{words.number(fmean(values), digits)} ({words.number(stdev(values), digits)})"
