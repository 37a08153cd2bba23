"""Differences between methods: paired, over seeds, as shares of the ceiling, corrected for their number."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import r2_score

from ptacl.evaluation.compare import compare, seed_of
from ptacl.evaluation.statistics import Draws, Resampling, holm
from ptacl.evaluation.tables import PREDICTIONS, QUERIES, write_rows

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


def predictions(folder: Path, method: str, seed: int, skip: int = 0, **about: object) -> tuple[int, Path]:
    fit = {"method": method, "protocol": "probe", "inputs": "ecg", "label_fraction": 1.0} | about
    rows = [
        fit | {"subject_id": s, "visit": 2, "phenotype": name, "truth": t, "prediction": p}
        for name in TRUTH
        for s, t, p in list(zip(WHO, TRUTH[name], predicted(name, method, seed, NOISE[method]), strict=True))[skip:]
    ]
    path = folder / f"{method}{len(about)}" / f"seed{seed}.parquet"
    write_rows(path, rows, PREDICTIONS, {})
    return seed, path


def queries(folder: Path, method: str, seed: int) -> tuple[int, Path]:
    rng = np.random.default_rng([len(method), seed])
    rows = [
        {"method": method, "subject_id": s, "visit": 2, "task": "identification", "direction": d, "metric": m, "k": k,
         "value": float(rng.random() < (0.6 if method == "ptacl" else 0.3)) if m == "recall" else float(rng.integers(1, 9))}
        for d in ("ecg_to_cmr", "cmr_to_ecg") for m, k in (("recall", 10), ("median_rank", None)) for s in WHO
    ]  # fmt: skip
    path = folder / "queries" / method / f"seed{seed}.parquet"
    write_rows(path, rows, QUERIES, {})
    return seed, path


def compared(folder: Path, given: list[tuple[int, Path]], asked: list[tuple[int, Path]] = []) -> list[dict]:  # noqa: B006
    compare(given, asked, SETTINGS, folder / "differences.parquet")
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


def test_p_values_are_corrected_among_the_quantities_of_a_pair(tmp_path: Path) -> None:
    rows = compared(tmp_path, [predictions(tmp_path, m, 0) for m in ("ptacl", "global")])
    assert [r["p_holm"] for r in rows] == pytest.approx(holm([r["p"] for r in rows]))
    assert any(r["p_holm"] > r["p"] for r in rows)


def test_the_share_of_the_ceiling_is_that_of_the_mean_over_seeds(tmp_path: Path) -> None:
    given = [predictions(tmp_path, "ptacl", s) for s in (0, 1)] + [predictions(tmp_path, "ceiling_meas", 0)]
    row = by(compared(tmp_path, given), method="ptacl", phenotype="LVEF", kind="share")
    y, best = TRUTH["LVEF"], predicted("LVEF", "ceiling_meas", 0, NOISE["ceiling_meas"])
    ours = np.mean([r2_score(y, predicted("LVEF", "ptacl", s, NOISE["ptacl"])) for s in (0, 1)])
    assert row["value"] == pytest.approx(ours / r2_score(y, best)) and row["baseline"] == "ceiling_meas"
    assert row["lo"] < row["value"] < row["hi"] and row["p"] is None


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
    p = {m: predicted("LVEDV", m, 1, NOISE[m]) for m in ("ptacl", "global")}
    assert row["value"] == pytest.approx(r2_score(TRUTH["LVEDV"], p["ptacl"]) - r2_score(TRUTH["LVEDV"], p["global"]))


def test_with_few_people_a_difference_has_no_interval(tmp_path: Path) -> None:
    row = by(compared(tmp_path, [predictions(tmp_path, m, 0, skip=45) for m in ("ptacl", "global")]), phenotype="LVEDV")
    assert row["value"] is not None and row["lo"] is None and row["p"] is None


def test_the_seed_is_read_from_the_name() -> None:
    names = ("a/seed3.parquet", "a/seed12_finetuned.parquet", "references.parquet")
    assert [seed_of(Path(n)) for n in names] == [3, 12, 0]
