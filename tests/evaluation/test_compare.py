"""Differences between methods: paired, over seeds, as shares of the ceiling, corrected for their number."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import norm
from sklearn.metrics import r2_score

from ptacl.evaluation.compare import compare, seed_of
from ptacl.evaluation.retrieval import Gallery, identification
from ptacl.evaluation.statistics import Draws, Resampling, holm, regression_metrics
from ptacl.evaluation.tables import PREDICTIONS, QUERIES, block, write_rows

N = 60
WHO = [f"S{i:03d}" for i in range(N)]
SETTINGS = {
    "targets": ["LVEDV", "LVEF"], "extra_targets": ["es_ms"], "bootstraps": 300, "seed": 0,
    "compare": [["ptacl", "global"], ["ptacl", "nobody"]],
}  # fmt: skip
TRUTH = {name: np.random.default_rng(i).normal(100, 20, N) for i, name in enumerate(("LVEDV", "LVEF", "es_ms"))}


def predicted(name: str, method: str, seed: int, noise: float) -> np.ndarray:
    """Half of the noise is common to all methods."""
    common = np.random.default_rng(9).normal(0, noise, N)
    own = np.random.default_rng([len(method), seed, len(name)]).normal(0, noise, N)
    return TRUTH[name] + common + own


NOISE = {"ptacl": 8.0, "global": 11.0, "ceiling_meas": 5.0}


def predictions(
    folder: Path, method: str, seed: int, skip: int = 0, only: Sequence[str] = tuple(TRUTH), **about: object
) -> tuple[int, Path]:
    fit = {"method": method, "protocol": "probe", "inputs": "ecg", "label_fraction": 1.0} | about
    rows = [
        fit | {"subject_id": s, "visit": 2, "phenotype": name, "truth": t, "prediction": p}
        for name in only
        for s, t, p in list(zip(WHO, TRUTH[name], predicted(name, method, seed, NOISE[method]), strict=True))[skip:]
    ]
    path = folder / f"{method}{len(about)}" / f"seed{seed}.parquet"
    write_rows(path, rows, PREDICTIONS, {})
    return seed, path


def given_values(folder: Path, method: str, p: np.ndarray, **about: object) -> tuple[int, Path]:
    """Predictions of LVEDV."""
    fit = {"method": method, "protocol": "probe", "inputs": "ecg", "label_fraction": 1.0} | about
    about_row = {"visit": 2, "phenotype": "LVEDV"}
    rows = [
        fit | about_row | {"subject_id": s, "truth": t, "prediction": v}
        for s, t, v in zip(WHO, TRUTH["LVEDV"], p, strict=True)
    ]
    path = folder / method / "seed0.parquet"
    write_rows(path, rows, PREDICTIONS, {})
    return 0, path


def queries(folder: Path, method: str, seed: int, phenotypes: Sequence[str] = ()) -> tuple[int, Path]:
    rng = np.random.default_rng([len(method), seed])
    rows = [
        {"method": method, "subject_id": s, "visit": 2, "task": "identification", "direction": d, "metric": m, "k": k,
         "value": float(rng.random() < (0.6 if method == "ptacl" else 0.3)) if m == "recall" else float(rng.integers(1, 9))}
        for d in ("ecg_to_cmr", "cmr_to_ecg") for m, k in (("recall", 10), ("median_rank", None)) for s in WHO
    ]  # fmt: skip
    if phenotypes:
        about = {"method": method, "visit": 2, "task": "phenotype", "direction": "ecg_to_ecg", "k": 10}
        rows = [
            about | {"subject_id": s, "phenotype": p, "metric": m, "value": float(rng.random())}
            for p in phenotypes for m in ("precision", "abs_difference") for s in WHO
        ]  # fmt: skip
    path = folder / "queries" / method / f"seed{seed}.parquet"
    write_rows(path, rows, QUERIES, {})
    return seed, path


def compared(
    folder: Path, given: Sequence[tuple[int, Path]], asked: Sequence[tuple[int, Path]] = (), **settings: object
) -> list[dict]:
    compare(given, asked, SETTINGS | settings, folder / "differences.parquet")
    return pq.read_table(folder / "differences.parquet").to_pylist()


def by(rows: list[dict], **keys) -> dict:
    (row,) = (r for r in rows if all(r[k] == v for k, v in keys.items()))
    return row


def test_a_difference_and_its_interval_are_those_of_a_loop_over_the_same_draws(tmp_path: Path) -> None:
    given = [predictions(tmp_path, m, s) for m in ("ptacl", "global") for s in (0, 1)]
    row = by(compared(tmp_path, given), method="ptacl", phenotype="LVEDV", metric="r2")
    y, weights = TRUTH["LVEDV"], Resampling(WHO, Draws(300, 0)).weights.astype(int)
    p = {(m, s): predicted("LVEDV", m, s, NOISE[m]) for m in ("ptacl", "global") for s in (0, 1)}
    of_seeds = [r2_score(y, p["ptacl", s]) - r2_score(y, p["global", s]) for s in (0, 1)]
    assert row["value"] == pytest.approx(np.mean(of_seeds)) and row["seeds"] == 2 and row["n"] == N
    assert row["seed_sd"] == pytest.approx(np.std(of_seeds, ddof=1))
    drawn = [
        np.mean([
            r2_score(np.repeat(y, w), np.repeat(p["ptacl", s], w)) - r2_score(np.repeat(y, w), np.repeat(p["global", s], w))
            for s in (0, 1)
        ])
        for w in weights
    ]  # fmt: skip
    assert (row["lo"], row["hi"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=1e-9)
    assert row["lo"] > 0 and row["p"] < 0.05


def test_means_over_phenotypes_and_directions_are_compared_too(tmp_path: Path) -> None:
    given = [predictions(tmp_path, m, 0) for m in ("ptacl", "global")]
    asked = [queries(tmp_path, m, 0) for m in ("ptacl", "global")]
    rows = compared(tmp_path, given, asked)
    each = [by(rows, phenotype=t)["value"] for t in ("LVEDV", "LVEF")]
    assert by(rows, phenotype="mean_of_targets")["value"] == pytest.approx(np.mean(each))
    assert not [r for r in rows if r["phenotype"] == "mean_of_extra_targets"]  # of one there is no mean
    ways = [by(rows, task="identification", direction=d)["value"] for d in ("ecg_to_cmr", "cmr_to_ecg")]
    both = by(rows, task="identification", direction="both")
    assert both["value"] == pytest.approx(np.mean(ways)) and both["lo"] > 0
    assert {r["metric"] for r in rows} == {"r2", "recall"}  # a median is no mean over queries


def test_a_mean_over_phenotypes_is_over_those_that_both_have(tmp_path: Path) -> None:
    """A study's own table of ceilings may name some phenotypes only."""
    settings = SETTINGS | {"targets": ["LVEDV", "LVEF", "es_ms"], "extra_targets": []}
    given = [predictions(tmp_path, "ptacl", 0), predictions(tmp_path, "ceiling_meas", 0, only=("LVEDV", "LVEF"))]
    rows = compared(tmp_path, given, **settings)
    assert {r["phenotype"] for r in rows} == {"LVEDV", "LVEF", "mean_of_targets"}
    of = {
        m: np.mean([r2_score(TRUTH[t], predicted(t, m, 0, NOISE[m])) for t in ("LVEDV", "LVEF")])
        for m in ("ptacl", "ceiling_meas")
    }
    assert by(rows, phenotype="mean_of_targets")["value"] == pytest.approx(of["ptacl"] / of["ceiling_meas"])


