"""The whole stage on a small study: who is scored, what must not reach a score, and inputs that go wrong."""

import csv
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from ptacl.artifacts import write_table, write_tensors
from ptacl.errors import ArtifactError, ConfigError
from ptacl.evaluation.compare import compare
from ptacl.evaluation.stage import evaluate, evaluate_finetuned, evaluate_references
from ptacl.evaluation.tables import REGRESSION, RETRIEVAL, write_rows
from ptacl.evaluation.validation import write_validation
from ptacl.store.labels import labelled

KINDS = ("regression", "retrieval", "predictions", "queries", "alignment")


def by(rows: list[dict], **keys) -> dict:
    (row,) = (r for r in rows if all(r[k] == v for k, v in keys.items()))
    return row


def headline(rows: list[dict], phenotype: str, metric: str = "r2", **keys) -> dict:
    asked = {"protocol": "probe", "inputs": "ecg", "label_fraction": 1.0, "subgroup": "all"} | keys
    return by(rows, phenotype=phenotype, metric=metric, **asked)


def scored(
    cohort, feature: str = "ecg_feature", seed: int = 0, split: str = "test", method: str = "m", **settings
) -> dict[str, list[dict]]:
    out = {k: cohort.folder / k / method / f"seed{seed}.parquet" for k in KINDS}
    evaluate(method, seed, cohort.study(split, **settings), cohort.folder / "embeddings.parquet", out, feature=feature)
    return {k: pq.read_table(p).to_pylist() for k, p in out.items()}


def dealt(cohort):
    """The same splits dealt out to other people: those who are scored are neither first nor together."""
    of = {s: cohort.split[i] for i, (s, _) in enumerate(cohort.keys)}
    mixed = dict(zip(of, np.random.default_rng(5).permutation(list(of.values())).tolist(), strict=True))
    cohort.split = [mixed[s] for s, _ in cohort.keys]
    return cohort


def spoil(cohort, split: str, with_value: float | None) -> None:
    """Everything of a split is unknown, or as given: phenotypes, covariates, embeddings."""
    rows = np.array(cohort.split) == split
    for values in cohort.cohort.values():
        values[rows] = np.nan if with_value is None else with_value
    for column, lists in cohort.embeddings.items():
        if lists is not None:
            bad = None if with_value is None else np.full(len(lists[0]), with_value)
            cohort.embeddings[column] = [bad if r else v for r, v in zip(rows, lists, strict=True)]


def test_every_score_of_a_study_is_that_of_its_predictions_on_the_test_rows(cohort) -> None:
    c = cohort(300, 90, repeats=20).write()
    found = scored(c)
    tested = {k for k, s in zip(c.keys, c.split, strict=True) if s == "test"}
    for inputs in ("ecg", "ecg_phase", "covariates_ecg"):
        for name in ("LVEDV", "LVEF", "es_ms", "LVEDVi"):
            rows = [
                r for r in found["predictions"]
                if (r["phenotype"], r["inputs"], r["label_fraction"]) == (name, inputs, 1.0)
            ]  # fmt: skip
            assert {(r["subject_id"], r["visit"]) for r in rows} == tested
            y, p = (np.array([r[k] for r in rows]) for k in ("truth", "prediction"))
            row = headline(found["regression"], name, inputs=inputs)
            assert row["value"] == pytest.approx(r2_score(y, p)) and row["n"] == len(tested)
            assert row["lo"] < row["value"] < row["hi"]
            if name == "LVEF":
                told = headline(found["regression"], "LVEF_below_50", "auroc", inputs=inputs)
                assert told["value"] == pytest.approx(roc_auc_score(y < 50, -p))
    truth = dict(zip(c.keys, c.cohort["LVEDV"] / c.cohort["bsa"], strict=True))
    indexed = [r for r in found["predictions"] if r["phenotype"] == "LVEDVi"]
    assert all(r["truth"] == pytest.approx(truth[r["subject_id"], r["visit"]]) for r in indexed)
    assert "no value of this phenotype" in headline(found["regression"], "LVM")["note"]
    assert min(headline(found["regression"], n, inputs="ecg_phase")["value"] for n in ("es_ms", "LVEDV")) > 0.8
    assert headline(found["regression"], "es_ms")["value"] < 0.2


def test_subgroups_are_who_they_are_called(cohort) -> None:
    c = cohort(200, 80, repeats=15).write()
    found = scored(c)["regression"]
    test = np.array([s == "test" for s in c.split])
    visit = np.array([v for _, v in c.keys])
    af = np.array([bool(f) for f in c.ecg["flags"]])
    age, sex = c.cohort["age"], c.cohort["sex"]
    expected = {
        "women": sex == 0, "men": sex == 1, "age_under_60": age < 60, "age_60_to_69": (age >= 60) & (age < 70),
        "age_from_70": age >= 70, "atrial_fibrillation": af, "no_atrial_fibrillation": ~af, "first_visit": visit == 2,
        "later_visit": visit == 3,
    }  # fmt: skip
    for name, group in expected.items():
        assert headline(found, "LVEDV", subgroup=name)["n"] == (test & group).sum(), name
    few = headline(found, "LVEDV", subgroup="later_visit")
    assert few["value"] is not None and few["lo"] is None and "an interval needs" in few["note"]


