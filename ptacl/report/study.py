"""The study as a document: what was compared, on whom, how sure we are, and what it does not show. Markdown with images."""

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from ptacl import __version__
from ptacl.artifacts import settings_digest, write_bytes
from ptacl.counts import Exact
from ptacl.evaluation.rows import EVERYBODY
from ptacl.report import scores, words
from ptacl.report.figures import forest_figure
from ptacl.report.load import Row, Study, load_study
from ptacl.report.page import versions
from ptacl.report.pages import TEMPLATES
from ptacl.report.study_figures import alignment_figure, labels_figure, png
from ptacl.report.tables import SPLITS, cohort_table, direction

# What a method itself looks at, and the reference rows beside it.
ALONE = ("ecg", "cmr", "sex", "covariates", "nothing")
# How a method's ECG is read, by protocol and inputs.
READS = {
    ("probe", "ecg"): "probe, mean over time", ("probe", "ecg_phase"): "probe, phase bins", ("finetune", "ecg"): "fine-tuned",
}  # fmt: skip
COVARIATE_CEILING = "ceiling_meas_covariates"


def write_study(results: Path, config: dict[str, Any], out: Path, today: date) -> None:
    """Writes the document to `out`, and its images into the folder `images` beside it."""
    study = load_study(results, config)
    for name, figure in _figures(study):
        write_bytes(out.parent / "images" / f"study_{name}.png", png(figure))
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("study.md.j2").render(_parts(study, today))
    write_bytes(out, (page.strip() + "\n").encode())


def _parts(study: Study, today: date) -> dict[str, Any]:
    """What the template shows: numbers and Markdown tables."""
    config, evaluate, flow = study.config, study.config["evaluate"], study.flow
    test = [p for p in study.pairs if p["split"] == "test"]
    splits = {s: sum(p["split"] == s for p in study.pairs) for s in SPLITS}
    excluded = sorted(flow["excluded"].items(), key=lambda x: (-x[1], x[0]))
    found = [r for r in study.retrieval if r["task"] == "identification"]
    phase = [r for r in study.retrieval if r["task"] == "phase" and r["direction"] == "ecg_to_cmr"]
    return {
        "title": config["report"]["title"], "note": config["report"]["note"], "today": today.isoformat(),
        "draws": evaluate["bootstraps"], "seeds": config["seeds"], "answers": _answers(study), "verdicts": _verdicts(study),
        "quantities": _quantities(study), "reached": _reached(study), "flow": flow,
        "excluded": ", ".join(f"{words.reason(k)} {n:,}" for k, n in excluded),
        "splits": ", ".join(f"{s} {n:,}" for s, n in splits.items()), "test_visits": f"{len(test):,}",
        "test_people": f"{len({p['subject_id'] for p in test}):,}", "cohort": _markdown(cohort_table(study, Exact())),
        "methods": _methods(study), "probe": _probe(study), "finetuned": _finetuned(study), "ceiling": _ceiling(study),
        "covariate_names": ", ".join(words.label(c).split(" (")[0].lower() for c in evaluate["covariates"]),
        "covariates": _markdown(scores.covariates(study, _code)), "best": scores.best(study),
        "agreement": _markdown(scores.agreement(study)),
        "below": [(label, share, f"{n:,}", _markdown(table)) for label, share, n, table in scores.below(study, _code)],
        "labels": _labels(study), "subgroups": _markdown(scores.subgroups(study)), "identification": _identification(found),
        "gallery": f"{found[0]['gallery']:,}" if found else "", "similarity": _similarity(study), "phase": _phase(phase),
        "phase_chance": words.number(phase[0]["chance"]) if phase else "",
        "phase_people": f"{phase[0]['n']:,}" if phase else "", "nuisances": _markdown(scores.nuisances(study, _code)),
        "nuisance_notes": sorted({f"{words.label(r['phenotype'])}: {r['note']}." for r in study.nuisances if r["note"]}),
        "simulated": config["synthetic"] is not None, "size": config["pretrain"]["encoder"]["size"],
        "epochs": config["pretrain"]["contrastive"]["epochs"], "version": __version__,
        "digest": settings_digest(dict(config)), "packages": versions(),
    }  # fmt: skip


# Cells


