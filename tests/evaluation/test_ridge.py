"""The probe against scikit-learn, and what must not reach it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from ptacl.evaluation import ridge
from ptacl.evaluation.ridge import ALPHAS, FOLDS, _folds, choose_alphas, narrowed, probe, standardised

Cohort = Any  # of conftest.py


def named(n: int) -> list[str]:
    return [f"S{i:04d}" for i in range(n)]


def test_each_target_is_a_grid_search_over_the_same_folds_of_its_own_known_rows() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 12))
    y = np.stack([x[:, 0] + noise * rng.normal(size=100) for noise in (0.1, 5, 5, 50)], 1)
    train = np.arange(100) < 80
    y[60:70, 3] = np.nan  # two rows of each fold: folds stay of equal size, as GridSearchCV weighs them
    found = probe(x, y, named(100), train)
    z, fold, chosen = standardised(x, train), _folds(named(100), train), set()
    for j in range(4):
        known = train & np.isfinite(y[:, j])
        search = GridSearchCV(
            Ridge(), {"alpha": ALPHAS}, scoring="neg_mean_squared_error", cv=PredefinedSplit(fold[known])
        ).fit(z[known], y[known, j])
        np.testing.assert_allclose(found[:, j], search.predict(z), atol=1e-7)
        assert choose_alphas(z[known], y[known, j : j + 1], fold[known]) == search.best_params_["alpha"]
        chosen.add(search.best_params_["alpha"])
    assert len(chosen) > 1


def naive_probe(x: np.ndarray, y: np.ndarray, subjects: list[str], rows: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Predictions and alphas of one ridge after another, folds made person by person, every visit counted once."""
    z = (x - x[rows].mean(0)) / x[rows].std(0)
    people = sorted({s for s, inside in zip(subjects, rows, strict=True) if inside})
    fold = np.array([people.index(s) % 5 if s in people else -1 for s in subjects])
    predicted, alphas = np.full(y.shape, np.nan), []
    for j in range(y.shape[1]):
        known, error = rows & np.isfinite(y[:, j]), dict.fromkeys(ALPHAS.tolist(), 0.0)
        for alpha in error:
            for f in set(fold[known].tolist()):
                out, rest = known & (fold == f), known & (fold != f)
                fitted = Ridge(alpha=alpha).fit(z[rest], y[rest, j])
                error[alpha] += np.square(fitted.predict(z[out]) - y[out, j]).sum()
        alphas.append(min(error, key=error.__getitem__))
        predicted[:, j] = Ridge(alpha=alphas[-1]).fit(z[known], y[known, j]).predict(z)
    return predicted, alphas


@pytest.mark.parametrize(("people", "columns"), [(60, 8), (25, 90)], ids=["few_columns", "more_columns_than_rows"])
def test_the_probe_is_a_ridge_for_every_target_with_repeat_visits_and_missing_values(people: int, columns: int) -> None:
    rng = np.random.default_rng(columns)
    who = [s for i, s in enumerate(named(people)) for _ in range(1 + i % 3)]
    n = len(who)
    of_person = rng.normal(size=(people, columns))[[int(s[1:]) for s in who]]
    x = of_person + 0.3 * rng.normal(size=(n, columns))  # visits of a person are alike, in features and in targets
    noise = rng.normal(size=(people, 5))[[int(s[1:]) for s in who]]
    y = x[:, :5] + noise * np.array([0.1, 1, 1, 4, 30])
    y[rng.random(n) < 0.3, 1] = np.nan
    y[rng.random(n) < 0.3, 2] = np.nan
    train = np.array([int(s[1:]) % 4 > 0 for s in who])
    expected, alphas = naive_probe(x, y, who, train)
    assert len(set(alphas)) > 1
    np.testing.assert_allclose(probe(x, y, who, train), expected, atol=1e-7)


def test_a_target_known_in_one_fold_only_is_shrunk_most_and_one_known_of_nobody_is_not_predicted() -> None:
    rng = np.random.default_rng(8)
    x, y, train = rng.normal(size=(50, 4)), np.full((50, 3), np.nan), np.arange(50) < 40
    y[[0, 5, 10, 15], 0] = y[[45, 46, 1, 2], 1] = [1.0, 4.0, 2.0, 7.0]  # column 1: two of them in the test split
    found = probe(x, y, named(50), train)
    z = standardised(x, train)
    expected = Ridge(alpha=ALPHAS[-1]).fit(z[[0, 5, 10, 15]], y[[0, 5, 10, 15], 0]).predict(z)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-9)
    assert np.isnan(found[:, 1:]).all()