def test_what_the_ecg_adds_to_covariates_is_the_share_of_their_error(cohort) -> None:
    c = cohort(300, 100)
    c.cohort["LVEF"] = 55 + 6 * (c.cohort["age"] - 62) / 10 + np.random.default_rng(0).normal(0, 1, 300)
    found = scored(c.write())["regression"]
    assert by(found, metric="partial_r2", phenotype="LVEDV")["value"] > 0.8
    nothing = by(found, metric="partial_r2", phenotype="LVEF")
    assert abs(nothing["value"]) < 0.1 and headline(found, "LVEF", inputs="covariates_ecg")["value"] > 0.8


def test_nuisances_are_told_from_the_features_where_they_are_in_them(cohort) -> None:
    c = cohort(300, 100)
    features = np.stack(c.embeddings["ecg_feature"])
    features[:, 2], features[:, 3] = c.cohort["sex"], c.cohort["centre"] == 2
    c.embeddings["ecg_feature"] = list(features)
    rows = [r for r in scored(c.write())["regression"] if r["protocol"] == "nuisance"]
    assert by(rows, phenotype="sex")["value"] == 1
    assert 0.7 < by(rows, phenotype="centre")["value"] < 1  # one of three is told apart
    assert by(rows, phenotype="age")["value"] < 0.1
    del c.cohort["centre"]
    rows = [r for r in scored(c.write())["regression"] if r["protocol"] == "nuisance"]
    assert by(rows, phenotype="centre")["note"] == "not known in this cohort"


def test_the_truth_of_the_test_split_changes_no_prediction(cohort) -> None:
    c = cohort(120, 40).write()
    before = scored(c)["predictions"]
    for name in ("LVEDV", "LVEF"):
        c.cohort[name][np.array(c.split) == "test"] *= -3
    after = scored(c.write())["predictions"]
    assert [r["prediction"] for r in before] == [r["prediction"] for r in after]
    assert [r["truth"] for r in before] != [r["truth"] for r in after]


def test_at_a_share_of_the_labels_nobody_elses_label_is_used_and_the_seed_says_whose(cohort) -> None:
    c = cohort(300, 60).write()

    def few(seed: int) -> list[float]:
        return [r["prediction"] for r in scored(c, seed=seed)["predictions"] if r["label_fraction"] == 0.1]

    before, other_seed = few(0), few(1)
    known = labelled([s for (s, _), of in zip(c.keys, c.split, strict=True) if of == "train"], 0.1, 0)
    unlabelled = np.array([of == "train" and s not in known for (s, _), of in zip(c.keys, c.split, strict=True)])
    assert unlabelled.sum() == 216
    for name in ("LVEDV", "LVEF", "es_ms"):
        c.cohort[name][unlabelled] += 1000
    c.write()
    assert few(0) == before and before != other_seed


@pytest.mark.parametrize(
    ("feature", "paired", "value"),
    [
        ("ecg_feature", True, None),
        ("ecg_feature", True, np.nan),
        ("ecg_feature", False, 1e5),
        ("cmr_feature", True, 1e5),
    ],
)
def test_what_is_decided_on_the_validation_split_never_sees_the_test_split(cohort, feature, paired, value) -> None:
    c = dealt(cohort(150, 40, n_val=40))
    if not paired:
        c.embeddings |= dict.fromkeys(("ecg_proj", "cmr_proj"))
    before = scored(c.write(), feature, split="val")
    assert {r["n"] for r in before["regression"] if r["subgroup"] == "all" and r["value"] is not None} == {40}
    val = {k for k, s in zip(c.keys, c.split, strict=True) if s == "val"}
    for kind in ("predictions", "queries"):
        assert {(r["subject_id"], r["visit"]) for r in before[kind]} == val
    spoil(c, "test", value)
    after = scored(c.write(), feature, split="val")
    for kind in KINDS:
        assert before[kind] == after[kind], kind


def test_a_row_without_an_embedding_moves_nobody_elses(cohort) -> None:
    c = cohort(90, 30).write()
    clean = [r for r in scored(c)["predictions"] if r["inputs"] == "ecg"]
    for i in (1, 2):
        c.embeddings["ecg_feature"][i] = None
    holed = [r for r in scored(c.write())["predictions"] if r["inputs"] == "ecg"]
    changed = {a["subject_id"] for a, b in zip(clean, holed, strict=True) if a["prediction"] != b["prediction"]}
    assert changed == {c.keys[1][0], c.keys[2][0]}


def test_without_a_usable_phase_a_person_is_predicted_but_not_aligned(cohort) -> None:
    c = cohort(90, 40)
    for column in ("ecg_phase", "cmr_phase", "cmr_phase_shifted", "ecg_phase_feature"):
        c.embeddings[column][:15] = [None] * 15
    found = scored(c.write())
    assert headline(found["regression"], "LVEDV", inputs="ecg_phase")["n"] == 40
    own = by(found["retrieval"], metric="phase_accuracy_own", direction="ecg_to_cmr")
    assert own["n"] == 25 and own["value"] == 1
    assert by(found["retrieval"], metric="phase_accuracy_shifted", direction="ecg_to_cmr")["value"] < 0.2
    for column in ("ecg_phase", "cmr_phase", "cmr_phase_shifted", "ecg_phase_feature"):
        c.embeddings[column] = None
    found = scored(c.write())
    assert not found["alignment"] and "phase" not in {r["task"] for r in found["retrieval"]}
    assert {r["inputs"] for r in found["regression"]} == {"ecg", "covariates_ecg"}