def _markdown(table: Sequence[Sequence[str]]) -> str:
    """Header and rows as Markdown; empty where there are no rows."""
    if len(table) < 2:
        return ""
    head, *rows = ("| " + " | ".join(r) + " |" for r in table)
    return "\n".join([head, "|" + "---|" * len(table[0]), *rows])


def _sentence(text: str) -> str:
    """The text as a sentence begins: str.capitalize would make LVEDV lower case."""
    return text[:1].upper() + text[1:]


def _code(method: str) -> str:
    return f"`{method}`"


# What was asked


def _pairs(study: Study) -> dict[tuple[str, str], list[Row]]:
    """The differences that the question asks for, by pair of methods."""
    found: dict[tuple[str, str], list[Row]] = {}
    for d in study.differences:
        if d["kind"] == "difference" and _asked(d):
            found.setdefault((d["method"], d["baseline"]), []).append(d)
    return found


def _verdict(d: Row) -> str:
    return "–" if d["lo"] is None else "above" if d["lo"] > 0 else "below" if d["hi"] < 0 else "not told apart"


def _verdicts(study: Study) -> list[str]:
    """A sentence for every pair: in what the first is above and below the second, in the unit of the difference."""
    sentences = []
    for (method, baseline), rows in _pairs(study).items():
        parts = []
        for verdict in ("above", "below", "not told apart"):
            # Both directions together say nothing that each of them doesn't.
            of = [
                d
                for d in rows
                if _verdict(d) == verdict and (d["task"] != "identification" or d["direction"] != "both")
            ]
            told = verdict != "not told apart"
            shown = [_quantity(d) + (f" ({words.number(d['value'], 3)})" if told else "") for d in of]
            if shown:
                parts.append(f"{_sentence(verdict)}: {'; '.join(shown)}.")
        if parts:
            sentences.append(f"**{_code(method)} against {_code(baseline)}.** " + " ".join(parts))
    return sentences


def _quantities(study: Study) -> list[tuple[str, str]]:
    """Differences of R² for every single quantity, as tables by protocol and what is read: a row for every pair."""
    evaluate, found = study.config["evaluate"], []
    for (protocol, inputs), title in READS.items():
        rows = [
            d for d in study.differences
            if (d["kind"], d["protocol"], d["inputs"], d["metric"]) == ("difference", protocol, inputs, "r2")
        ]  # fmt: skip
        names = [
            n for n in [*evaluate["targets"], *evaluate["extra_targets"]] if any(d["phenotype"] == n for d in rows)
        ]
        by = {(d["method"], d["baseline"], d["phenotype"]): d for d in rows}
        table = [["pair", *names]]
        for method, baseline in dict.fromkeys((d["method"], d["baseline"]) for d in rows):
            cells = (by.get((method, baseline, n)) for n in names)
            table.append([f"{_code(method)} − {_code(baseline)}", *map(_marked, cells)])
        if len(table) > 1:
            found.append((_sentence(title), _markdown(table)))
    return found


def _marked(d: Row | None) -> str:
    """A difference with its interval, in bold where that excludes 0."""
    text = words.with_interval(d, 3)
    return f"**{text}**" if d is not None and _verdict(d) in ("above", "below") else text


def _answers(study: Study) -> str:
    table = [["pair", "quantity", "difference (95 % interval) ± seeds", "verdict", "p, corrected"]]
    for rows in _pairs(study).values():
        for d in rows:
            p = "–" if d["p_holm"] is None else "< 0.001" if d["p_holm"] < 0.001 else f"{d['p_holm']:.3f}"
            pair = f"{_code(d['method'])} − {_code(d['baseline'])}"
            table.append([pair, _quantity(d), scores.cell(d, 3), _verdict(d), p])
    return _markdown(table)


def _asked(d: Row) -> bool:
    if d["task"] == "identification":
        return (d["metric"], d["k"]) == ("recall", 10)
    if d["task"] == "regression":
        main = d["phenotype"] in scores.MAIN or d["phenotype"].startswith("mean_of_")
        return d["inputs"] == "ecg" and main and (d["protocol"] == "probe" or d["phenotype"] == "mean_of_targets")
    return d["task"] == "phase" and d["direction"] == "both" and d["metric"].endswith(("own", "gap"))


