"""Every metric against a reference, intervals against simulation, small studies against common sense."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score, mean_absolute_error, ndcg_score, r2_score

from ptacl.artifacts import write_table
from ptacl.evaluation.compare import compare_regression
from ptacl.evaluation.retrieval import Draws, identification, phase_retrieval, phenotype_similarity
from ptacl.evaluation.ridge import ALPHAS, FOLDS, choose_alpha, probe
from ptacl.evaluation.stage import evaluate
from ptacl.evaluation.statistics import metric_values, regression_metrics
from ptacl.evaluation.tables import SUBJECTS_VERSION

RNG = np.random.default_rng(0)
DRAWS = Draws(200, 0)
SETTINGS = {
    "targets": ["LVEDV", "LVEF"], "extra_targets": [], "covariates": ["age", "sex"], "reference_predictions": None,
    "bootstraps": 200, "seed": 0,
}  # fmt: skip


def named(n: int) -> list[str]:
    return [f"S{i:04d}" for i in range(n)]


def test_metrics_agree_with_scikit_learn_and_numpy() -> None:
    y = RNG.normal(150, 30, 80)
    p = 0.6 * y + RNG.normal(55, 20, 80)
    found = {k: v[0] for k, v in metric_values(y, p, np.ones((1, 80))).items()}
    assert found["r2"] == pytest.approx(r2_score(y, p), abs=1e-9)
    assert found["mae"] == pytest.approx(mean_absolute_error(y, p), abs=1e-9)
    assert found["pearson_r"] == pytest.approx(np.corrcoef(y, p)[0, 1], abs=1e-9)
    assert found["calibration_slope"] == pytest.approx(np.polyfit(p, y, 1)[0], abs=1e-9)
    assert found["bias"] == pytest.approx((p - y).mean(), abs=1e-9)


def test_weighted_metrics_are_those_of_repeated_rows() -> None:
    y, p, w = RNG.normal(size=20), RNG.normal(size=20), RNG.integers(0, 4, 20)
    found = metric_values(y, p, w[None])["r2"][0]
    assert found == pytest.approx(r2_score(np.repeat(y, w), np.repeat(p, w)), abs=1e-9)


def test_ridge_is_that_of_scikit_learn_with_alpha_chosen_on_the_same_folds() -> None:
    x, n = RNG.normal(size=(60, 8)), 60
    y = x[:, 0] + RNG.normal(size=n)
    rows = np.arange(n) < 45
    found = probe(x, y[:, None], named(n), rows)[:, 0]
    z = (x - x[rows].mean(0)) / x[rows].std(0)
    fold = np.arange(n) % FOLDS
    errors = []
    for alpha in ALPHAS:
        parts = [
            np.square(Ridge(alpha=alpha).fit(z[rows & (fold != f)], y[rows & (fold != f)]).predict(z[rows & (fold == f)])
                      - y[rows & (fold == f)]).sum()
            for f in range(FOLDS)
        ]  # fmt: skip
        errors.append(sum(parts))
    best = ALPHAS[int(np.argmin(errors))]
    assert choose_alpha(z[rows], y[rows], fold[rows]) == best
    np.testing.assert_allclose(found, Ridge(alpha=best).fit(z[rows], y[rows]).predict(z), atol=1e-8)


def test_nothing_of_the_test_split_reaches_the_probe() -> None:
    x, y = RNG.normal(size=(60, 5)), RNG.normal(size=(60, 2))
    rows = np.arange(60) < 40
    before = probe(x, y, named(60), rows)
    y[~rows] += 100
    np.testing.assert_array_equal(before, probe(x, y, named(60), rows))
    x2 = x.copy()
    x2[50:] *= 7
    np.testing.assert_array_equal(before[:50], probe(x2, y, named(60), rows)[:50])


def test_a_planted_signal_is_found_and_noise_is_not() -> None:
    n = 400
    x = RNG.normal(size=(n, 10))
    y = np.stack([2 * x[:, 3] + RNG.normal(size=n), RNG.normal(size=n)], 1)
    p = probe(x, y, named(n), np.arange(n) < 300)
    assert r2_score(y[300:, 0], p[300:, 0]) > 0.7 and r2_score(y[300:, 1], p[300:, 1]) < 0.1


def test_intervals_cover_the_truth() -> None:
    truth, hits, repeats, n = 0.5, 0, 300, 150
    for i in range(repeats):
        rng = np.random.default_rng(i)
        p = rng.normal(size=n)
        y = p + rng.normal(size=n)  # R² of p on y is 1/2
        e = regression_metrics(y, p, named(n), 300, i)["r2"]
        hits += e.lo <= truth <= e.hi
    assert 0.91 <= hits / repeats <= 0.99


def naive_identification(q: np.ndarray, g: np.ndarray) -> np.ndarray:
    q, g = q / np.linalg.norm(q, axis=1)[:, None], g / np.linalg.norm(g, axis=1)[:, None]
    return np.array([1 + sum(q[i] @ g[j] > q[i] @ g[i] for j in range(len(g))) for i in range(len(q))])


def by(rows: list[dict], **keys) -> dict:
    return next(r for r in rows if all(r[k] == v for k, v in keys.items()))


def test_identification_agrees_with_a_loop_and_chance_with_simulation() -> None:
    n = 60
    q = RNG.normal(size=(n, 6))
    g = q + RNG.normal(size=(n, 6))
    ranks = naive_identification(q, g)
    rows = identification(q, g, named(n), "ecg_to_cmr", DRAWS)
    for k in (1, 5, 10):
        row = by(rows, metric="recall", k=k)
        assert row["value"] == pytest.approx((ranks <= k).mean())
        assert row["chance"] == pytest.approx(k / n) and row["lo"] <= row["value"] <= row["hi"]
    assert by(rows, metric="median_rank")["value"] == np.median(ranks)
    assert by(rows, metric="mrr")["value"] == pytest.approx((1 / ranks).mean())
    random = [(1 / naive_identification(RNG.normal(size=(n, 4)), RNG.normal(size=(n, 4)))).mean() for _ in range(40)]
    assert by(rows, metric="mrr")["chance"] == pytest.approx(np.mean(random), rel=0.1)


def test_collapsed_embeddings_are_at_chance_not_perfect() -> None:
    rows = identification(np.ones((50, 4)), np.ones((50, 4)), named(50), "ecg_to_cmr", DRAWS)
    for metric, k in (("recall", 1), ("recall", 10), ("median_rank", None), ("mrr", None)):
        row = by(rows, metric=metric, k=k)
        assert row["value"] == pytest.approx(row["chance"])


def test_phenotype_similarity_agrees_with_scikit_learn_and_loops() -> None:
    n = 40
    q, g, y = RNG.normal(size=(n, 5)), RNG.normal(size=(n, 5)), RNG.normal(size=n)
    y[3] = np.nan
    rows = phenotype_similarity(q, g, named(n), {"x": y}, {"x": 1.0}, "ecg_to_cmr", DRAWS)
    q, g = q / np.linalg.norm(q, axis=1)[:, None], g / np.linalg.norm(g, axis=1)[:, None]
    precision, recall, ap, ndcg, difference = [], [], [], [], []
    for i in (i for i in range(n) if i != 3):
        others = [j for j in range(n) if j not in (i, 3)]
        score, d = np.array([q[i] @ g[j] for j in others]), np.abs(y[others] - y[i])
        top = np.argsort(-score)[:10]
        precision.append((d[top] <= 0.5).mean())
        difference.append(d[top].mean())
        ndcg.append(ndcg_score([np.exp(-d)], [score], k=10))
        if (d <= 0.5).any():
            recall.append((d[top] <= 0.5).sum() / (d <= 0.5).sum())
            ap.append(average_precision_score(d <= 0.5, score))
    for metric, k, expected in (
        ("precision", 10, precision), ("recall", 10, recall), ("abs_difference", 10, difference), ("map", None, ap),
        ("ndcg", 10, ndcg),
    ):  # fmt: skip
        row = by(rows, metric=metric, k=k)
        assert row["value"] == pytest.approx(np.mean(expected), abs=1e-5), metric
        assert row["gallery"] == n - 2


def test_chance_and_oracle_are_what_random_and_perfect_orders_give() -> None:
    n = 300
    y = RNG.normal(size=n)
    random = [
        phenotype_similarity(
            RNG.normal(size=(n, 3)), RNG.normal(size=(n, 3)), named(n), {"x": y}, {"x": y.std()}, "d", DRAWS
        )
        for _ in range(8)
    ]
    for metric, k in (("precision", 5), ("recall", 5), ("abs_difference", 5), ("map", None), ("ndcg", 10)):
        values = [by(rows, metric=metric, k=k) for rows in random]
        assert np.mean([v["value"] for v in values]) == pytest.approx(values[0]["chance"], rel=0.08), metric
    assert by(random[0], metric="precision", k=5)["chance"] == pytest.approx(0.276, abs=0.03)
    angle = (y - y.min()) / np.ptp(y) * 2
    near = np.stack([np.cos(angle), np.sin(angle)], 1)
    perfect = phenotype_similarity(near, near, named(n), {"x": y}, {"x": y.std()}, "d", DRAWS)
    for metric, k in (("precision", 5), ("abs_difference", 5), ("ndcg", 10)):
        row = by(perfect, metric=metric, k=k)
        assert row["value"] == pytest.approx(row["oracle"], rel=0.02), metric


def test_the_own_other_visit_is_not_found_as_a_similar_patient() -> None:
    x = RNG.normal(size=(30, 4))
    x[1] = x[0]
    who = ["A", "A", *named(28)]
    y = np.arange(30.0)
    y[1] = y[0]
    rows = phenotype_similarity(x, x, who, {"x": y}, {"x": 0.01}, "ecg_to_ecg", DRAWS)
    assert by(rows, metric="precision", k=1)["value"] == 0


def test_phase_retrieval_tells_own_from_another_patients_frames() -> None:
    e = RNG.normal(size=(30, 10, 128))
    e /= np.linalg.norm(e, axis=2, keepdims=True)
    rows = phase_retrieval(e, e, named(30), DRAWS)
    assert by(rows, metric="phase_accuracy_own")["value"] == 1
    assert by(rows, metric="phase_accuracy_other")["value"] < 0.25
    assert rows[0]["chance"] == 0.1


def study(folder: Path, n: int, n_test: int, paired: bool = True) -> tuple[Path, Path]:
    """Embeddings and subjects of a cohort with a known signal."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(n, 8)).astype(np.float32)
    split = ["test" if i < n_test else "train" for i in range(n)]
    proj = np.pad(z / np.linalg.norm(z, axis=1, keepdims=True), ((0, 0), (0, 120))).astype(np.float32)
    lists = {c: list(proj) if paired else [None] * n for c in ("ecg_proj", "cmr_proj")}
    phase = {c: [None] * n for c in ("ecg_phase", "cmr_phase")}
    table = pa.table(
        {
            "subject_id": named(n), "visit": pa.array([0] * n, pa.int8()), "split": split,
            **{c: pa.array(v, pa.list_(pa.float32())) for c, v in {"ecg_feature": list(z), **lists, **phase}.items()},
        }
    )  # fmt: skip
    write_table(folder / "e.parquet", table, kind="embeddings", version=1, settings={})
    subjects = pa.table(
        {
            "subject_id": named(n), "visit": pa.array([0] * n, pa.int8()),
            "LVEDV": 150 + 30 * z[:, 0].astype(float) + rng.normal(0, 10, n), "sex": rng.integers(0, 2, n).astype(float),
        }
    )  # fmt: skip
    write_table(folder / "s.parquet", subjects, kind="cohort_subjects", version=SUBJECTS_VERSION, settings={})
    return folder / "e.parquet", folder / "s.parquet"