def test_a_mean_has_the_seeds_in_which_all_of_it_is_known(tmp_path: Path) -> None:
    given = [predictions(tmp_path, m, s) for m in ("ptacl", "global") for s in (0, 1)]
    given += [predictions(tmp_path, "ptacl", 2), predictions(tmp_path, "global", 2, only=("LVEF",))]
    rows = compared(tmp_path, given)
    assert [by(rows, phenotype=t)["seeds"] for t in ("LVEDV", "LVEF", "mean_of_targets")] == [2, 3, 2]
    # Of targets that were never known in the same seed there is none.
    given = [predictions(tmp_path / "b", m, s, only=(t,)) for m in NOISE for s, t in ((0, "LVEDV"), (1, "LVEF"))]
    assert {r["phenotype"] for r in compared(tmp_path, given)} == {"LVEDV", "LVEF"}


def test_the_mean_of_both_directions_pairs_the_people_behind_them(tmp_path: Path) -> None:
    asked = [queries(tmp_path, m, s) for m in ("ptacl", "global") for s in (0, 1)]
    row = by(compared(tmp_path, [], asked), direction="both")
    hits: dict[str, np.ndarray] = {}
    for (_, path), m in zip(asked, ("ptacl", "ptacl", "global", "global"), strict=True):
        for r in (r for r in pq.read_table(path).to_pylist() if r["metric"] == "recall"):
            hits.setdefault(m, np.zeros(N))[WHO.index(r["subject_id"])] += r["value"] / 4  # directions and seeds
    weights, apart = Resampling(WHO, Draws(300, 0)).weights, hits["ptacl"] - hits["global"]
    drawn = weights @ apart / N
    expected = (apart.mean(), *np.percentile(drawn, [2.5, 97.5]))
    assert (row["value"], row["lo"], row["hi"]) == pytest.approx(expected)
    assert row["p"] == pytest.approx(2 * norm.sf(apart.mean() / drawn.std(ddof=1))) and row["seeds"] == 2


