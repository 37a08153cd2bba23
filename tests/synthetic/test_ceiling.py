"""The known ceiling: posterior means that are calibrated, ordered, and of the quantities of the rendered heart."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ptacl.synthetic import ceiling
from ptacl.synthetic.ceiling import HIDDEN_IN_AF, VISIBLE, expected_phenotypes, measured, quantities
from ptacl.synthetic.heart import build_heart
from ptacl.synthetic.latents import (
    COVARIANCE,
    DISEASES,
    INDEXED,
    NAMES,
    P_DISEASE,
    P_MALE,
    P_RHYTHM,
    RHYTHMS,
    SEXES,
    Subject,
    class_mean,
    draw_subject,
    qt_regression_ms,
)
from ptacl.synthetic.presets import PRESETS
from ptacl.synthetic.tables import FIELDS, TIMINGS, Visit, write_expected
from ptacl.synthetic.timing import inflow, peak_inflow, timing

QUANTITIES = (*FIELDS, *(f"{name}i" for name in INDEXED), *TIMINGS)
REFERENCES = ("clean", "meas", "meas_covariates")
PEOPLE = [draw_subject(2026, i) for i in range(3000)]
EXACT = [{n: s[n] for n in VISIBLE} for s in PEOPLE]
NOISY = [measured(s, np.random.default_rng([1, i])) for i, s in enumerate(PEOPLE)]
# Enough for some 1,700 comparisons on one sample.
TOLERATED_ERRORS = 4.0

Predictions = dict[str, np.ndarray]


def _truth(people: list[Subject]) -> Predictions:
    values = [quantities(s) for s in people]
    return {name: np.array([float(v[name]) for v in values]) for name in QUANTITIES}


@pytest.fixture(scope="module")
def truth() -> Predictions:
    return _truth(PEOPLE)


@pytest.fixture(scope="module")
def predictions() -> dict[str, Predictions]:
    return {
        "clean": expected_phenotypes(PEOPLE, EXACT, noisy=False, covariates=False),
        "meas": expected_phenotypes(PEOPLE, NOISY, noisy=True, covariates=False),
        "meas_covariates": expected_phenotypes(PEOPLE, NOISY, noisy=True, covariates=True),
    }


@pytest.fixture(scope="module")
def r2(truth: Predictions, predictions: dict[str, Predictions]) -> Callable[[str, str], float]:
    def of(reference: str, name: str) -> float:
        y, p = truth[name], predictions[reference][name]
        return float(1 - np.nanmean((y - p) ** 2) / np.nanvar(y))

    return of


def _slope_in_standard_errors(x: np.ndarray, y: np.ndarray) -> float:
    """Slope of y on x as a multiple of its standard error; the scatter of y may depend on x."""
    x = x - x.mean()
    slope = (x * y).sum() / (x * x).sum()
    return float(slope * (x * x).sum() / np.sqrt((x * x * (y - y.mean() - slope * x) ** 2).sum()))


def _assert_calibrated(truth: Predictions, predicted: Predictions) -> None:
    """What is left of the truth has mean zero and does not go with the prediction: the truth's slope on it is 1."""
    for name in QUANTITIES:
        left = truth[name] - predicted[name]
        known = ~np.isnan(left)
        p, left = predicted[name][known], left[known]
        if len(p) and np.ptp(p) > 0:
            assert abs(left.mean()) < TOLERATED_ERRORS * left.std() / np.sqrt(len(left)), name
            assert abs(_slope_in_standard_errors(p, left)) < TOLERATED_ERRORS, name


@pytest.mark.parametrize("reference", REFERENCES)
def test_predictions_are_calibrated(reference: str, truth: Predictions, predictions: dict[str, Predictions]) -> None:
    _assert_calibrated(truth, predictions[reference])


@pytest.mark.parametrize("rhythm", ["LBBB", "AF"])
def test_predictions_are_calibrated_where_the_rhythm_hints_at_a_disease(rhythm: str) -> None:
    """One in eight with left bundle branch block has a dilated heart; of all people, one in two hundred."""
    rng = np.random.default_rng(5)
    classes = [(sex, disease) for sex in SEXES for disease in DISEASES]
    share = np.array(
        [
            (P_MALE if sex == "M" else 1 - P_MALE) * P_DISEASE[sex][d] * P_RHYTHM[disease][RHYTHMS.index(rhythm)]
            for sex in SEXES for d, disease in enumerate(DISEASES)
        ]
    )  # fmt: skip
    people = []
    for k in rng.choice(len(classes), p=share / share.sum(), size=1500):
        latents = rng.multivariate_normal(class_mean(*classes[k], rhythm), COVARIANCE, method="cholesky")
        people.append(Subject(*classes[k], rhythm, dict(zip(NAMES, latents.tolist(), strict=True))))
    seen = [{n: s[n] for n in VISIBLE} for s in people]
    _assert_calibrated(_truth(people), expected_phenotypes(people, seen, noisy=False, covariates=False))