def test_a_method_without_a_cmr_side_retrieves_ecgs_only_and_a_common_mean_does_not_matter(cohort) -> None:
    c = cohort(120, 50)
    for column in ("cmr_feature", "ecg_proj", "cmr_proj", "ecg_phase", "cmr_phase", "cmr_phase_shifted"):
        c.embeddings[column] = None
    c.embeddings["ecg_feature"] = [v + 1000 for v in c.embeddings["ecg_feature"]]
    found = scored(c.write())
    assert {(r["task"], r["direction"]) for r in found["retrieval"]} == {("phenotype", "ecg_to_ecg")}
    row = by(found["retrieval"], metric="map", phenotype="LVEDV")
    assert row["lo"] > row["chance"]


def test_the_upper_reference_is_probed_and_searched_by_the_cmr_embedding(cohort) -> None:
    c = cohort(120, 50)
    c.embeddings["cmr_feature"] = [v + 1000 for v in c.embeddings["ecg_feature"]]
    c.embeddings["ecg_feature"] = list(np.random.default_rng(0).normal(size=(120, 6)))
    found = scored(c.write(), "cmr_feature")
    assert {r["inputs"] for r in found["regression"]} == {"cmr"}
    assert {(r["task"], r["direction"]) for r in found["retrieval"]} == {("phenotype", "cmr_to_cmr")}
    assert headline(found["regression"], "LVEDV", inputs="cmr")["lo"] > 0.7
    alike = by(found["retrieval"], metric="map", phenotype="LVEDV")
    assert alike["lo"] > alike["chance"]


def test_what_is_kept_of_every_query_is_what_is_found_among_the_others_of_its_split(cohort) -> None:
    c = dealt(cohort(90, 30, n_val=30, repeats=40))
    rng, rows = np.random.default_rng(0), [i for i, s in enumerate(c.split) if s == "val"]
    sides = {side: np.stack(c.embeddings["ecg_proj"]) + 0.05 * rng.normal(size=(130, 128)) for side in ("ecg", "cmr")}
    sides = {side: x / np.linalg.norm(x, axis=1, keepdims=True) for side, x in sides.items()}
    c.embeddings |= {f"{side}_proj": list(x) for side, x in sides.items()}
    found = scored(c.write(), split="val")
    assert {r["phenotype"] for r in found["retrieval"] if r["task"] == "phenotype"} == {"LVEDV", "LVEF", "es_ms"}
    for direction in ("ecg_to_cmr", "cmr_to_ecg", "ecg_to_ecg"):
        query, gallery = (sides[side] for side in direction.split("_to_"))
        difference, place = {}, {}
        for i in rows:
            order = sorted(rows, key=lambda j, i=i: -query[i] @ gallery[j])
            alike = [j for j in order if c.keys[j][0] != c.keys[i][0]][:10]
            difference[c.keys[i]] = np.abs(c.cohort["LVEF"][alike] - c.cohort["LVEF"][i]).mean()
            if c.keys[i][1] == 2:
                place[c.keys[i]] = 1 / (1 + [j for j in order if c.keys[j][1] == 2].index(i))
        asked = [({"metric": "abs_difference", "phenotype": "LVEF", "k": 10}, difference)]
        asked += [({"metric": "mrr"}, place)] if direction != "ecg_to_ecg" else []
        for about, expected in asked:
            about |= {"direction": direction}
            kept = [r for r in found["queries"] if all(r[k] == v for k, v in about.items())]
            assert {(r["subject_id"], r["visit"]): r["value"] for r in kept} == pytest.approx(expected)
            row = by(found["retrieval"], **about)
            assert row["value"] == pytest.approx(np.mean(list(expected.values()))) and row["n"] == len(kept)


def test_a_study_without_covariates_gives_what_it_can(cohort) -> None:
    c = cohort(90, 30)
    c.cohort = {"LVEDV": c.cohort["LVEDV"]}
    found = scored(c.write())
    assert {r["inputs"] for r in found["regression"]} == {"ecg", "ecg_phase"}
    assert headline(found["regression"], "LVEDV", subgroup="women")["n"] == 0
    assert {r["note"] for r in found["regression"] if r["phenotype"] == "LVEF"} != {None}


@pytest.mark.parametrize("nothing", [[], None])
def test_without_atrial_fibrillation_its_group_is_empty_and_the_other_is_everybody(cohort, nothing) -> None:
    c = cohort(90, 30)
    c.ecg["flags"] = [["flat_lead"] if i % 2 else nothing for i in range(90)]
    found = scored(c.write())["regression"]
    empty = headline(found, "LVEDV", subgroup="atrial_fibrillation")
    assert empty["n"] == 0 and empty["value"] is None and "0 people" in empty["note"]
    rest, everybody = (headline(found, "LVEDV", subgroup=g) for g in ("no_atrial_fibrillation", "all"))
    assert rest == everybody | {"subgroup": "no_atrial_fibrillation"}


def test_a_study_of_which_no_phenotype_is_known_still_says_who_is_found(cohort) -> None:
    c = cohort(90, 30)
    for name in ("LVEDV", "LVEF", "es_ms"):
        del c.cohort[name]
    found = scored(c.write())
    probed = [r for r in found["regression"] if r["protocol"] == "probe"]
    assert {r["phenotype"] for r in probed} == {"LVEDV", "LVEF", "LVM"}
    assert all(r["n"] == 0 and r["value"] is None and "no value" in r["note"] for r in probed)
    assert not found["predictions"]
    assert {r["task"] for r in found["retrieval"]} == {"identification", "phase"}