def test_precision_is_averaged_over_phenotypes_and_what_has_a_unit_is_not(tmp_path: Path) -> None:
    asked = [queries(tmp_path, m, 0, phenotypes=("LVEDV", "LVEF")) for m in ("ptacl", "global")]
    rows = compared(tmp_path, [], asked)
    each = [by(rows, phenotype=t, metric="precision")["value"] for t in ("LVEDV", "LVEF")]
    mean = by(rows, phenotype="mean_of_targets")
    assert mean["metric"] == "precision" and mean["k"] == 10 and mean["value"] == pytest.approx(np.mean(each))
    assert {r["phenotype"] for r in rows if r["metric"] == "abs_difference"} == {"LVEDV", "LVEF"}


def test_the_interval_of_a_pair_is_narrower_than_those_of_its_members_would_say(tmp_path: Path) -> None:
    """A method against itself with a little noise: nearly all that varies, varies in both."""
    rng = np.random.default_rng(5)
    p = TRUTH["LVEDV"] + rng.normal(0, 11, N)
    given = [given_values(tmp_path, m, q) for m, q in (("ptacl", p), ("global", p + rng.normal(0, 1, N)))]
    row = by(compared(tmp_path, given), phenotype="LVEDV")
    (alone,) = regression_metrics(TRUTH["LVEDV"], p, np.ones((N, 1), bool), Resampling(WHO, Draws(300, 0)))
    unpaired = np.hypot(*[alone["r2"].hi - alone["r2"].lo] * 2)
    assert row["hi"] - row["lo"] < unpaired / 3
    itself = by(compared(tmp_path, [given[0], given_values(tmp_path / "b", "global", p)]), phenotype="LVEDV")
    assert [itself[c] for c in ("value", "lo", "hi", "p", "p_holm")] == [0, 0, 0, None, None]


def test_rows_are_paired_by_person_and_visit_whatever_their_order(tmp_path: Path) -> None:
    given = [predictions(tmp_path, m, 0) for m in ("ptacl", "global")]
    before, table = compared(tmp_path, given), pq.read_table(given[1][1])
    order = np.random.default_rng(0).permutation(len(table))
    write_rows(given[1][1], table.take(order).to_pylist(), PREDICTIONS, {})
    first = (tmp_path / "differences.parquet").read_bytes()
    assert compared(tmp_path, given) == before
    assert (tmp_path / "differences.parquet").read_bytes() == first


def test_the_draws_are_those_of_the_scores(tmp_path: Path) -> None:
    """Beside a perfect method, the share is the R² itself, and beside one that finds nobody the difference is the recall."""
    y, p = TRUTH["LVEDV"], predicted("LVEDV", "ptacl", 0, 8.0)
    given = [given_values(tmp_path, "ptacl", p), given_values(tmp_path, "ceiling_meas", y)]
    row = by(compared(tmp_path, given), kind="share")
    resampling = Resampling(WHO, Draws(300, 0))
    e = regression_metrics(y, p, np.ones((N, 1), bool), resampling)[0]["r2"]
    assert (row["value"], row["lo"], row["hi"]) == pytest.approx((e.value, e.lo, e.hi), rel=1e-9)
    rng = np.random.default_rng(1)
    q = rng.normal(size=(N, 4))
    g = q + rng.normal(size=(N, 4))
    table, found = identification(q, g, "ecg_to_cmr", Gallery(resampling))
    expected, paths = next(r for r in table if (r["metric"], r["k"]) == ("recall", 5)), []
    for method, share in (("ptacl", 1.0), ("global", 0.0)):
        rows = [
            {c: f[c] for c in ("task", "direction", "phenotype", "metric", "k")}
            | {"method": method, "subject_id": WHO[i], "visit": 2, "value": share * v}
            for f in found for i, v in zip(f["rows"].tolist(), f["value"].tolist(), strict=True)
        ]  # fmt: skip
        paths.append((0, tmp_path / f"{method}.parquet"))
        write_rows(paths[-1][1], rows, QUERIES, {})
    row = by(compared(tmp_path, [], paths), metric="recall", k=5, direction="ecg_to_cmr")
    assert [row[c] for c in ("value", "lo", "hi")] == pytest.approx([expected[c] for c in ("value", "lo", "hi")])