@pytest.mark.parametrize("reference", REFERENCES)
def test_nothing_that_was_seen_goes_with_what_is_left(
    reference: str, truth: Predictions, predictions: dict[str, Predictions]
) -> None:
    seen = EXACT if reference == "clean" else NOISY
    evidence = {n: np.array([v[n] for v in seen]) for n in VISIBLE if n not in HIDDEN_IN_AF}
    if reference == "meas_covariates":
        evidence |= {n: np.array([s[n] for s in PEOPLE]) for n in ceiling.COVARIATES}
        evidence["male"] = np.array([float(s.sex == "M") for s in PEOPLE])
    for name in QUANTITIES:
        left = truth[name] - predictions[reference][name]
        known = ~np.isnan(left)
        for n, values in evidence.items():
            z = _slope_in_standard_errors(values[known], left[known])
            assert abs(z) < TOLERATED_ERRORS, (name, n, z)


def test_the_ceiling_is_that_of_the_specification(r2: Callable[[str, str], float]) -> None:
    for name, clean, meas in (
        ("LVEDV", 0.54, 0.49), ("LVM", 0.64, 0.59), ("LVEF", 0.24, 0.22), ("RVEDV", 0.55, 0.51),
    ):  # fmt: skip
        assert r2("clean", name) == pytest.approx(clean, abs=0.05)
        assert r2("meas", name) == pytest.approx(meas, abs=0.05)
    assert r2("meas_covariates", "LVM") == pytest.approx(0.75, abs=0.05)


def test_the_trace_tells_every_timing_and_those_of_conduction_best(r2: Callable[[str, str], float]) -> None:
    assert all(r2("meas", name) > 0.2 for name in TIMINGS)
    assert all(r2("clean", name) > 0.7 for name in ("septal_lateral_ms", "atrial_kick_phase", "es_ms"))
    assert r2("clean", "es_ms") > r2("clean", "mitral_opening_ms") > r2("clean", "peak_filling_rate")


def test_less_noise_and_more_knowledge_predict_better(r2: Callable[[str, str], float]) -> None:
    by_chance = 0.005
    for name in QUANTITIES:
        assert r2("clean", name) > r2("meas", name) > 0.1, name
        assert r2("meas_covariates", name) > r2("meas", name) - by_chance, name
    # Who knows the body sees through what it adds to volumes; the trace alone tells less once that is divided out.
    assert r2("meas_covariates", "LVEDV") > r2("meas", "LVEDV") + 0.1
    assert r2("meas", "LVEDVi") < r2("meas", "LVEDV") - 0.05


def test_with_known_height_and_weight_the_body_surface_has_no_spread(predictions: dict[str, Predictions]) -> None:
    bsa = np.array([s.bsa_m2 for s in PEOPLE])
    for name in INDEXED:
        known = predictions["meas_covariates"]
        np.testing.assert_allclose(known[f"{name}i"], known[name] / bsa, rtol=1e-5)
        assert np.abs(predictions["meas"][f"{name}i"] * bsa / predictions["meas"][name] - 1).max() > 0.05


def test_a_man_and_a_woman_with_the_same_trace_have_the_same_predictions() -> None:
    """The trace shows the QT interval; how far it is from what is usual depends on a sex that the trace does not show."""
    others, seen = [], []
    for subject, exact in zip(PEOPLE[:40], EXACT, strict=False):
        other, rate = "F" if subject.sex == "M" else "M", np.exp(subject["lnHR"])
        unusual = subject["QTr"] + qt_regression_ms(rate, subject.sex) - qt_regression_ms(rate, other)
        others.append(replace(subject, sex=other))
        seen.append({**exact, "QTr": unusual})
    found = expected_phenotypes(others, seen, noisy=False, covariates=False)
    for name, values in expected_phenotypes(PEOPLE[:40], EXACT[:40], noisy=False, covariates=False).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9)