def _quantity(d: Row) -> str:
    if d["task"] == "identification":
        ways = "both directions" if d["direction"] == "both" else direction(d["direction"])
        return f"recall@{d['k']} of the own partner, {ways}"
    if d["task"] == "regression":
        return f"R² {words.label(d['phenotype'])}" + (", fine-tuned" if d["protocol"] == "finetune" else "")
    return f"phase found: {'own frames' if d['metric'].endswith('own') else 'own less other patients'}"


def _methods(study: Study) -> str:
    table = [["method", "", "objective", "loss", "starts from"]]
    for m in study.config["methods"]:
        d = study.config["pretrain"]["methods"][m]
        options = {**d.get("loss", {}), **d.get("contrastive", {}), **d.get("augment", {})}
        start = d.get("embedding_of") or d.get("warm_start", {}).get("ecg", "")
        loss = ", ".join(f"{k} {v}" for k, v in options.items())
        table.append([_code(m), words.method(m), d["objective"], loss, start])
    return _markdown(table)


# Regression


def _probe(study: Study) -> list[tuple[str, str]]:
    """Tables by group of quantities and by what is read."""
    evaluate, order = study.config["evaluate"], scores.order(study, study.regression)
    groups = (
        ("Volumes, mass, ejection fractions", evaluate["targets"]), ("Timings", evaluate["extra_targets"]),
        ("Over body surface", [f"{n}i" for n in evaluate["indexed"]]),
    )  # fmt: skip
    found = []
    for title, wanted in groups:
        for read, inputs in (("the mean over time", ALONE), ("phase bins beside it", ("ecg_phase",))):
            rows = [r for r in study.regression if r["inputs"] in inputs]
            names = [p for p in wanted if any(r["phenotype"] == p for r in rows)]
            cells = scores.score_rows(rows, order, names, _code)
            if names and cells:
                found.append((f"{title}, read from {read}", _markdown([["method", *names], *cells])))
    return found


def _finetuned(study: Study) -> str:
    targets = study.config["evaluate"]["targets"]
    names = [t for t in targets if any(r["phenotype"] == t for r in study.finetuned)]
    cells = scores.score_rows(study.finetuned, scores.order(study, study.finetuned), names, _code)
    ceiling = [r for r in study.regression if r["method"] == "ceiling_meas"] if cells else []
    return _markdown([["method", *names], *cells, *scores.score_rows(ceiling, ["ceiling_meas"], names, _code)])


def _shares(study: Study) -> dict[tuple[str, str, str, str], Row]:
    shares = [d for d in study.differences if d["kind"] == "share" and d["baseline"] == "ceiling_meas"]
    return {(d["method"], d["protocol"], d["inputs"], d["phenotype"]): d for d in shares}


def _reached(study: Study) -> str:
    """The largest share of the ceiling for each main phenotype, of the method that the page is about."""
    best, by, parts = scores.best(study), _shares(study), []
    for p in scores.MAIN:
        found = [(d, read) for key, read in READS.items() if (d := by.get((best, *key, p))) and d["value"] is not None]
        if found:
            d, read = max(found, key=lambda x: x[0]["value"])
            parts.append(f"{words.label(p)} {words.with_interval(d)} ({read})")
    return (
        f"**{_code(best)} against what is attainable** from a measured trace, share of R²: {'; '.join(parts)}."
        if parts
        else ""
    )


def _ceiling(study: Study) -> str:
    by = _shares(study)
    table = [["method", "read by", *scores.MAIN]]
    for m in study.config["methods"]:
        for (protocol, inputs), name in READS.items():
            found = [by.get((m, protocol, inputs, p)) for p in scores.MAIN]
            if any(found):
                table.append([_code(m), name, *map(words.with_interval, found)])
    return _markdown(table)


