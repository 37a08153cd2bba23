"""Phase alignment against loops over patients and bins, and what models of known kinds reach in each gallery."""

import numpy as np
import pytest

from ptacl.evaluation.alignment import DIRECTIONS, OTHERS, phase_alignment
from ptacl.evaluation.retrieval import Gallery
from ptacl.evaluation.statistics import Draws, Resampling

N, K, D = 30, 10, 16


def named(n: int) -> list[str]:
    return [f"S{i:04d}" for i in range(n)]


def gallery(who: list[str]) -> Gallery:
    return Gallery(Resampling(who, Draws(100, 0)))


def by(rows: list[dict], **keys) -> dict:
    (row,) = (r for r in rows if all(r[k] == v for k, v in keys.items()))
    return row


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def aligned(ecg: np.ndarray, cmr: np.ndarray, shifted: np.ndarray) -> tuple[list[dict], list[dict], list[dict]]:
    return phase_alignment(ecg, cmr, shifted, np.arange(len(ecg)), gallery(named(len(ecg))))


def value(table: list[dict], frames: str, direction: str = "ecg_to_cmr") -> float:
    return by(table, metric=f"phase_accuracy_{frames}", direction=direction)["value"]


def width_of(table: list[dict], frames: str) -> float:
    row = by(table, metric=f"phase_accuracy_{frames}", direction="ecg_to_cmr")
    return row["hi"] - row["lo"]


def accuracy(ecg: np.ndarray, frames: np.ndarray, direction: str) -> float:
    """Of one patient, bin by bin."""
    query, other = (ecg, frames) if direction == "ecg_to_cmr" else (frames, ecg)
    hits = 0
    for a in range(len(query)):
        cosines = [float(query[a] @ other[b]) for b in range(len(other))]
        hits += cosines.index(max(cosines)) == a
    return hits / len(query)


@pytest.mark.parametrize("n", [30, 5, 2])
def test_accuracies_of_every_patient_and_mean_similarities_are_those_of_loops(n: int) -> None:
    rng = np.random.default_rng(n)
    phase = rng.normal(size=(K, D))
    ecg, cmr, shifted = (unit(phase + 0.9 * rng.normal(size=(n, K, D))) for _ in range(3))
    table, queries, matrices = aligned(ecg, cmr, shifted)
    # The next ones in order, round the end; never oneself, however few there are.
    others = {i: [j % n for j in range(i + 1, i + 1 + min(OTHERS, n - 1))] for i in range(n)}
    assert all(i not in others[i] for i in range(n))
    for direction in DIRECTIONS:
        own = [accuracy(ecg[i], cmr[i], direction) for i in range(n)]
        other = [np.mean([accuracy(ecg[i], cmr[j], direction) for j in others[i]]) for i in range(n)]
        moved = [accuracy(ecg[i], shifted[i], direction) for i in range(n)]
        for name, values in (("own", own), ("other", other), ("shifted", moved), ("gap", np.subtract(own, other))):
            metric = f"phase_accuracy_{name}"
            of_queries, row = (by(of, metric=metric, direction=direction) for of in (queries, table))
            np.testing.assert_allclose(of_queries["value"], values, atol=1e-12)
            assert of_queries["rows"].tolist() == list(range(n))
            assert row["value"] == (pytest.approx(np.mean(values)) if n > 2 else None), name
            assert (row["chance"], row["oracle"]) == (0 if name == "gap" else 1 / K, 1)
            assert (row["n"], row["gallery"], row["task"]) == (n, K, "phase")
    assert len(table) == len(queries) == 8
    for frames, of in (
        ("own", [ecg[i] @ cmr[i].T for i in range(n)]),
        ("other", [ecg[i] @ cmr[j].T for i in range(n) for j in others[i]]),
        ("shifted", [ecg[i] @ shifted[i].T for i in range(n)]),
    ):
        cells = {(m["ecg_bin"], m["cmr_bin"]): m["cosine"] for m in matrices if m["frames"] == frames}
        mean = np.mean(of, axis=0)
        assert cells == pytest.approx({(i, j): mean[i, j] for i in range(K) for j in range(K)})
    assert len(matrices) == 3 * K * K and {m["n"] for m in matrices} == {n}


def test_a_model_that_knows_the_phase_alone_has_no_gap() -> None:
    rng = np.random.default_rng(0)
    phase = unit(rng.normal(size=(K, D)))
    everybody = np.repeat(phase[None], N, axis=0)
    table = aligned(everybody, everybody, everybody)[0]
    for direction in DIRECTIONS:
        assert [value(table, f, direction) for f in ("own", "other", "shifted", "gap")] == [1, 1, 1, 0]