@pytest.mark.parametrize(("n", "n_test"), [(2, 1), (4, 0), (4, 1), (5, 2), (8, 4), (4, 4)])
@pytest.mark.parametrize("paired", [True, False])
def test_a_study_too_small_for_numbers_says_so(cohort, n: int, n_test: int, paired: bool) -> None:
    c = cohort(n, n_test)
    if not paired:
        c.embeddings |= dict.fromkeys(("ecg_proj", "cmr_proj"))
    found = scored(c.write())
    for row in [*found["regression"], *found["retrieval"]]:
        assert row["lo"] is None and row["hi"] is None and row["note"]


@pytest.mark.parametrize(("table", "where"), [("subjects", "the cohort"), ("ecg", "the ECG shards")])
def test_a_row_that_left_the_study_is_an_error_that_names_nobody(cohort, table: str, where: str) -> None:
    c = cohort(12, 4).write()
    path = c.folder / f"{table}.parquet"
    short = pq.read_table(path)
    pq.write_table(short.slice(1), path)
    with pytest.raises(ArtifactError, match=f"1 rows are not in {where}") as error:
        scored(c)
    assert "9000" not in str(error.value)


# Fine-tuned models


def finetuned(c, predicted: dict[str, np.ndarray], name: str = "finetuned") -> Path:
    """What fine-tuning leaves of all rows, for phenotypes by name; NaN where it predicts nothing."""
    rows = [(k, s, p, v[i]) for i, (k, s) in enumerate(zip(c.keys, c.split, strict=True)) for p, v in predicted.items()]
    rows = [r for r in rows if np.isfinite(r[3])]
    types = {"subject_id": pa.string(), "visit": pa.int8(), "split": pa.string(), "phenotype": pa.string()}
    values = ([k[0] for k, *_ in rows], [k[1] for k, *_ in rows], [r[1] for r in rows], [r[2] for r in rows])
    columns = {n: pa.array(v, t) for (n, t), v in zip(types.items(), values, strict=True)}
    table = pa.table(columns | {"predicted": pa.array([r[3] for r in rows], pa.float64())})
    write_table(c.folder / name, table, kind="finetune_predictions", version=1, settings={})
    return c.folder / name


def scored_finetuned(c, paths: dict[float, Path], split: str = "test") -> dict[str, list[dict]]:
    out = {k: c.folder / k / "m" / "seed0_finetuned.parquet" for k in ("regression", "predictions")}
    evaluate_finetuned("m", c.study(split), paths, out)
    return {k: pq.read_table(p).to_pylist() for k, p in out.items()}


def test_fine_tuned_predictions_are_scored_by_label_fraction_on_the_test_rows(cohort) -> None:
    c = dealt(cohort(100, 40, repeats=30)).write()
    rng, given, paths = np.random.default_rng(0), {}, {}
    for fraction, noise in ((0.1, 40.0), (1.0, 5.0)):
        given[fraction] = {n: c.cohort[n] + rng.normal(0, noise, 130) for n in ("LVEDV", "LVEF")}
        given[fraction]["LVEF"][::3] = np.nan
        paths[fraction] = finetuned(c, given[fraction] | {"unheard_of": np.ones(130)}, f"finetuned_{fraction}")
    paths[0.01] = finetuned(c, {}, "nothing")
    found = scored_finetuned(c, paths)
    assert {(r["protocol"], r["inputs"]) for r in found["regression"]} == {("finetune", "ecg")}
    assert list(dict.fromkeys(r["label_fraction"] for r in found["regression"])) == [1.0, 0.1]
    all_labels, few = (
        headline(found["regression"], "LVEDV", protocol="finetune", label_fraction=f) for f in (1.0, 0.1)
    )
    assert all_labels["value"] > 0.9 > few["value"]
    tested = np.array(c.split) == "test"
    for fraction, of in given.items():
        for name, values in of.items():
            rows = np.flatnonzero(tested & np.isfinite(values))
            expected = {c.keys[i]: (c.cohort[name][i], values[i]) for i in rows}
            kept = [r for r in found["predictions"] if (r["label_fraction"], r["phenotype"]) == (fraction, name)]
            assert {(r["subject_id"], r["visit"]): (r["truth"], r["prediction"]) for r in kept} == expected
            row = headline(found["regression"], name, protocol="finetune", label_fraction=fraction)
            assert row["value"] == pytest.approx(r2_score(*zip(*expected.values(), strict=True))) and row["n"] == len(
                rows
            )
    assert {r["phenotype"] for r in found["predictions"]} == {"LVEDV", "LVEF"}


def test_fine_tuned_models_are_judged_on_the_validation_split_without_the_test_split(cohort) -> None:
    c = dealt(cohort(100, 30, n_val=30)).write()
    predicted = {n: c.cohort[n] + np.random.default_rng(0).normal(0, 5, 100) for n in ("LVEDV", "LVEF")}
    before = scored_finetuned(c, {1.0: finetuned(c, predicted)}, "val")
    assert headline(before["regression"], "LVEDV", protocol="finetune")["n"] == 30
    spoil(c, "test", 1e5)
    for values in predicted.values():
        values[np.array(c.split) == "test"] = -1e5
    assert scored_finetuned(c.write(), {1.0: finetuned(c, predicted)}, "val") == before


@pytest.mark.parametrize(("n", "n_test"), [(4, 0), (3, 2), (12, 10)])
def test_a_fine_tuned_model_of_a_tiny_study_has_notes(cohort, n: int, n_test: int) -> None:
    c = cohort(n, n_test).write()
    found = scored_finetuned(c, {1.0: finetuned(c, {"LVEDV": c.cohort["LVEDV"]})})
    assert all(r["note"] and r["lo"] is None for r in found["regression"])
    assert len(found["predictions"]) == n_test