def scored(folder: Path, *arguments, **options) -> tuple[list[dict], list[dict], list[dict]]:
    embeddings, subjects = study(folder, *arguments, **options)
    out = [folder / f"{k}.parquet" for k in ("regression", "retrieval", "predictions")]
    evaluate("m", 0, SETTINGS, embeddings, subjects, *out)
    return tuple(pq.read_table(p).to_pylist() for p in out)  # type: ignore[return-value]


def test_a_whole_evaluation_has_values_chance_and_notes(tmp_path: Path) -> None:
    regression, retrieval, predictions = scored(tmp_path, 200, 60)
    row = by(regression, phenotype="LVEDV", metric="r2")
    assert row["value"] > 0.6 and row["lo"] < row["value"] < row["hi"] and row["n"] == 60
    assert "no value of this phenotype" in by(regression, phenotype="LVEF")["note"]
    assert by(retrieval, task="identification", metric="recall", k=1)["value"] == 1
    assert len(predictions) == 60
    first = (tmp_path / "regression.parquet").read_bytes()
    scored(tmp_path, 200, 60)
    assert (tmp_path / "regression.parquet").read_bytes() == first


@pytest.mark.parametrize(("n", "n_test"), [(4, 0), (4, 1), (5, 2), (8, 4), (4, 4)])
@pytest.mark.parametrize("paired", [True, False])
def test_a_study_too_small_for_numbers_says_so(tmp_path: Path, n: int, n_test: int, paired: bool) -> None:
    regression, retrieval, _ = scored(tmp_path, n, n_test, paired=paired)
    for row in [*regression, *retrieval]:
        assert row["lo"] is None and row["hi"] is None and row["note"]


def test_differences_are_paired_on_the_same_subjects(tmp_path: Path) -> None:
    n = 100
    y = RNG.normal(size=n)
    paths = []
    for name, noise in (("a", 0.5), ("b", 0.5), ("c", 2.0)):
        p = y + np.random.default_rng(5 if name != "c" else 6).normal(0, noise, n)
        table = pa.table(
            {"method": [name] * n, "subject_id": named(n), "visit": pa.array([0] * n, pa.int8()), "phenotype": ["x"] * n,
             "truth": y, "prediction": p}
        )  # fmt: skip
        write_table(tmp_path / name, table, kind="predictions", version=1, settings={})
        paths.append(tmp_path / name)
    rows = {r["method"]: r for r in compare_regression(paths, "a", SETTINGS).to_pylist()}
    assert rows["b"] | {"method": 0} == {"method": 0, "phenotype": "x", "difference": 0.0, "lo": 0.0, "hi": 0.0}
    assert rows["c"]["hi"] < 0