def test_nothing_of_the_test_split_reaches_the_probe() -> None:
    rng = np.random.default_rng(3)
    x, y, rows = rng.normal(size=(60, 5)), rng.normal(size=(60, 2)), np.arange(60) < 40
    before = probe(x, y, named(60), rows)
    y[~rows] += 100
    np.testing.assert_array_equal(before, probe(x, y, named(60), rows))
    x[50:] *= 7
    np.testing.assert_array_equal(before[:50], probe(x, y, named(60), rows)[:50])


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


def test_standardising_keeps_precision_and_the_given_array() -> None:
    rng = np.random.default_rng(4)
    x = (1000 + rng.normal(size=(5000, 3))).astype(np.float32)
    x[:4000, 2], x[4000:, 2] = 7, 9  # never seen to vary: says nothing of anybody
    before, rows = x.copy(), np.arange(5000) < 4000
    z = standardised(x, rows)
    np.testing.assert_array_equal(x, before)
    assert z.dtype == np.float32 and (z[:, 2] == 0).all()
    np.testing.assert_allclose(z[rows, :2].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(z[rows, :2].std(0), 1, atol=1e-3)


def test_a_planted_signal_is_found_and_noise_is_not() -> None:
    n, rng = 400, np.random.default_rng(5)
    x = rng.normal(size=(n, 10))
    y = np.stack([2 * x[:, 3] + rng.normal(size=n), rng.normal(size=n)], 1)
    p = probe(x, y, named(n), np.arange(n) < 300)
    assert r2_score(y[300:, 0], p[300:, 0]) > 0.7 and r2_score(y[300:, 1], p[300:, 1]) < 0.1


def test_hardly_any_training_rows_do_not_fail() -> None:
    rng = np.random.default_rng(4)
    for n_train in range(6):
        found = probe(rng.normal(size=(8, 40)), rng.normal(size=(8, 2)), named(8), np.arange(8) < n_train)
        assert np.isfinite(found).all() if n_train >= 3 else np.isnan(found).all()


def test_wide_features_are_cut_to_their_principal_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "MOST_COLUMNS", 60)
    monkeypatch.setattr(ridge, "COMPONENTS", 20)
    rng = np.random.default_rng(6)
    scales = np.linspace(5, 0.1, 120)
    x = standardised(
        rng.normal(size=(400, 30)) @ (scales[:30, None] * rng.normal(size=(30, 120))), np.arange(400) < 300
    )
    rows = np.arange(400) < 300
    found = narrowed(x, rows)
    best = PCA(20, svd_solver="full").fit(x[rows]).transform(x[rows])
    assert found.shape == (400, 20)
    assert found[rows].var() > 0.995 * best.var()
    np.testing.assert_array_equal(found, narrowed(x, rows))
    assert narrowed(x[:, :60], rows).shape == (400, 60)
    few = np.arange(400) < 40  # hardly more rows than components: turned, with all distances within their span
    turned = narrowed(x, few)
    assert turned.shape == (400, 40)
    np.testing.assert_allclose(turned[few] @ turned[few].T, x[few] @ x[few].T, atol=1e-2)


def test_wide_features_predict_as_well_as_those_cut_by_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridge, "MOST_COLUMNS", 60)
    monkeypatch.setattr(ridge, "COMPONENTS", 20)
    rng, rows, who = np.random.default_rng(7), np.arange(600) < 400, named(600)
    latent = rng.normal(size=(600, 8))
    x = latent @ rng.normal(size=(8, 120)) + 2 * rng.normal(size=(600, 120))
    y = latent[:, :3] + 0.5 * rng.normal(size=(600, 3))
    z = standardised(x, rows)
    cut = PCA(20, svd_solver="full").fit(z[rows]).transform(z)
    wide = probe(x, y, who, rows)
    # Folds and alphas as everywhere; the components are not scaled, which would let noise in.
    fold = np.arange(400) % FOLDS
    for j, alpha in enumerate(choose_alphas(cut[rows], y[rows], fold)):
        best = Ridge(alpha=alpha).fit(cut[rows], y[rows, j]).predict(cut)
        scores = [r2_score(y[~rows, j], p[~rows]) for p in (wide[:, j], best)]
        assert scores[0] == pytest.approx(scores[1], abs=0.01) and scores[1] > 0.5
    y[~rows], x[599] = 0, 1e3  # neither the directions nor the fit look at the test split
    np.testing.assert_allclose(probe(x, y, who, rows)[:599], wide[:599], atol=1e-4)