def test_a_model_that_knows_the_timing_of_each_patient_has_a_gap() -> None:
    rng = np.random.default_rng(1)
    own = unit(rng.normal(size=(N, K, D)))
    table = aligned(own, own, own)[0]
    for direction in DIRECTIONS:
        assert value(table, "own", direction) == value(table, "shifted", direction) == 1
        assert value(table, "other", direction) == pytest.approx(1 / K, abs=0.03)
        gap = by(table, metric="phase_accuracy_gap", direction=direction)
        assert gap["value"] == pytest.approx(0.9, abs=0.03) and gap["lo"] > 0.85


def test_a_model_that_knows_the_place_in_the_recording_fails_on_a_shifted_cine() -> None:
    """Frames in the order of the cycle: what was at the start of the recording is now in the middle."""
    phase = np.repeat(unit(np.random.default_rng(2).normal(size=(K, D)))[None], N, axis=0)
    table = aligned(phase, phase, np.roll(phase, K // 2, axis=1))[0]
    for direction in DIRECTIONS:
        assert (value(table, "own", direction), value(table, "shifted", direction)) == (1, 0)


def test_collapsed_bins_are_at_chance() -> None:
    same = np.ones((N, K, D)) / np.sqrt(D)
    table = aligned(same, same, same)[0]
    for row in table:
        assert row["value"] == pytest.approx(row["chance"])


def test_the_two_directions_are_not_the_same_question() -> None:
    """One frame group that resembles every ECG bin takes all of them, but is itself nearest to one."""
    ecg = np.repeat(np.eye(K)[None], N, axis=0)
    cmr = ecg.copy()
    cmr[:, 3] = unit(np.full(K, 1.0) + 0.1 * np.eye(K)[3])
    cmr[:, np.arange(K) != 3] *= 0.1
    table = aligned(ecg, cmr, cmr)[0]
    assert value(table, "own", "ecg_to_cmr") == pytest.approx(1 / K) and value(table, "own", "cmr_to_ecg") == 1


def test_patients_without_usable_phase_are_left_out_of_every_draw() -> None:
    rng = np.random.default_rng(3)
    who = [s for i, s in enumerate(named(50)) for _ in range(1 + i % 2)]
    of = gallery(who)
    rows = of.first_visits[5:]
    ecg, cmr = (unit(rng.normal(size=(len(rows), 4, 8))) for _ in range(2))
    table, queries, _ = phase_alignment(ecg, cmr, cmr, rows, of)
    weights = of.resampling.weights[:, rows]
    for q in queries:
        row = by(table, metric=q["metric"], direction=q["direction"])
        drawn = [np.repeat(q["value"], w.astype(int)).mean() for w in weights]
        expected = (q["value"].mean(), *np.percentile(drawn, [2.5, 97.5]))
        assert (row["value"], row["lo"], row["hi"]) == pytest.approx(expected)
        assert row["n"] == 45


def test_the_gap_pairs_own_and_other_frames_of_the_same_patient() -> None:
    """Bins of some patients are hard whoever's frames are tried: this cancels in the gap."""
    rng = np.random.default_rng(4)
    phase, hard = rng.normal(size=(K, D)), np.repeat([0.2, 2.5], 40)[:, None, None]
    ecg = unit(phase + hard * rng.normal(size=(80, K, D)))
    cmr = unit(phase + 0.2 * rng.normal(size=(80, K, D)))
    table = aligned(ecg, cmr, cmr)[0]
    width = {f: width_of(table, f) for f in ("own", "other", "gap")}
    assert width["gap"] < 0.7 * width["own"] and width["gap"] < 0.7 * np.hypot(width["own"], width["other"])


def test_one_patient_alone_has_no_others_and_none_has_nothing() -> None:
    x = unit(np.random.default_rng(0).normal(size=(1, 4, 8)))
    table, _, matrices = phase_alignment(x, x, x, np.arange(1), gallery(named(1)))
    assert {r["metric"] for r in table} == {"phase_accuracy_own", "phase_accuracy_shifted"}
    assert {m["frames"] for m in matrices} == {"own", "shifted"}
    assert all(r["value"] is None and r["note"] for r in table)
    assert phase_alignment(x[:0], x[:0], x[:0], np.arange(0), gallery([])) == ([], [], [])