def _labels(study: Study) -> list[tuple[str, str]]:
    """Tables by protocol, where a study has several shares of the labels."""
    found = []
    for title, every in (("Probe", study.regression), ("Fine-tuned", study.finetuned)):
        rows = [
            r for r in every
            if r["inputs"] in ("ecg", "covariates") and (r["metric"], r["subgroup"]) == ("r2", EVERYBODY)
        ]  # fmt: skip
        fractions = sorted({r["label_fraction"] for r in rows})
        by = {(r["method"], r["phenotype"], r["label_fraction"]): r for r in rows}
        columns = [(p, f) for p in scores.shown(rows) for f in fractions]
        table = [["method", *(f"{p}, {100 * f:g} %" for p, f in columns)]]
        for m in scores.order(study, rows):
            if any((m, p, f) in by for p, f in columns if f < 1):
                table.append([_code(m), *(_short(by.get((m, *c))) for c in columns)])
        if len(table) > 1:
            found.append((title, _markdown(table)))
    return found


def _short(row: Row | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    return words.number(row["value"]) + (f" ± {words.number(row['seed_sd'])}" if row["seed_sd"] is not None else "")


# Retrieval


def _identification(rows: Sequence[Row]) -> str:
    table = [["method", "direction", "R@1", "R@5", "R@10", "median rank", "mean reciprocal rank"]]
    measures = [("recall", 1), ("recall", 5), ("recall", 10), ("median_rank", None), ("mrr", None)]
    digits = (2, 2, 2, 0, 2)
    for m, way in dict.fromkeys((r["method"], r["direction"]) for r in rows):
        by = {(r["metric"], r["k"]): r for r in rows if (r["method"], r["direction"]) == (m, way)}
        cells = (scores.cell(by.get(measure), d) for measure, d in zip(measures, digits, strict=True))
        table.append([_code(m), direction(way), *cells])
    if rows:
        chance = {(r["metric"], r["k"]): r["chance"] for r in rows}
        blind = (words.number(chance[m], 0 if m[0] == "median_rank" else 3) for m in measures)
        table.append(["chance", "", *blind])
    return _markdown(table)


def _similarity(study: Study) -> str:
    rows = [r for r in study.retrieval if r["task"] == "phenotype" and r["k"] == 10]
    names = scores.shown(rows)
    by: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for r in rows:
        by.setdefault((r["method"], r["direction"]), {})[r["phenotype"], r["metric"]] = r
    heads = (x for p in names for x in (f"{p} precision@10", f"{p} difference ({words.unit(p)})"))
    table = [["method", "direction", *heads]]
    for m in scores.order(study, rows):
        for way, own in ((way, own) for (method, way), own in by.items() if method == m):
            pairs = ((own.get((p, "precision")), own.get((p, "abs_difference"))) for p in names)
            table.append(
                [_code(m), direction(way), *(x for a, b in pairs for x in (scores.cell(a), words.with_interval(b, 1)))]
            )
    if names:
        any_of = {(r["phenotype"], r["metric"]): r for r in rows}
        for name in ("chance", "oracle"):
            both = ((any_of[p, "precision"][name], any_of[p, "abs_difference"][name]) for p in names)
            table.append([name, "", *(x for a, b in both for x in (words.number(a), words.number(b, 1)))])
    return _markdown(table)


def _phase(rows: Sequence[Row]) -> str:
    table = [["method", "own frames", "other patients' frames", "gap", "own frames, cine from mid-cycle"]]
    for m in dict.fromkeys(r["method"] for r in rows):
        by = {r["metric"].removeprefix("phase_accuracy_"): r for r in rows if r["method"] == m}
        table.append([_code(m), *(scores.cell(by.get(name)) for name in ("own", "other", "gap", "shifted"))])
    return _markdown(table)


# Images


def _figures(study: Study) -> Iterable[tuple[str, Figure]]:
    evaluate = study.config["evaluate"]
    order = [m for m in scores.order(study, study.headline) if m != COVARIATE_CEILING]
    known = {r["phenotype"] for r in study.headline}
    names = [n for n in [*evaluate["targets"], *evaluate["extra_targets"]] if n in known]
    if names:
        yield "forest", forest_figure(study.headline, names, order)
    shown = {m: rows for m, rows in study.alignment.items() if rows}
    if shown:
        yield "alignment", alignment_figure(shown)
    if _labels(study):
        sides = {"probe": study.regression} | ({"fine-tuned": study.finetuned} if study.finetuned else {})
        methods = [m for m in scores.order(study, [*study.regression, *study.finetuned]) if not m.startswith("ceiling")]
        yield "labels", labels_figure(sides, scores.shown(study.regression), methods)
