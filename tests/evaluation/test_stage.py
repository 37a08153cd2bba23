"""The whole stage on a small study: who is scored, what must not reach a score, and inputs that go wrong."""

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
    cohort, feature: str = "ecg_feature", seed: int = 0, split: str = "test", **settings
) -> dict[str, list[dict]]:
    out = {k: cohort.folder / f"{k}.parquet" for k in KINDS}
    evaluate("m", seed, cohort.study(split, **settings), cohort.folder / "embeddings.parquet", out, feature=feature)
    return {k: pq.read_table(p).to_pylist() for k, p in out.items()}


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
    assert headline(found["regression"], "es_ms", inputs="ecg_phase")["value"] > 0.8
    assert headline(found["regression"], "es_ms")["value"] < 0.2


def test_subgroups_are_who_they_are_called(cohort) -> None:
    c = cohort(200, 80, repeats=15).write()
    found = scored(c)["regression"]
    test = np.array([s == "test" for s in c.split])
    visit = np.array([v for _, v in c.keys])
    af = np.array([bool(f) for f in c.flags])
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


def test_what_is_decided_on_the_validation_split_never_sees_the_test_split(cohort) -> None:
    c = cohort(200, 50, n_val=50).write()
    before = scored(c, split="val")
    assert {r["n"] for r in before["regression"] if r["subgroup"] == "all" and r["value"] is not None} == {50}
    test = np.array(c.split) == "test"
    for name in ("LVEDV", "LVEF", "es_ms"):
        c.cohort[name][test] = np.nan
    for column in c.embeddings:
        c.embeddings[column] = [None if t else v for t, v in zip(test, c.embeddings[column], strict=True)]
    after = scored(c.write(), split="val")
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
    found = scored(cohort(120, 50).write(), "cmr_feature")
    assert {r["inputs"] for r in found["regression"]} == {"cmr"}
    assert {(r["task"], r["direction"]) for r in found["retrieval"]} == {("phenotype", "cmr_to_cmr")}


def test_a_study_without_covariates_gives_what_it_can(cohort) -> None:
    c = cohort(90, 30)
    c.cohort = {"LVEDV": c.cohort["LVEDV"]}
    found = scored(c.write())
    assert {r["inputs"] for r in found["regression"]} == {"ecg", "ecg_phase"}
    assert headline(found["regression"], "LVEDV", subgroup="women")["n"] == 0
    assert {r["note"] for r in found["regression"] if r["phenotype"] == "LVEF"} != {None}


@pytest.mark.parametrize(("n", "n_test"), [(4, 0), (4, 1), (5, 2), (8, 4), (4, 4)])
@pytest.mark.parametrize("paired", [True, False])
def test_a_study_too_small_for_numbers_says_so(cohort, n: int, n_test: int, paired: bool) -> None:
    c = cohort(n, n_test)
    if not paired:
        c.embeddings |= dict.fromkeys(("ecg_proj", "cmr_proj"))
    found = scored(c.write())
    for row in [*found["regression"], *found["retrieval"]]:
        assert row["lo"] is None and row["hi"] is None and row["note"]


def test_the_same_study_gives_the_same_bytes_in_another_process(cohort) -> None:
    c = cohort(90, 40).write()
    scored(c)
    first = {k: (c.folder / f"{k}.parquet").read_bytes() for k in KINDS}
    code = (
        "import sys; from pathlib import Path; from ptacl.evaluation.stage import Study, evaluate; f = Path(sys.argv[1]);"
        f"evaluate('m', 0, Study({c.study().settings!r}, f / 'subjects.parquet', [f / 'ecg.parquet']),"
        f" f / 'embeddings.parquet', {{k: f / (k + '.parquet') for k in {KINDS!r}}})"
    )
    subprocess.run([sys.executable, "-c", code, c.folder], check=True, cwd=Path(__file__).parents[2])
    for kind, data in first.items():
        assert (c.folder / f"{kind}.parquet").read_bytes() == data, kind


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