# The reference rows


def with_beats(c, spoilt: str = ""):
    """Adds pairs and two ECG shards, in which LVEDV is the voltage of the median beat. `spoilt`: a split of odd recordings."""
    n, bad = len(c.keys), np.array(c.split) == spoilt
    voltage = np.random.default_rng(0).uniform(50, 200, n)
    c.cohort["LVEDV"] = voltage.copy()
    if spoilt:
        spoil(c, spoilt, np.nan)
        voltage[bad] = 30_000
    rate = [None if i % 7 == 0 or bad[i] else 25.0 * 10 ** (i % 30 / 30) for i in range(n)]
    place = [n - i // 2 - 1 for i in range(n)]
    for shard in (0, 1):
        beats = np.zeros((n, 12, 40), np.int16)  # shorter than real ones, for speed
        for i in range(shard, n, 2):
            beats[place[i]] = voltage[i]
        write_tensors(
            c.folder / f"{shard:04d}.safetensors", {"median_beat": beats}, kind="ecg_tensors", version=1, settings={}
        )
    pairs = pa.table(
        {
            "subject_id": pa.array([s for s, _ in c.keys]), "visit": pa.array([v for _, v in c.keys], pa.int8()),
            "split": c.split, "shard": pa.array([i % 2 for i in range(n)], pa.int32()), "ecg_row": pa.array(place, pa.int32()),
            "heart_rate_bpm": pa.array(rate, pa.float32()),
            "rr_ms": pa.array([None if r is None else 60000 / (1.03 * r) for r in rate], pa.float32()),
        }
    )  # fmt: skip
    write_table(c.folder / "pairs", pairs, kind="pairs", version=1, settings={})
    return c.write()


def scored_references(c, split: str = "test", seeds: tuple[int, ...] = (0, 1), **settings) -> dict[str, list[dict]]:
    out = {k: c.folder / k / "references.parquet" for k in ("regression", "retrieval", "predictions", "queries")}
    evaluate_references(c.study(split, **settings), c.folder / "pairs", c.folder, seeds, out)
    return {k: pq.read_table(p).to_pylist() for k, p in out.items()}


def references(
    cohort, n: int = 90, n_test: int = 30, table: pa.Table | None = None, **settings
) -> dict[str, list[dict]]:
    c = with_beats(cohort(n, n_test))
    if table is not None:
        pq.write_table(table, c.folder / "given")
        settings["reference_predictions"] = str(c.folder / "given")
    return scored_references(c, **settings)


def test_reference_rows_are_what_they_are_called(cohort) -> None:
    found = references(cohort)
    assert headline(found["regression"], "LVEDV", method="median_beat")["lo"] > 0.9
    assert headline(found["regression"], "LVEDV", method="chance", inputs="nothing")["value"] <= 0
    methods = {r["method"]: r["inputs"] for r in found["regression"]}
    assert methods == {"chance": "nothing", "sex": "sex", "covariates": "covariates", "median_beat": "ecg"}
    few = [
        r for r in found["regression"] if (r["method"], r["phenotype"], r["metric"]) == ("median_beat", "LVEDV", "r2")
    ]
    assert [r["label_fraction"] for r in few if r["subgroup"] == "all"] == [0.1, 0.1, 1.0]  # two seeds
    kept = [(r["method"], r["phenotype"], r["subject_id"], r["visit"]) for r in found["predictions"]]
    assert len(set(kept)) == len(kept) == 4 * 4 * 30  # of all labels only: methods, phenotypes, test rows


def test_no_label_of_the_test_split_changes_what_a_reference_predicts(cohort) -> None:
    c = with_beats(dealt(cohort(120, 40)))
    before = scored_references(c)["predictions"]
    for name in ("LVEDV", "LVEF", "es_ms"):
        c.cohort[name][np.array(c.split) == "test"] *= -3
    after = scored_references(c.write())["predictions"]
    assert [r["prediction"] for r in before] == [r["prediction"] for r in after]
    assert [r["truth"] for r in before] != [r["truth"] for r in after]


def test_a_reference_at_a_share_of_the_labels_knows_those_that_methods_know(cohort) -> None:
    c = with_beats(dealt(cohort(200, 60)))

    def few(seed: int) -> list[dict]:
        return [r for r in scored_references(c, seeds=(seed,))["regression"] if r["label_fraction"] == 0.1]

    before, other_seed = few(0), few(1)
    known = labelled([s for (s, _), of in zip(c.keys, c.split, strict=True) if of == "train"], 0.1, 0)
    unlabelled = np.array([of == "train" and s not in known for (s, _), of in zip(c.keys, c.split, strict=True)])
    for name in ("LVEDV", "LVEF", "es_ms"):
        c.cohort[name][unlabelled] += 1000
    c.write()
    assert {r["method"] for r in before} == {"covariates", "median_beat"}
    assert few(0) == before != other_seed and few(1) != other_seed


def test_references_on_the_validation_split_never_see_the_test_split(cohort) -> None:
    c = dealt(cohort(150, 40, n_val=40))
    before = scored_references(with_beats(c), "val")
    assert headline(before["regression"], "LVEDV", method="median_beat")["n"] == 40
    after = scored_references(with_beats(c, spoilt="test"), "val")
    for kind, rows in before.items():
        assert rows == after[kind], kind


def test_those_alike_in_covariates_are_the_nearest_in_standard_deviations_of_the_training_split(cohort) -> None:
    c = with_beats(dealt(cohort(150, 40)))
    x = np.stack([c.cohort[n] for n in ("age", "sex", "height_cm")], axis=1)
    train = np.array(c.split) == "train"
    x = (x - x[train].mean(0)) / x[train].std(0)
    tested, expected = [i for i, s in enumerate(c.split) if s == "test"], {}
    for i in tested:
        others = sorted((j for j in tested if j != i), key=lambda j, i=i: np.square(x[j] - x[i]).sum())
        expected[c.keys[i][0]] = np.abs(c.cohort["LVEF"][others[:10]] - c.cohort["LVEF"][i]).mean()
    about = ("covariates", "LVEF", "abs_difference", 10)
    found = scored_references(c)["queries"]
    kept = [r for r in found if (r["method"], r["phenotype"], r["metric"], r["k"]) == about]
    assert {r["subject_id"]: r["value"] for r in kept} == pytest.approx(expected)


def test_the_same_heart_rate_finds_the_own_cine_unless_it_is_unknown(cohort) -> None:
    found = references(cohort)["retrieval"]
    row = by(found, method="heart_rate", task="identification", metric="recall", k=1, direction="ecg_to_cmr")
    unknown = sum(i % 7 == 0 for i in range(30))
    assert 1 - unknown / 30 <= row["value"] < 1 - 0.9 * unknown / 30 + 0.01
    directions = {(r["method"], r["direction"]) for r in found if r["task"] == "phenotype"}
    assert directions == {("covariates", "covariates_to_covariates"), ("median_beat", "ecg_to_ecg")}
    voltage = by(found, method="median_beat", metric="precision", k=5, phenotype="LVEDV")
    assert voltage["lo"] > voltage["chance"]


def test_covariates_that_do_not_exist_have_no_row(cohort) -> None:
    for names in ([], ["unheard_of"]):
        found = references(cohort, covariates=names)["regression"]
        assert {r["method"] for r in found} == {"chance", "sex", "median_beat"}


@pytest.mark.parametrize("kind", [str, int])
def test_a_studys_own_plain_table_is_a_ceiling_on_the_people_and_phenotypes_it_names(cohort, kind: type) -> None:
    """Ids as text or, as other software writes them, as numbers; people and visits of no pair, and gaps, are left out."""
    ids = [kind(9_000_001 + i) for i in range(25)] + [kind(9_009_999), kind(9_000_028), kind(9_000_001)]
    columns = {
        "subject_id": ids, "visit": [2] * 27 + [3], "phenotype": ["LVEDV"] * 28,
        "value": [None, float("nan"), *np.arange(26.0)],
    }  # fmt: skip
    names = ("meas", "meas_covariates", "nobody")
    table = pa.concat_tables([pa.table(columns | {"reference": [name] * 28}) for name in names[:2]])
    unknown = pa.table(columns | {"reference": ["nobody"] * 28, "phenotype": ["unheard_of"] * 28})
    found = references(cohort, table=pa.concat_tables([table, unknown]))
    ceilings = [
        r for r in found["regression"]
        if r["method"].startswith("ceiling_") and (r["metric"], r["subgroup"]) == ("r2", "all")
    ]  # fmt: skip
    assert [(r["method"], r["phenotype"], r["n"], r["inputs"]) for r in ceilings if r["n"]] == [
        ("ceiling_meas", "LVEDV", 24, "ecg"), ("ceiling_meas_covariates", "LVEDV", 24, "covariates_ecg"),
    ]  # fmt: skip
    kept = [r for r in found["predictions"] if r["method"] == "ceiling_meas"]
    assert {int(r["subject_id"]): r["prediction"] for r in kept} == {
        **{9_000_003 + i: float(i) for i in range(23)}, 9_000_028: 24.0,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="expected Parquet"):
        references(cohort, table=pa.table({"subject_id": ids}))


@pytest.mark.parametrize(("n", "n_test"), [(2, 1), (4, 0), (4, 4), (8, 4)])
def test_reference_rows_of_tiny_cohorts_have_notes(cohort, n: int, n_test: int) -> None:
    found = references(cohort, n, n_test)
    for row in [*found["regression"], *found["retrieval"]]:
        assert row["note"] and row["lo"] is None


# Everything together

EVERYTHING = """
from ptacl.evaluation.compare import compare, seed_of
from ptacl.evaluation.stage import Study, evaluate, evaluate_finetuned, evaluate_references
from ptacl.evaluation.validation import write_validation

study = Study(settings, folder / "subjects.parquet", [folder / "ecg.parquet"])
place = {k: folder / k / "references.parquet" for k in ("regression", "retrieval", "predictions", "queries")}
evaluate_references(study, folder / "pairs", folder, [0, 1], place)
predictions, queries = [place["predictions"]], []
for method, seed in (("ptacl", 0), ("ptacl", 1), ("global", 0), ("global", 1)):
    feature = "ecg_feature" if method == "ptacl" else "cmr_feature"
    place = {k: folder / k / method / f"seed{seed}.parquet" for k in kinds}
    evaluate(method, seed, study, folder / "embeddings.parquet", place, feature=feature)
    predictions.append(place["predictions"])
    queries.append(place["queries"])
place = {k: folder / k / "ptacl" / "seed0_finetuned.parquet" for k in ("regression", "predictions")}
evaluate_finetuned("ptacl", study, {0.1: folder / "finetuned", 1.0: folder / "finetuned"}, place)
predictions.append(place["predictions"])
tables = ([(seed_of(p), p) for p in paths] for paths in (predictions, queries))
compare(*tables, settings, folder / "differences.parquet")
found = ([folder / k / m / "seed0.parquet" for m in ("ptacl", "global")] for k in ("regression", "retrieval"))
write_validation(*found, settings, folder / "validation.csv")
"""


def everything(cohort, n: int, n_test: int, **options: int):
    """A study of which all is there: embeddings, beats, fine-tuned predictions, a table of references."""
    c = with_beats(dealt(cohort(n, n_test, **options)))
    rng = np.random.default_rng(0)
    finetuned(c, {name: c.cohort[name] + rng.normal(0, 9, len(c.keys)) for name in ("LVEDV", "LVEF")})
    columns = {"subject_id": [s for s, _ in c.keys], "visit": [v for _, v in c.keys]}
    columns |= {"phenotype": ["LVEF"] * len(c.keys), "reference": ["meas"] * len(c.keys)}
    pq.write_table(pa.table(columns | {"value": c.cohort["LVEF"] + rng.normal(0, 1, len(c.keys))}), c.folder / "given")
    settings = {"reference_predictions": str(c.folder / "given"), "compare": [["ptacl", "global"]]}
    return c, {"folder": c.folder, "kinds": KINDS, "settings": c.study(**settings).settings}


def test_the_same_study_gives_the_same_bytes_in_another_process(cohort) -> None:
    c, names = everything(cohort, 90, 40, repeats=10)
    exec(EVERYTHING, dict(names))
    written = [p for p in c.folder.rglob("*") if p.is_file()]
    first = {p.relative_to(c.folder).as_posix(): p.read_bytes() for p in written}
    assert {"differences.parquet", "validation.csv", "regression/ptacl/seed0_finetuned.parquet"} < first.keys()
    for name in first:
        if name.startswith(KINDS) or name in ("differences.parquet", "validation.csv"):
            (c.folder / name).unlink()
    code = f"from pathlib import Path, PosixPath\nglobals().update({names!r})\n{EVERYTHING}"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=environment)
    assert {name: (c.folder / name).read_bytes() for name in first} == first