def test_body_surface_is_that_of_dubois() -> None:
    """1.81 m2 for 170 cm and 70 kg."""
    height, bmi = (170 - 176) / 7, np.log(70 / 1.7**2 / 26.8) / 0.145
    subject = replace(PEOPLE[0], sex="M", latents={**PEOPLE[0].latents, "H": height, "B": bmi})
    assert (subject.height_cm, subject.weight_kg) == pytest.approx((170, 70))
    assert subject.bsa_m2 == pytest.approx(1.8097, abs=1e-4)


def _varied(index: int) -> Subject:
    """Every third in atrial fibrillation, every second with a heart so quick that early and atrial filling fuse."""
    subject = draw_subject(11, index)
    rate = {"lnHRm": np.log(75 + 0.4 * index)} if index % 2 else {}
    return replace(subject, rhythm="AF" if index % 3 == 0 else subject.rhythm, latents={**subject.latents, **rate})


def test_the_quantities_are_those_of_the_rendered_heart() -> None:
    fused = 0
    for index in range(150):
        subject = _varied(index)
        heart = build_heart(subject, np.random.default_rng(index), PRESETS["small"])
        found = quantities(subject)
        assert tuple(found) == QUANTITIES
        for name, value in {**heart.phenotypes, **heart.timings}.items():
            np.testing.assert_allclose(found[name], value, rtol=0.01 if name == "peak_filling_rate" else 0)
        assert found["septal_lateral_ms"] == max(subject["DYS"], 0)
        q = heart.timing
        fused += bool(q.atrial_fraction and q.atrial_kick < q.mitral_opening + 0.6 * q.early_filling)
    assert fused > 15


def test_the_peak_inflow_is_the_largest_of_the_cycle() -> None:
    for index in range(300):
        q = timing(_varied(index))
        largest = inflow(np.linspace(q.mitral_opening, q.rr, 5001), q).max()
        np.testing.assert_allclose(peak_inflow(q), largest, rtol=0.005)


@pytest.mark.parametrize("rhythm", ["normal", "AF"])
def test_many_people_at_once_have_the_quantities_of_each(rhythm: str) -> None:
    people = [replace(_varied(index), sex="F", disease="none", rhythm=rhythm) for index in range(60)]
    latents = {n: np.array([s[n] for s in people]).reshape(6, 10) for n in people[0].latents}
    together = quantities(Subject("F", "none", rhythm, latents))
    for name in QUANTITIES:
        alone = np.reshape([float(quantities(s)[name]) for s in people], (6, 10))
        np.testing.assert_allclose(together[name], alone, rtol=1e-12)


@pytest.mark.parametrize("reference", REFERENCES)
def test_more_points_give_the_same_predictions(
    reference: str, truth: Predictions, predictions: dict[str, Predictions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceiling, "QMC_POINTS", 2048)
    n, noisy = 60, reference != "clean"
    seen = NOISY if noisy else EXACT
    finer = expected_phenotypes(PEOPLE[:n], seen[:n], noisy, covariates=reference == "meas_covariates")
    for name in QUANTITIES:
        error = (predictions[reference][name][:n] - finer[name]) / np.nanstd(truth[name])
        # The farthest of sixty people lies at two to three times the mean, more or less by how a processor rounds.
        assert np.sqrt(np.nanmean(error**2)) < 0.01 and np.nanmax(np.abs(error)) < 0.03, name


def test_atrial_fibrillation_has_no_row_for_the_kick_and_no_atrial_filling(tmp_path: Path) -> None:
    subjects = [replace(PEOPLE[i], rhythm=rhythm) for i, rhythm in enumerate(("AF", "normal", "LBBB", "AF"))]
    visits = [Visit(f"P{i}", i, 2, s, None, has_ecg=True, has_cine=True) for i, s in enumerate(subjects)]
    write_expected(tmp_path / "expected.parquet", 1, visits)
    rows = pq.read_table(tmp_path / "expected.parquet").to_pylist()
    found = {(r["subject_id"], r["phenotype"], r["reference"]): r["value"] for r in rows}
    assert len(found) == len(rows) and np.isfinite(list(found.values())).all()
    fibrillating = {"P0", "P3"}
    assert found.keys() == {
        (v.eid, name, reference)
        for v in visits for name in QUANTITIES for reference in REFERENCES
        if not (v.eid in fibrillating and name == "atrial_kick_phase")
    }  # fmt: skip
    for (eid, name, _), value in found.items():
        if name == "atrial_fraction":
            assert (value == 0) == (eid in fibrillating)