def test_fine_tuned_predictions_are_scored_by_label_fraction_on_the_test_rows(cohort) -> None:
    c = cohort(100, 40).write()
    rng, paths = np.random.default_rng(0), {}
    for fraction, noise in ((1.0, 5.0), (0.1, 40.0), (0.01, None)):
        rows = range(len(c.keys) if noise else 0)
        table = pa.table(
            {
                "subject_id": pa.array([c.keys[i][0] for i in rows], pa.string()),
                "visit": pa.array([2 for _ in rows], pa.int8()), "split": pa.array([c.split[i] for i in rows], pa.string()),
                "phenotype": pa.array(["LVEDV" for _ in rows], pa.string()),
                "predicted": pa.array([c.cohort["LVEDV"][i] + rng.normal(0, noise) for i in rows], pa.float64()),
            }
        )  # fmt: skip
        paths[fraction] = c.folder / f"finetuned_{fraction}"
        write_table(paths[fraction], table, kind="finetune_predictions", version=1, settings={})
    out = {k: c.folder / k for k in ("regression", "predictions")}
    evaluate_finetuned("m", c.study(), paths, out)
    regression = pq.read_table(out["regression"]).to_pylist()
    assert {r["protocol"] for r in regression} == {"finetune"}
    all_labels, few = (headline(regression, "LVEDV", protocol="finetune", label_fraction=f) for f in (1.0, 0.1))
    assert all_labels["value"] > 0.9 > few["value"] and all_labels["n"] == 40
    assert 0.01 not in {r["label_fraction"] for r in regression}


# The reference rows


def references(
    cohort, n: int = 90, n_test: int = 30, table: pa.Table | None = None, **settings
) -> dict[str, list[dict]]:
    """LVEDV follows the voltage of the median beat."""
    c = cohort(n, n_test)
    voltage = np.random.default_rng(0).uniform(50, 200, n)
    c.cohort["LVEDV"] = voltage
    c.write()
    beats = (voltage[:, None, None] * np.ones((12, 40))).astype(np.int16)  # shorter than real ones, for speed
    write_tensors(c.folder / "0000.safetensors", {"median_beat": beats}, kind="ecg_tensors", version=1, settings={})
    rate = [None if i % 7 == 0 else 60.0 + i / 7 for i in range(n)]
    pairs = pa.table(
        {
            "subject_id": pa.array([s for s, _ in c.keys]), "visit": pa.array([2] * n, pa.int8()), "split": c.split,
            "shard": pa.array([0] * n, pa.int32()), "ecg_row": pa.array(range(n), pa.int32()),
            "heart_rate_bpm": pa.array(rate, pa.float32()),
            "rr_ms": pa.array([None if r is None else 60000 / r for r in rate], pa.float32()),
        }
    )  # fmt: skip
    write_table(c.folder / "pairs", pairs, kind="pairs", version=1, settings={})
    if table is not None:
        pq.write_table(table, c.folder / "given")
        settings["reference_predictions"] = str(c.folder / "given")
    out = {k: c.folder / f"references_{k}" for k in ("regression", "retrieval", "predictions")}
    evaluate_references(c.study(**settings), c.folder / "pairs", c.folder, [0, 1], out)
    return {k: pq.read_table(p).to_pylist() for k, p in out.items()}


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


def test_a_studys_own_plain_table_is_a_ceiling_on_the_people_and_phenotypes_it_names(cohort) -> None:
    ids = [str(9_000_001 + i) for i in range(25)] + ["someone else"]
    columns = {"subject_id": ids, "visit": [2] * 26, "phenotype": ["LVEDV"] * 26, "value": np.arange(26.0)}
    table = pa.concat_tables([pa.table(columns | {"reference": [name] * 26}) for name in ("meas", "meas_covariates")])
    found = references(cohort, table=table)["regression"]
    ceilings = [
        r for r in found if r["method"].startswith("ceiling_") and (r["metric"], r["subgroup"]) == ("r2", "all")
    ]
    assert [(r["method"], r["phenotype"], r["n"], r["inputs"]) for r in ceilings if r["n"]] == [
        ("ceiling_meas", "LVEDV", 25, "ecg"), ("ceiling_meas_covariates", "LVEDV", 25, "covariates_ecg"),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="expected Parquet"):
        references(cohort, table=pa.table({"subject_id": ids}))


@pytest.mark.parametrize(("n", "n_test"), [(2, 1), (4, 0), (4, 4), (8, 4)])
def test_reference_rows_of_tiny_cohorts_have_notes(cohort, n: int, n_test: int) -> None:
    found = references(cohort, n, n_test)
    for row in [*found["regression"], *found["retrieval"]]:
        assert row["note"] and row["lo"] is None


# What settings are chosen by


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