@pytest.mark.parametrize(("n", "n_test"), [(3, 1), (6, 0), (12, 6), (60, 25)])
def test_no_message_and_no_note_names_anybody(cohort, caplog, capfd, recwarn, n: int, n_test: int) -> None:
    caplog.set_level(logging.DEBUG)
    c, names = everything(cohort, n, n_test, repeats=1)
    exec(EVERYTHING, names)
    notes = [r["note"] for k in ("regression", "retrieval") for p in (c.folder / k).rglob("*.parquet")
             for r in pq.read_table(p).to_pylist()]  # fmt: skip
    out, err = capfd.readouterr()
    assert n_test > 20 or any(notes)
    told = [out, err, caplog.text, *map(str, notes), *(str(w.message) for w in recwarn)]
    assert not [t for t in told if "9000" in t]


def test_a_prediction_or_pair_of_somebody_who_left_is_an_error_that_names_nobody(cohort) -> None:
    c = with_beats(cohort(12, 4))
    finetuned(c, {"LVEDV": c.cohort["LVEDV"]})
    subjects = c.folder / "subjects.parquet"
    pq.write_table(pq.read_table(subjects).slice(2), subjects)
    for run in (lambda: scored_references(c), lambda: scored_finetuned(c, {1.0: c.folder / "finetuned"})):
        with pytest.raises(ArtifactError, match="2 rows are not in the cohort") as error:
            run()
        assert "9000" not in str(error.value)