def test_intervals_of_differences_cover_the_truth_and_p_values_find_nothing_where_nothing_is(tmp_path: Path) -> None:
    """Every phenotype is a study of 500 people; the errors of both methods have half of their variance in common."""
    rng, n, repeats = np.random.default_rng(6), 500, 400
    y = rng.normal(size=(n, repeats))
    common, ours, theirs = rng.normal(size=(3, n, repeats)) * 0.6
    worse = np.where(np.arange(repeats) % 2 == 1, 1.25, 1.0)  # every other difference is none
    names = [f"x{i}" for i in range(repeats)]
    ids = [str(9_000_001 + i) for i in range(n)]
    for method, p in (("ptacl", y + common + ours), ("global", y + common + worse * theirs)):
        table = block(
            PREDICTIONS, n * repeats, method=method, protocol="probe", inputs="ecg", label_fraction=1.0,
            subject_id=np.repeat(ids, repeats), visit=np.full(n * repeats, 2, np.int8),
            phenotype=np.tile(names, n), truth=y.ravel(), prediction=p.ravel(),
        )  # fmt: skip
        write_rows(tmp_path / f"{method}.parquet", [table], PREDICTIONS, {})
    given = [(0, tmp_path / f"{m}.parquet") for m in ("ptacl", "global")]
    rows = {r["phenotype"]: r for r in compared(tmp_path, given, bootstraps=500)}
    truth = 0.36 * (worse**2 - 1)  # of R²: both have the same spread of the truth, 1
    covered = [rows[x]["lo"] <= t <= rows[x]["hi"] for x, t in zip(names, truth, strict=True)]
    false = [rows[x]["p"] < 0.05 for x, t in zip(names, truth, strict=True) if t == 0]
    # Within three standard errors of so many repeats.
    assert np.mean(covered) == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / repeats))
    assert np.mean(false) == pytest.approx(0.05, abs=3 * np.sqrt(0.95 * 0.05 / len(false)))
    assert np.mean([rows[x]["p"] < 0.05 for x, t in zip(names, truth, strict=True) if t > 0]) > 0.7


def test_p_values_are_corrected_among_the_quantities_of_a_pair(tmp_path: Path) -> None:
    rows = compared(tmp_path, [predictions(tmp_path, m, 0) for m in ("ptacl", "global")])
    assert [r["p_holm"] for r in rows] == pytest.approx(holm([r["p"] for r in rows]))
    assert any(r["p_holm"] > r["p"] for r in rows)


def test_another_pair_changes_no_corrected_p_value(tmp_path: Path) -> None:
    given = [predictions(tmp_path, m, 0) for m in ("ptacl", "global")]
    alone = compared(tmp_path, given)
    rows = compared(tmp_path, given, compare=[["global", "ptacl"], *SETTINGS["compare"]])
    assert [r for r in rows if r["method"] == "ptacl"] == alone
    reversed_ = [r for r in rows if r["method"] == "global"]
    for a, b in zip(alone, reversed_, strict=True):
        assert [b[c] for c in ("value", "lo", "hi")] == pytest.approx([-a[c] for c in ("value", "hi", "lo")])
        assert (a["p"], a["p_holm"]) == pytest.approx((b["p"], b["p_holm"]))