# What is no phenotype


def told_apart(cohort: Cohort, features: np.ndarray) -> dict[str, dict]:
    scorer = cohort.write().study().scorer(cohort.keys, cohort.split)
    return {r["phenotype"]: r for r in scorer.nuisances("m", "ecg", features)}


def test_nuisances_are_told_as_well_as_scikit_learn_says_from_the_probes_own_predictions(
    cohort: Callable[..., Cohort],
) -> None:
    c = cohort(400, 150, repeats=20)
    rng, rows = np.random.default_rng(9), len(c.keys)
    train, test = np.array(c.split) == "train", np.array(c.split) == "test"
    centre, sex, age = (np.array(c.cohort[k]) for k in ("centre", "sex", "age"))
    centre[[7, 11, 390]], sex[[3, 395]] = np.nan, np.nan
    c.cohort |= {"centre": centre, "sex": sex}
    x = rng.normal(size=(rows, 6))
    x[:, 0] += 1.5 * (centre == 2) - (centre == 3)
    x[:, 1] += np.nan_to_num(sex)
    x[:, 2] += age / 10
    found = told_apart(c, x)
    assert found.keys() == {"age", "heart_rate_bpm", "log_noise_ratio", "sex", "centre"}
    assert {(r["protocol"], r["inputs"], r["subgroup"], r["label_fraction"]) for r in found.values()} == {
        ("nuisance", "ecg", "all", 1.0)
    }
    who = c.study().scorer(c.keys, c.split).rows.subjects
    for name, truth in (("age", age), ("log_noise_ratio", np.log(np.linspace(0.1, 0.3, rows)))):
        p = probe(x, truth[:, None], who, train)[:, 0]
        assert found[name]["value"] == pytest.approx(r2_score(truth[test], p[test]), abs=1e-6), name
        assert found[name]["metric"] == "r2" and found[name]["n"] == test.sum()
    areas = []
    for value, truth in [(sex, 1.0), *((centre, k) for k in (1.0, 2.0, 3.0))]:
        known = test & np.isfinite(value)
        y = np.where(np.isfinite(value), value == truth, np.nan)
        p = probe(x, y[:, None], who, train)[:, 0]
        areas.append(roc_auc_score(y[known], p[known]))
    assert found["sex"]["value"] == pytest.approx(areas[0]) and found["sex"]["n"] == test.sum() - 1
    assert found["centre"]["value"] == pytest.approx(np.mean(areas[1:])) and found["centre"]["n"] == test.sum() - 2
    for name in ("sex", "centre"):
        assert found[name]["metric"] == "auroc" and found[name]["lo"] < found[name]["value"] < found[name]["hi"]
    assert found["centre"]["lo"] > 0.5


def test_a_centre_that_nobody_of_the_test_split_went_to_hides_not_the_others(cohort: Callable[..., Cohort]) -> None:
    c = cohort(300, 120)
    centre, test = np.array(c.cohort["centre"]), np.array(c.split) == "test"
    features = np.random.default_rng(1).normal(size=(300, 4))
    features[:, 0] += 2 * (centre == 1)
    c.cohort["centre"] = np.where(test & (centre == 3), np.nan, centre)
    row = told_apart(c, features)["centre"]
    assert row["n"] == (test & (centre < 3)).sum() and 0.6 < row["lo"] < row["value"] < row["hi"]


def test_one_centre_or_one_sex_alone_cannot_be_told_apart(cohort: Callable[..., Cohort]) -> None:
    c = cohort(100, 40)
    c.cohort |= {"centre": np.ones(100), "sex": np.ones(100)}
    found = told_apart(c, np.random.default_rng(1).normal(size=(100, 4)))
    for name in ("sex", "centre"):
        assert found[name]["value"] is None and found[name]["note"]