def test_a_table_of_another_version_is_refused_by_name(cohort) -> None:
    c, names = everything(cohort, 40, 20)
    exec(EVERYTHING, names)
    for kind in ("predictions", "queries"):
        path = c.folder / kind / "ptacl" / "seed0.parquet"
        table, given = pq.read_table(path), {"predictions": [], "queries": []}
        write_table(path, table, kind=kind, version=0, settings={})
        given[kind] = [(0, path)]
        with pytest.raises(ArtifactError, match=f"{path.name}: expected a {kind} of schema version"):
            compare(given["predictions"], given["queries"], names["settings"], c.folder / "out")


def test_differences_and_shares_are_those_of_the_scores_of_the_same_study(cohort) -> None:
    c, names = everything(cohort, 160, 60, repeats=20)
    settings = names["settings"]
    found = {"ptacl": scored(c, method="ptacl", **settings)}
    rng = np.random.default_rng(1)
    for column in ("ecg_feature", "ecg_proj"):
        c.embeddings[column] = [v + rng.normal(0, np.std(v), len(v)) for v in c.embeddings[column]]
    found["global"] = scored(c.write(), method="global", **settings)
    tuned = scored_finetuned(c, {1.0: c.folder / "finetuned"})["regression"]
    ceiling = scored_references(c, **settings)["regression"]
    of = {k: [(0, c.folder / k / m / "seed0.parquet") for m in ("ptacl", "global")] for k in ("predictions", "queries")}
    of["predictions"] += [(0, c.folder / "predictions/references.parquet")]
    of["predictions"] += [(0, c.folder / "predictions/m/seed0_finetuned.parquet")]
    compare(of["predictions"], of["queries"], settings, c.folder / "out")
    rows = pq.read_table(c.folder / "out").to_pylist()
    values = {
        m: {tuple(r[k] for k in ("inputs", "phenotype", "metric")): r["value"] for r in of["regression"]
            if (r["protocol"], r["label_fraction"], r["subgroup"]) == ("probe", 1.0, "all")}
        for m, of in found.items()
    }  # fmt: skip
    regression = [r for r in rows if (r["task"], r["kind"]) == ("regression", "difference")]
    assert {r["inputs"] for r in regression} == {"ecg", "ecg_phase", "covariates_ecg"}
    for r in regression:
        if not r["phenotype"].startswith("mean_of_"):
            ours, theirs = (values[m][r["inputs"], r["phenotype"], "r2"] for m in ("ptacl", "global"))
            assert r["value"] == pytest.approx(ours - theirs) and r["n"] == c.split.count("test")
    assert by(regression, inputs="ecg", phenotype="LVEF")["lo"] > 0
    about = ("task", "direction", "phenotype", "metric", "k")
    retrieved = {m: {tuple(r[k] for k in about): r["value"] for r in of["retrieval"]} for m, of in found.items()}
    kept = [r for r in rows if r["task"] != "regression" and r["direction"] != "both"]
    kept = [r for r in kept if not (r["phenotype"] or "").startswith("mean_of_")]
    assert {r["task"] for r in kept} == {"identification", "phenotype", "phase"}
    for r in kept:
        key = tuple(r[k] for k in about)
        assert r["value"] == pytest.approx(retrieved["ptacl"][key] - retrieved["global"][key])
    best = headline(ceiling, "LVEF", method="ceiling_meas")["value"]
    for method, r2 in (
        ("global", values["global"]["ecg", "LVEF", "r2"]), ("m", headline(tuned, "LVEF", protocol="finetune")["value"]),
    ):  # fmt: skip
        share = by(rows, kind="share", method=method, inputs="ecg", phenotype="LVEF")
        assert share["value"] == pytest.approx(r2 / best) and share["baseline"] == "ceiling_meas"
    assert not [r for r in rows if r["kind"] == "share" and r["phenotype"] == "LVEDV"]  # its ceiling is not known


