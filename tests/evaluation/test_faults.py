"""Independent checks of the evaluation: enumerated chance and oracle, repeat visits, and inputs that go wrong."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, ndcg_score, r2_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from ptacl.artifacts import write_table, write_tensors
from ptacl.errors import ArtifactError, ConfigError
from ptacl.evaluation.retrieval import Draws, _phenotype_scores, identification, phenotype_similarity
from ptacl.evaluation.ridge import ALPHAS, _folds, probe, standardised
from ptacl.evaluation.stage import evaluate, evaluate_references
from ptacl.evaluation.statistics import _counts, median_estimate, regression_metrics
from ptacl.evaluation.tables import SUBJECTS_VERSION

DRAWS = Draws(100, 0)
SETTINGS = {
    "targets": ["LVM", "LVEF"], "extra_targets": ["unheard_of"], "covariates": ["age", "sex"],
    "reference_predictions": None, "bootstraps": 100, "seed": 0,
}  # fmt: skip


def named(n: int) -> list[str]:
    return [f"S{i:04d}" for i in range(n)]


def by(rows: list[dict], **keys) -> dict:
    return next(r for r in rows if all(r[k] == v for k, v in keys.items()))


# The probe


def test_each_target_is_a_grid_search_over_the_same_folds_of_its_own_known_rows() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 12))
    y = np.stack([x[:, 0] + noise * rng.normal(size=100) for noise in (0.1, 5, 50)], 1)
    train = np.arange(100) < 80
    y[60:70, 2] = np.nan  # two rows of each fold: folds stay of equal size, as GridSearchCV weighs them
    found = probe(x, y, named(100), train)
    z, fold, chosen = standardised(x, train), _folds(named(100), train), set()
    for j in range(3):
        known = train & np.isfinite(y[:, j])
        search = GridSearchCV(
            Ridge(), {"alpha": ALPHAS}, scoring="neg_mean_squared_error", cv=PredefinedSplit(fold[known])
        ).fit(z[known], y[known, j])
        np.testing.assert_allclose(found[:, j], search.predict(z), atol=1e-7)
        chosen.add(search.best_params_["alpha"])
    assert len(chosen) > 1


def test_who_is_in_the_test_split_changes_no_fold_of_the_training_split() -> None:
    rng = np.random.default_rng(2)
    x, train = rng.normal(size=(60, 20)), np.arange(60) % 3 > 0
    y = x @ rng.normal(size=(20, 30)) + rng.normal(size=(60, 30)) * np.linspace(1, 20, 30)  # alphas that folds decide
    subjects = named(60)
    alone = probe(x[train], y[train], [s for s, t in zip(subjects, train, strict=True) if t], np.ones(40, bool))
    np.testing.assert_allclose(probe(x, y, subjects, train)[train], alone, atol=1e-10)


def test_visits_of_a_person_share_a_fold() -> None:
    fold = _folds([f"S{i // 2:03d}" for i in range(40)], np.arange(40) < 30)
    assert (fold[:30:2] == fold[1:30:2]).all() and (fold[30:] == -1).all() and set(fold[:30]) == set(range(5))


def test_features_that_are_not_finite_are_read_as_the_training_mean() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 6))
    y = x[:, :1] + 0.1 * rng.normal(size=(50, 1))
    x[3, 1], x[45, 2], x[46, 0], x[47] = np.nan, np.inf, -np.inf, np.nan
    found = probe(x, y, named(50), np.arange(50) < 40)[:, 0]
    assert np.abs(found).max() < 10
    assert found[47] == pytest.approx(y[:40].mean())


def test_wide_features_and_hardly_any_training_rows_do_not_fail() -> None:
    rng = np.random.default_rng(4)
    for n_train in range(6):
        found = probe(rng.normal(size=(8, 200)), rng.normal(size=(8, 2)), named(8), np.arange(8) < n_train)
        assert np.isfinite(found).all() if n_train >= 3 else np.isnan(found).all()


# Intervals


def test_the_interval_of_r2_is_that_of_a_loop_that_resamples_people_with_all_their_visits() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=90)
    p = y + rng.normal(size=90)
    drawn = []
    for c in _counts(30, 200, 7).astype(int):
        rows = np.concatenate([np.tile(np.arange(3 * i, 3 * i + 3), c[i]) for i in range(30)])
        drawn.append(r2_score(y[rows], p[rows]))
    found = regression_metrics(y, p, [f"S{i // 3:02d}" for i in range(90)], 200, 7)["r2"]
    assert (found.lo, found.hi) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=1e-6)


@pytest.mark.parametrize("n", [24, 25])
def test_the_interval_of_the_median_is_that_of_a_loop(n: int) -> None:
    values = np.random.default_rng(6).integers(1, 40, n).astype(float)
    drawn = [np.median(np.repeat(values, c.astype(int))) for c in _counts(n, 200, 1)]
    found = median_estimate(values, named(n), 200, 1)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])))


def test_what_is_undefined_is_null_with_a_note_and_the_rest_is_given() -> None:
    y = np.random.default_rng(3).normal(150, 30, 40)
    found = regression_metrics(y, np.full(40, 140.0), named(40), 100, 0)
    assert found["pearson_r"].value is None and "undefined" in found["pearson_r"].note
    assert found["r2"].note is None and found["mae"].lo < found["mae"].value < found["mae"].hi


# Retrieval


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_embeddings_that_are_not_finite_or_zero_are_found_by_chance_only(broken: float) -> None:
    x = np.full((40, 6), broken)
    for row in identification(x, x, named(40), "ecg_to_cmr", DRAWS):
        assert row["value"] == pytest.approx(row["chance"])


def test_equal_directions_tie_whatever_the_rounding_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 37)) * rng.uniform(0.1, 10, (300, 1))
    for row in identification(x, x[::-1], named(300), "ecg_to_cmr", DRAWS):
        assert row["value"] == pytest.approx(row["chance"])


def test_all_measures_are_those_of_loops_with_repeat_visits_and_missing_values() -> None:
    rng = np.random.default_rng(2)
    who = sorted([*named(30), *named(12), *named(5)])
    n, sd = len(who), 20.0
    q, g, y = rng.normal(size=(n, 5)), rng.normal(size=(n, 5)), rng.normal(100, sd, n)
    y[rng.random(n) < 0.2] = np.nan
    y[4] = 500.0  # nobody is like this one: no query for recall and mAP
    rows = phenotype_similarity(q, g, who, {"x": y}, {"x": sd}, "d", DRAWS)
    cosine = (q / np.linalg.norm(q, axis=1)[:, None]) @ (g / np.linalg.norm(g, axis=1)[:, None]).T
    expected: dict = {}
    for i in np.flatnonzero(np.isfinite(y)):
        others = [j for j in range(n) if who[j] != who[i] and np.isfinite(y[j])]
        score, d = cosine[i, others], np.abs(y[others] - y[i])
        top, relevant = np.argsort(-score), d <= 0.5 * sd
        of_query = {("ndcg", 10): ndcg_score([np.exp(-d / sd)], [score], k=10)}
        for k in (1, 3, 5, 10):
            of_query["precision", k], of_query["abs_difference", k] = relevant[top[:k]].mean(), d[top[:k]].mean()
            if relevant.any():
                of_query["recall", k] = relevant[top[:k]].sum() / relevant.sum()
        if relevant.any():
            of_query["map", None] = average_precision_score(relevant, score)
        for measure, value in of_query.items():
            expected.setdefault(measure, []).append(value)
    assert {(r["metric"], r["k"]) for r in rows} == expected.keys()
    for (metric, k), values in expected.items():
        row = by(rows, metric=metric, k=k)
        assert row["value"] == pytest.approx(np.mean(values), abs=1e-6), (metric, k)
        assert row["n"] == len(values), (metric, k)


def test_chance_is_the_mean_and_oracle_the_best_of_all_orders_of_the_gallery() -> None:
    y = np.array([0.0, 0.1, 0.4, 0.7, 2.0, -0.45])
    of_order = [
        _phenotype_scores(y, np.array([0]), np.array([[*order, 0]]), np.array([5]), 1.0)
        for order in itertools.permutations(range(1, 6))
    ]
    assert len(of_order[0]) == 10  # k = 1, 3, 5 of three measures, and mAP
    for measure, (_, chance, oracle) in of_order[0].items():
        values = [s[measure][0][0] for s in of_order]
        best = min(values) if measure[0] == "abs_difference" else max(values)
        assert (chance[0], oracle[0]) == pytest.approx((np.mean(values), best)), measure


def test_by_chance_276_of_1000_are_relevant_for_a_gaussian_phenotype() -> None:
    assert 2 * norm.cdf(0.5 / np.sqrt(2)) - 1 == pytest.approx(0.276, abs=5e-4)
    n = 600
    y, x = norm.ppf((np.arange(n) + 0.5) / n), np.ones((n, 2))
    rows = phenotype_similarity(x, x, named(n), {"x": y}, {"x": 1.0}, "d", DRAWS)
    assert by(rows, metric="precision", k=1)["chance"] == pytest.approx(0.276, abs=2e-3)


# The stage


def tables(folder: Path, n: int, n_test: int, **columns: list) -> tuple[Path, Path]:
    """Embeddings without a CMR side and a cohort whose LVM is linear in them."""
    z = np.random.default_rng(1).normal(size=(n, 4))
    ids = {"subject_id": pa.array(named(n), pa.string()), "visit": pa.array([2] * n, pa.int8())}
    nothing = {c: [None] * n for c in ("cmr_feature", "ecg_proj", "cmr_proj", "ecg_phase", "cmr_phase")}
    lists = {"ecg_feature": list(z), **nothing, **columns}
    split = pa.array(["test" if i < n_test else "train" for i in range(n)], pa.string())
    table = pa.table({**ids, "split": split} | {c: pa.array(v, pa.list_(pa.float32())) for c, v in lists.items()})
    write_table(folder / "e", table, kind="embeddings", version=1, settings={})
    write_table(
        folder / "s",
        pa.table({**ids, "LVM": 100 + 20 * z[:, 0]}),
        kind="cohort_subjects",
        version=SUBJECTS_VERSION,
        settings={},
    )
    return folder / "e", folder / "s"


def scored(folder: Path, inputs: tuple[Path, Path]) -> list[list[dict]]:
    out = [folder / k for k in ("regression", "retrieval", "predictions")]
    evaluate("m", 0, SETTINGS, *inputs, *out)
    return [pq.read_table(p).to_pylist() for p in out]


def test_a_method_without_a_cmr_side_retrieves_ecgs_only_and_a_common_mean_does_not_matter(tmp_path: Path) -> None:
    z = np.random.default_rng(1).normal(size=(90, 4))
    regression, retrieval, _ = scored(tmp_path, tables(tmp_path, 90, 40, ecg_feature=list(z + 1000)))
    assert {(r["task"], r["direction"]) for r in retrieval} == {("phenotype", "ecg_to_ecg")}
    assert by(retrieval, metric="map")["lo"] > by(retrieval, metric="map")["chance"]
    assert by(regression, phenotype="LVM", metric="r2")["value"] > 0.9
    assert {r["phenotype"] for r in regression} == {"LVM", "LVEF"}


def test_a_row_without_an_embedding_moves_nobody_elses(tmp_path: Path) -> None:
    _, _, clean = scored(tmp_path, tables(tmp_path, 60, 20))
    features = list(np.random.default_rng(1).normal(size=(60, 4)))
    for i in (1, 2):
        features[i] = None
    _, _, holed = scored(tmp_path, tables(tmp_path, 60, 20, ecg_feature=features))
    changed = [i for i in range(20) if clean[i]["prediction"] != holed[i]["prediction"]]
    assert changed == [1, 2]


def test_the_truth_of_the_test_split_changes_no_prediction(tmp_path: Path) -> None:
    embeddings, subjects = tables(tmp_path, 60, 20)
    before = scored(tmp_path, (embeddings, subjects))[2]
    table = pq.read_table(subjects)
    lvm = table["LVM"].to_numpy().copy()
    lvm[:20] *= -3
    changed = table.set_column(2, "LVM", pa.array(lvm))
    write_table(subjects, changed, kind="cohort_subjects", version=SUBJECTS_VERSION, settings={})
    after = scored(tmp_path, (embeddings, subjects))[2]
    assert [r["prediction"] for r in before] == [r["prediction"] for r in after]
    assert [r["truth"] for r in before] != [r["truth"] for r in after]


def test_a_row_that_left_the_cohort_is_an_error_that_names_nobody(tmp_path: Path) -> None:
    embeddings, subjects = tables(tmp_path, 10, 4)
    write_table(
        subjects, pq.read_table(subjects).slice(1), kind="cohort_subjects", version=SUBJECTS_VERSION, settings={}
    )
    with pytest.raises(ArtifactError, match="1 rows are not in the cohort") as error:
        scored(tmp_path, (embeddings, subjects))
    assert "S000" not in str(error.value)


# The reference rows


def references(folder: Path, n: int = 60, n_test: int = 25, table: pa.Table | None = None, **settings) -> list[dict]:
    """R² rows; LVM follows the voltage of the median beat."""
    voltage = np.random.default_rng(0).uniform(50, 200, n)
    beats = (voltage[:, None, None] * np.ones((12, 600))).astype(np.int16)
    write_tensors(folder / "0000.safetensors", {"median_beat": beats}, kind="ecg_tensors", version=1, settings={})
    ids = {"subject_id": pa.array(named(n), pa.string()), "visit": pa.array([2] * n, pa.int8())}
    split = pa.array(["test" if i < n_test else "train" for i in range(n)], pa.string())
    place = {"shard": pa.array([0] * n, pa.int32()), "ecg_row": pa.array(range(n), pa.int32())}
    rate = pa.array([None if i % 7 == 0 else 60.0 + i for i in range(n)], pa.float32())
    pairs = pa.table({**ids, "split": split, **place, "heart_rate_bpm": rate})
    write_table(folder / "pairs", pairs, kind="pairs", version=1, settings={})
    write_table(
        folder / "s", pa.table({**ids, "LVM": voltage}), kind="cohort_subjects", version=SUBJECTS_VERSION, settings={}
    )
    if table is not None:
        pq.write_table(table, folder / "given")
        settings["reference_predictions"] = str(folder / "given")
    evaluate_references(SETTINGS | settings, folder / "pairs", folder / "s", folder, folder / "r", folder / "p")
    return [r for r in pq.read_table(folder / "r").to_pylist() if r["metric"] == "r2"]


def test_the_median_beat_finds_voltage_and_covariates_that_do_not_exist_have_no_row(tmp_path: Path) -> None:
    rows = references(tmp_path)
    assert by(rows, method="median_beat", phenotype="LVM")["lo"] > 0.9
    assert by(rows, method="chance", phenotype="LVM")["value"] <= 0
    assert {r["method"] for r in rows} == {"chance", "median_beat"}
    assert {r["method"] for r in references(tmp_path, covariates=[])} == {"chance", "median_beat"}


def test_a_studys_own_plain_table_is_a_ceiling_on_the_phenotypes_it_names(tmp_path: Path) -> None:
    columns = {"subject_id": named(60), "visit": [2] * 60, "phenotype": ["LVM"] * 60, "reference": ["meas"] * 60}
    rows = references(tmp_path, table=pa.table({**columns, "value": np.arange(60.0)}))
    assert [r["phenotype"] for r in rows if r["method"] == "ceiling_meas"] == ["LVM"]
    assert by(rows, method="ceiling_meas")["n"] == 25
    with pytest.raises(ConfigError, match="expected Parquet"):
        references(tmp_path, table=pa.table({"subject_id": named(60)}))


@pytest.mark.parametrize(("n", "n_test"), [(1, 1), (2, 1), (4, 0), (4, 4), (8, 4)])
def test_reference_rows_of_tiny_cohorts_have_notes(tmp_path: Path, n: int, n_test: int) -> None:
    for row in references(tmp_path, n, n_test):
        assert row["note"] and row["lo"] is None