def test_the_share_of_the_ceiling_is_that_of_the_mean_over_seeds(tmp_path: Path) -> None:
    given = [predictions(tmp_path, "ptacl", s) for s in (0, 1)] + [predictions(tmp_path, "ceiling_meas", 0)]
    row = by(compared(tmp_path, given), method="ptacl", phenotype="LVEF", kind="share")
    y, best = TRUTH["LVEF"], predicted("LVEF", "ceiling_meas", 0, NOISE["ceiling_meas"])
    ours = np.mean([r2_score(y, predicted("LVEF", "ptacl", s, NOISE["ptacl"])) for s in (0, 1)])
    assert row["value"] == pytest.approx(ours / r2_score(y, best)) and row["baseline"] == "ceiling_meas"
    assert row["lo"] < row["value"] < row["hi"] and row["p"] is None


def test_what_was_predicted_from_is_held_against_the_ceiling_of_the_same_inputs(tmp_path: Path) -> None:
    ecg, covariates = (predicted("LVEDV", m, 7, NOISE[m]) for m in ("ceiling_meas", "global"))
    p, inputs = TRUTH["LVEDV"] + 9, ("ecg", "ecg_phase", "covariates_ecg", "cmr", "covariates")
    given = [given_values(tmp_path / i, "ptacl", p, inputs=i) for i in inputs]
    given += [given_values(tmp_path / "finetune", "ptacl", p, protocol="finetune")]
    given += [given_values(tmp_path, "ceiling_meas", ecg)]
    given += [given_values(tmp_path, "ceiling_meas_covariates", covariates, inputs="covariates_ecg")]
    rows = [r for r in compared(tmp_path, given) if r["kind"] == "share"]
    best = {
        "ceiling_meas": r2_score(TRUTH["LVEDV"], ecg),
        "ceiling_meas_covariates": r2_score(TRUTH["LVEDV"], covariates),
    }
    found = {(r["protocol"], r["inputs"]): (r["baseline"], r["value"]) for r in rows}
    expected = {
        ("probe", "ecg"): "ceiling_meas", ("probe", "ecg_phase"): "ceiling_meas", ("finetune", "ecg"): "ceiling_meas",
        ("probe", "covariates_ecg"): "ceiling_meas_covariates",
    }  # fmt: skip
    ours = r2_score(TRUTH["LVEDV"], p)
    assert found == {k: (name, pytest.approx(ours / best[name])) for k, name in expected.items()}


def test_protocols_inputs_and_label_fractions_are_never_compared_with_each_other(tmp_path: Path) -> None:
    given = [
        predictions(tmp_path, "ptacl", 0), predictions(tmp_path, "global", 0, protocol="finetune"),
        predictions(tmp_path / "a", "global", 0, inputs="ecg_phase"), predictions(tmp_path / "b", "global", 0, label_fraction=0.1),
    ]  # fmt: skip
    assert compared(tmp_path, given) == []


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    given = [predictions(tmp_path, "ptacl", s) for s in (0, 1, 2)] + [
        predictions(tmp_path, "global", s) for s in (1, 3)
    ]
    row = by(compared(tmp_path, given), phenotype="LVEDV")
    assert row["seeds"] == 1 and row["seed_sd"] is None
    assert compared(tmp_path, [given[0], given[-1]]) == []
    p = {m: predicted("LVEDV", m, 1, NOISE[m]) for m in ("ptacl", "global")}
    assert row["value"] == pytest.approx(r2_score(TRUTH["LVEDV"], p["ptacl"]) - r2_score(TRUTH["LVEDV"], p["global"]))


def test_with_few_people_a_difference_has_no_interval(tmp_path: Path) -> None:
    row = by(compared(tmp_path, [predictions(tmp_path, m, 0, skip=45) for m in ("ptacl", "global")]), phenotype="LVEDV")
    assert row["value"] is not None and row["lo"] is None and row["p"] is None


def test_the_seed_is_read_from_the_name() -> None:
    names = ("a/seed3.parquet", "a/seed12_finetuned.parquet", "references.parquet")
    assert [seed_of(Path(n)) for n in names] == [3, 12, 0]


def test_what_is_known_of_some_people_only_is_compared_with_nothing_else(tmp_path: Path) -> None:
    found = compared(
        tmp_path,
        [
            predictions(tmp_path, "ptacl", 0),
            predictions(tmp_path, "global", 0, skip=5),
            predictions(tmp_path, "ceiling_meas", 0, skip=5),
        ],
    )
    assert found and {(r["method"], r["kind"]) for r in found} == {("global", "share")}