# What settings are chosen by


def test_the_validation_table_holds_the_scores_of_the_validation_split(cohort) -> None:
    c = dealt(cohort(120, 30, n_val=40)).write()
    found = {m: scored(c, f, split="val", method=m) for m, f in (("cmr", "cmr_feature"), ("ptacl", "ecg_feature"))}
    paths = [[c.folder / k / m / "seed0.parquet" for m in found] for k in ("regression", "retrieval")]
    write_validation(*paths, c.study().settings, c.folder / "v.csv")
    with (c.folder / "v.csv").open() as file:
        upper, ours = csv.DictReader(file)
    assert (upper["method"], ours["method"], ours["seed"]) == ("cmr", "ptacl", "0")
    r2 = {
        (m, i, n): headline(of["regression"], n, inputs=i)["value"]
        for m, of in found.items() for i in (("cmr",) if m == "cmr" else ("ecg", "ecg_phase")) for n in ("LVEDV", "LVEF", "es_ms")
    }  # fmt: skip
    for (m, i, n), value in r2.items():
        assert (upper if m == "cmr" else ours)[f"{i}_r2_{n}"] == f"{value:.4f}"
    mean = (r2["ptacl", "ecg_phase", "LVEDV"] + r2["ptacl", "ecg_phase", "LVEF"]) / 2
    assert ours["ecg_phase_r2_targets"] == f"{mean:.4f}"  # of those that are known: LVM is not
    assert upper["ecg_r2_LVEDV"] == upper["recall_at_10"] == ours["ecg_r2_LVM"] == ""
    for metric in ("phase_accuracy_own", "phase_accuracy_other", "phase_accuracy_shifted"):
        ways = [r["value"] for r in found["ptacl"]["retrieval"] if r["metric"] == metric]
        assert len(ways) in (1, 2) and ours[metric] == f"{np.mean(ways):.4f}"


def test_the_validation_table_has_one_row_for_every_method_and_seed(tmp_path: Path) -> None:
    common = {"protocol": "probe", "inputs": "ecg", "label_fraction": 1.0, "metric": "r2", "subgroup": "all"}
    paths = []
    for method, seed in (("a", 0), ("a", 1), ("b", 0)):
        regression = [
            common | {"method": method, "phenotype": p, "value": v}
            for p, v in (("LVEDV", 0.4), ("LVEF", 0.2 + seed / 10), ("es_ms", 0.6))
        ]
        regression += [
            regression[0] | {"subgroup": "men", "value": 9.0},
            regression[0] | {"label_fraction": 0.1, "value": 9.0},
        ]
        retrieval = [
            {"method": method, "task": "identification", "direction": d, "metric": "recall", "k": 10, "value": v}
            for d, v in (("ecg_to_cmr", 0.3), ("cmr_to_ecg", 0.5))
        ]
        for kind, rows in ((REGRESSION, regression), (RETRIEVAL, retrieval)):
            write_rows(tmp_path / kind / method / f"seed{seed}.parquet", rows, kind, {})
        paths.append(
            (
                tmp_path / REGRESSION / method / f"seed{seed}.parquet",
                tmp_path / RETRIEVAL / method / f"seed{seed}.parquet",
            )
        )
    settings = {"targets": ["LVEDV", "LVEF"], "extra_targets": ["es_ms"]}
    write_validation([a for a, _ in paths], [b for _, b in paths], settings, tmp_path / "v.csv")
    lines = [line.split(",") for line in (tmp_path / "v.csv").read_text().splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [(r["method"], r["seed"]) for r in rows] == [("a", "0"), ("a", "1"), ("b", "0")]
    assert rows[1]["ecg_r2_targets"] == "0.3500" and rows[0]["recall_at_10"] == "0.4000"
    assert rows[0]["ecg_r2_extra_targets"] == "0.6000" and rows[0]["mrr"] == ""
