"""The probe against scikit-learn, and what must not reach it."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from ptacl.evaluation import ridge
from ptacl.evaluation.ridge import ALPHAS, _folds, choose_alphas, narrowed, probe, standardised


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


def test_more_columns_than_rows_are_fitted_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 90))
    y = x[:, :1] + rng.normal(size=(40, 1))
    train = np.arange(40) < 30
    z = standardised(x, train)
    (alpha,) = choose_alphas(z[train], y[train], _folds(named(40), train)[train])
    expected = Ridge(alpha=alpha).fit(z[train], y[train, 0]).predict(z)
    np.testing.assert_allclose(probe(x, y, named(40), train)[:, 0], expected, atol=1e-8)


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
    x[:, 2] = 7
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
        found = probe(rng.normal(size=(8, 200)), rng.normal(size=(8, 2)), named(8), np.arange(8) < n_train)
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
