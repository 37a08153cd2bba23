"""Whose value is whose: rows of tables that lie in different orders, who is in a subgroup, and what is a target."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from ptacl.evaluation.rows import Rows
from ptacl.evaluation.stage import evaluate
from ptacl.evaluation.tables import PREDICTIONS, QUERIES, block

Cohort = Any  # of conftest.py
KINDS = ("regression", "retrieval", "predictions", "queries")


def by(rows: list[dict], **keys) -> dict:
    (row,) = (r for r in rows if all(r[k] == v for k, v in keys.items()))
    return row


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rows_of(c: Cohort) -> Rows:
    study = c.study()
    return Rows(c.keys, c.split, study.subjects, study.ecg_tables)


def scored(c: Cohort, **settings) -> dict[str, list[dict]]:
    out = {k: c.folder / f"{k}.parquet" for k in KINDS}
    evaluate("m", 0, c.write().study(**settings), c.folder / "embeddings.parquet", out)
    return {k: pq.read_table(p).to_pylist() for k, p in out.items()}


@pytest.fixture
def mixed(cohort: Callable[..., Cohort]) -> Cohort:
    """Splits between each other, tables in orders of their own, unknown values, cines that only some find."""
    c = cohort(240, 80, n_val=30, n_calibration=30, repeats=40, mixed=True)
    rng, n = np.random.default_rng(5), len(c.keys)
    ecg, cmr = (unit(rng.normal(size=(n, 128))) for _ in range(2))
    c.embeddings |= {"ecg_proj": list(ecg), "cmr_proj": list(unit(cmr + 1.2 * ecg * rng.random((n, 1)) ** 2))}
    c.cohort["LVEDV"][rng.random(n) < 0.2] = np.nan
    return c


def test_values_are_those_of_the_person_and_visit_whatever_the_order_of_the_tables(mixed: Cohort) -> None:
    mixed.ecg["heart_rate_bpm"][7] = np.nan
    rows = rows_of(mixed.write())
    for name in ("LVEDV", "age", "centre"):
        np.testing.assert_array_equal(rows.column(name), mixed.cohort[name])
    np.testing.assert_allclose(rows.of_ecg("heart_rate_bpm"), mixed.ecg["heart_rate_bpm"], rtol=1e-6)
    np.testing.assert_array_equal(rows.of_ecg("noise_ratio"), np.float32(mixed.ecg["noise_ratio"]))
    np.testing.assert_array_equal(rows.flagged("atrial_fibrillation"), [bool(f) for f in mixed.ecg["flags"]])
    assert np.isnan(rows.column("unheard_of")).all() and not rows.flagged("unheard_of").any()
    asked = ["height_cm", "unheard_of", "age"]
    expected = np.stack([mixed.cohort["height_cm"], np.full(len(rows), np.nan), mixed.cohort["age"]], 1)
    np.testing.assert_array_equal(rows.covariates(asked), expected)
    assert rows.covariates([]).shape == (len(rows), 0)


def test_predictions_and_scores_of_subgroups_are_of_who_they_say(mixed: Cohort) -> None:
    found, c = scored(mixed), mixed
    place = {key: i for i, key in enumerate(c.keys)}
    test = np.array(c.split) == "test"
    truth = {n: c.cohort[n] for n in ("LVEDV", "LVEF", "es_ms")} | {"LVEDVi": c.cohort["LVEDV"] / c.cohort["bsa"]}
    sex, age, visit = c.cohort["sex"], c.cohort["age"], np.array([v for _, v in c.keys])
    af = np.array([bool(f) for f in c.ecg["flags"]])
    groups = {
        "all": test,
        "women": test & (sex == 0),
        "age_from_70": test & (age >= 70),
        "later_visit": test & (visit == 3),
    }
    groups |= {"no_atrial_fibrillation": test & ~af}
    for name, y in truth.items():
        about = {"phenotype": name, "inputs": "ecg", "label_fraction": 1.0}
        predicted = [r for r in found["predictions"] if all(r[k] == v for k, v in about.items())]
        at = [place[r["subject_id"], r["visit"]] for r in predicted]
        assert sorted(at) == np.flatnonzero(test & np.isfinite(y)).tolist()
        np.testing.assert_allclose([r["truth"] for r in predicted], y[at], rtol=1e-12)
        p = np.full(len(y), np.nan)
        p[at] = [r["prediction"] for r in predicted]
        for subgroup, members in groups.items():
            members = members & np.isfinite(y)
            row = by(found["regression"], metric="r2", subgroup=subgroup, protocol="probe", **about)
            assert row["n"] == members.sum(), (name, subgroup)
            if len({c.keys[i][0] for i in np.flatnonzero(members)}) >= 3:
                assert row["value"] == pytest.approx(r2_score(y[members], p[members])), (name, subgroup)


def test_every_query_of_every_direction_is_whose_it_says(mixed: Cohort) -> None:
    found, c = scored(mixed), mixed
    test = np.flatnonzero(np.array(c.split) == "test")
    who, keys = np.array([c.keys[i][0] for i in test]), [c.keys[i] for i in test]
    first = np.unique(who, return_index=True)[1]
    ecg, cmr = (np.float32(np.stack(c.embeddings[k]))[test].astype(float) for k in ("ecg_proj", "cmr_proj"))
    y = c.cohort["LVEDV"][test]
    train = c.cohort["LVEDV"][np.array(c.split) == "train"]
    sd = np.nanstd(train)
    directions = {"ecg_to_cmr": (ecg, cmr), "cmr_to_ecg": (cmr, ecg), "ecg_to_ecg": (ecg, ecg)}
    hits = {}
    for direction, (q, g) in directions.items():
        cosine = unit(q) @ unit(g).T
        if direction != "ecg_to_ecg":
            ranks = {keys[i]: 1 + sum(cosine[i, j] > cosine[i, i] for j in first) for i in first}
            for metric, k, of in (
                ("recall", 1, lambda r: r <= 1),
                ("recall", 10, lambda r: r <= 10),
                ("mrr", None, lambda r: 1 / r),
            ):
                expected = {key: float(of(r)) for key, r in ranks.items()}
                about = {"task": "identification", "direction": direction, "metric": metric, "k": k}
                rows = [r for r in found["queries"] if all(r[a] == v for a, v in about.items())]
                assert {(r["subject_id"], r["visit"]): r["value"] for r in rows} == pytest.approx(expected)
                row = by(found["retrieval"], **about)
                assert row["value"] == pytest.approx(np.mean(list(expected.values()))) and row["gallery"] == len(first)
            hits[direction] = np.mean([r <= 1 for r in ranks.values()])
        precision, difference, ap = {}, {}, []
        for i in np.flatnonzero(np.isfinite(y)):
            others = [j for j in range(len(test)) if who[j] != who[i] and np.isfinite(y[j])]
            d = np.abs(y[others] - y[i])
            top = np.argsort(-cosine[i, others])[:10]
            precision[keys[i]], difference[keys[i]] = (d[top] <= sd / 2).mean(), d[top].mean()
            if (d <= sd / 2).any():
                ap.append(average_precision_score(d <= sd / 2, cosine[i, others]))
        about = {"task": "phenotype", "direction": direction, "phenotype": "LVEDV", "k": 10}
        for metric, expected in (("precision", precision), ("abs_difference", difference)):
            rows = [r for r in found["queries"] if all(r[a] == v for a, v in (about | {"metric": metric}).items())]
            assert {(r["subject_id"], r["visit"]): r["value"] for r in rows} == pytest.approx(expected)
        row = by(found["retrieval"], **about | {"metric": "map", "k": None})
        assert row["value"] == pytest.approx(np.mean(ap)) and row["n"] == len(ap)
    assert hits["ecg_to_cmr"] != hits["cmr_to_ecg"] and 0.1 < hits["ecg_to_cmr"] < 0.9
    # A phenotype over body surface is no other likeness.
    assert {r["phenotype"] for r in found["retrieval"] if r["task"] == "phenotype"} == {"LVEDV", "LVEF", "es_ms"}


def test_nuisances_of_the_ecg_are_read_from_the_features_of_the_same_recording(mixed: Cohort) -> None:
    c, rng = mixed, np.random.default_rng(0)
    n = len(c.keys)
    c.ecg |= {"heart_rate_bpm": rng.uniform(50, 90, n), "noise_ratio": np.exp(rng.normal(0, 2, n))}
    features = np.stack(c.embeddings["ecg_feature"])
    features[:, 4], features[:, 5] = np.log(c.ecg["noise_ratio"]), c.ecg["heart_rate_bpm"]
    c.embeddings["ecg_feature"] = list(features)
    for i, noise in ((3, 0.0), (8, -1.0), (20, np.nan)):  # of these there is no logarithm
        c.ecg["noise_ratio"][np.flatnonzero(np.array(c.split) == "test")[i]] = noise
    found = [r for r in scored(c)["regression"] if r["protocol"] == "nuisance"]
    tested = (np.array(c.split) == "test").sum()
    noise, rate = (by(found, phenotype=name) for name in ("log_noise_ratio", "heart_rate_bpm"))
    assert noise["value"] > 0.999 and noise["n"] == tested - 3
    assert rate["value"] > 0.999 and rate["n"] == tested


def test_a_value_at_the_limit_is_not_below_it(cohort: Callable[..., Cohort]) -> None:
    c = cohort(120, 50)
    c.cohort["LVEF"] = np.round(c.cohort["LVEF"] / 5) * 5
    for limit in (50, 50.0):
        found = scored(c, below={"LVEF": limit})
        about = {"inputs": "ecg", "label_fraction": 1.0, "phenotype": "LVEF_below_50"}
        of = [
            r
            for r in found["predictions"]
            if r["phenotype"] == "LVEF" and (r["inputs"], r["label_fraction"]) == ("ecg", 1.0)
        ]
        y, p = (np.array([r[k] for r in of]) for k in ("truth", "prediction"))
        assert (y == 50).sum() > 3
        assert by(found["regression"], metric="prevalence", **about)["value"] == pytest.approx((y < 50).mean())
        assert by(found["regression"], metric="auroc", **about)["value"] == pytest.approx(roc_auc_score(y < 50, -p))
        assert by(found["regression"], metric="auprc", **about)["n"] == 50


# Subgroups


def people(cohort: Callable[..., Cohort], ages: list[float], sexes: list[float], flags: list[list[str] | None]) -> dict:
    c = cohort(len(ages), 1)
    c.cohort |= {"age": np.array(ages), "sex": np.array(sexes)}
    c.ecg["flags"] = flags
    return {name: np.flatnonzero(mask).tolist() for name, mask in rows_of(c.write()).subgroups().items()}


def test_limits_of_age_belong_to_the_band_above_and_who_is_unknown_is_in_none(cohort: Callable[..., Cohort]) -> None:
    none: list[list[str] | None] = [[]] * 7
    found = people(cohort, [59.99, 60, 69.99, 70, 90, np.nan, 44], [0, 1, 0, 1, np.nan, 0, 2], none)
    assert found["age_under_60"] == [0, 6] and found["age_60_to_69"] == [1, 2] and found["age_from_70"] == [3, 4]
    assert found["women"] == [0, 2, 5] and found["men"] == [1, 3]
    assert found["all"] == list(range(7))


def test_only_atrial_fibrillation_is_atrial_fibrillation(cohort: Callable[..., Cohort]) -> None:
    flags: list[list[str] | None] = [
        ["atrial_fibrillation"],
        ["flat_lead"],
        [],
        None,
        ["flat_lead", "atrial_fibrillation"],
    ]
    found = people(cohort, [60.0] * 5, [0.0] * 5, flags)
    assert found["atrial_fibrillation"] == [0, 4] and found["no_atrial_fibrillation"] == [1, 2, 3]


def test_the_first_visit_is_the_first_that_a_person_has(cohort: Callable[..., Cohort], tmp_path: Path) -> None:
    c = cohort(4, 1, repeats=2)
    c.keys = [(s, v + 1 if s == c.ids[0] else v) for s, v in c.keys]  # visits 3 and 4
    found = rows_of(c.write()).subgroups()
    assert [c.keys[i] for i in np.flatnonzero(found["first_visit"])] == [
        (c.ids[0], 3), (c.ids[1], 2), (c.ids[2], 2), (c.ids[3], 2),
    ]  # fmt: skip
    np.testing.assert_array_equal(found["later_visit"], ~found["first_visit"])


def test_without_atrial_fibrillation_in_a_study_its_group_is_empty_and_says_so(cohort: Callable[..., Cohort]) -> None:
    c = cohort(90, 40)
    c.ecg["flags"] = [[]] * 90
    about = {"phenotype": "LVEDV", "metric": "r2", "inputs": "ecg", "label_fraction": 1.0, "protocol": "probe"}
    found = scored(c)["regression"]
    nobody = by(found, subgroup="atrial_fibrillation", **about)
    assert nobody["n"] == 0 and nobody["value"] is None and "0 people" in nobody["note"]
    everybody, others = (by(found, subgroup=g, **about) for g in ("all", "no_atrial_fibrillation"))
    assert everybody | {"subgroup": ""} == others | {"subgroup": ""}


def test_subgroups_are_scored_with_all_labels_only(cohort: Callable[..., Cohort]) -> None:
    found = scored(cohort(300, 60))["regression"]
    assert {r["subgroup"] for r in found if r["label_fraction"] == 0.1} == {"all"}
    assert len({r["subgroup"] for r in found if r["label_fraction"] == 1.0}) == 10


# Targets


def test_targets_known_of_nobody_are_named_where_they_were_asked_for(cohort: Callable[..., Cohort]) -> None:
    c = cohort(30, 10)
    c.cohort["LVEF"] = np.full(30, np.nan)
    targets = rows_of(c.write()).targets(
        {"targets": ["LVEF", "LVEDV", "LVM"], "indexed": ["LVEDV", "LVM"], "extra_targets": ["es_ms", "unheard_of"]}
    )
    # Of what is optional, and is not there, nothing is said.
    assert targets.names == ["LVEDV", "LVEDVi", "es_ms"] and targets.missing == ["LVEF", "LVM"]
    np.testing.assert_allclose(targets["LVEDVi"], c.cohort["LVEDV"] / c.cohort["bsa"])
    del c.cohort["bsa"]
    assert rows_of(c.write()).targets({"targets": ["LVEDV"], "indexed": ["LVEDV"], "extra_targets": []}).names == [
        "LVEDV"
    ]


# Tables


def test_a_block_repeats_what_is_one_value_and_leaves_out_what_is_not_given() -> None:
    given = {
        "method": "m",
        "task": "phase",
        "subject_id": ["9000001", "9000002"],
        "visit": [2, 3],
        "value": np.array([0.5, np.nan]),
    }
    table = block(QUERIES, 2, **given).to_pylist()
    assert [(r["method"], r["subject_id"], r["visit"], r["task"]) for r in table] == [
        ("m", "9000001", 2, "phase"), ("m", "9000002", 3, "phase"),
    ]  # fmt: skip
    assert [r["k"] for r in table] == [r["phenotype"] for r in table] == [None, None]
    assert block(PREDICTIONS, 0, method="m", subject_id=[], truth=np.zeros(0)).num_rows == 0
