"""The best possible prediction of each phenotype and timing from what the trace shows: exact for this model.

Within a class of sex and disease the latents are jointly Gaussian; sex and disease are hidden (the rhythm is visible), so the
posterior is a mixture of Gaussians, weighted by how well each class explains the trace. The quantities are nonlinear in
the latents: their mean over each Gaussian is taken by quasi-Monte-Carlo.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm, qmc

from ptacl.synthetic.latents import (
    COVARIANCE,
    DISEASES,
    INDEX,
    P_DISEASE,
    P_MALE,
    P_RHYTHM,
    RHYTHMS,
    SEXES,
    Subject,
    class_mean,
    indexed,
    phenotypes,
    qt_regression_ms,
)
from ptacl.synthetic.timing import landmarks, peak_inflow, timing

VISIBLE = (
    "lnHR", "PR", "Pdur", "lnPamp", "PTF", "lnQRSd", "lnMag", "axF", "axH", "ST", "lnTmag", "tAngF", "tAngH", "QTr",
    "TpTe", "Tas", "lnRMSSD", "qsep", "lat", "gainP",
)  # fmt: skip
# Atrial fibrillation has no P wave, and its beat-to-beat variability says nothing.
HIDDEN_IN_AF = frozenset({"PR", "Pdur", "lnPamp", "PTF", "lnRMSSD"})
COVARIATES = ("A", "H", "B", "P")
# Error (1 SD) of a good automatic measurement on one ten-second strip, in the latent's unit.
MEASUREMENT_SD = {
    "lnHR": 0.012, "PR": 7, "Pdur": 6, "lnPamp": 0.10, "PTF": 0.5, "lnQRSd": 0.05, "lnMag": 0.06, "axF": 6, "axH": 5,
    "ST": 0.010, "lnTmag": 0.06, "tAngF": 8, "tAngH": 7, "QTr": 6, "TpTe": 5, "Tas": 0.5, "lnRMSSD": 0.25,
    "qsep": 0.4, "lat": 0.05, "gainP": 0.05,
}  # fmt: skip
# What `quantities` reads.
_NEEDED = (
    "lnEDV", "logitEF", "lnLVM", "lnRVEDV", "lnRho", "H", "B",
    "lnHRm", "lnQRSd", "PR", "PEPr", "ESr", "IVRT", "TE", "tA", "lgfA", "DYS",
)  # fmt: skip
# The peak filling rate, the least smooth quantity, needs so many for errors of 1 % of its SD.
QMC_POINTS = 256
# A class less probable than this is left out: it could move no prediction by 0.0001 SD.
_UNLIKELY = 1e-6
# Subjects at a time, so that the arrays of their points stay in the processor's cache.
_CHUNK = 256


def quantities(subject: Subject) -> dict[str, Any]:
    """Phenotypes, those per body surface and the six timings of one subject, or of many of one class.

    In units of `phenotypes`, `indexed`, `landmarks`; peak_filling_rate in EDV per second. NaN: the rhythm has none.
    """
    values, q = phenotypes(subject.latents), timing(subject)
    rate = {"peak_filling_rate": peak_inflow(q) * 1000 * values["LVEF"] / 100}
    return values | indexed(values, subject.bsa_m2) | landmarks(subject, q) | rate


def measured(subject: Subject, rng: np.random.Generator) -> dict[str, float]:
    """The visible latents with measurement error."""
    return {name: subject[name] + MEASUREMENT_SD[name] * rng.standard_normal() for name in VISIBLE}


def expected_phenotypes(
    subjects: Sequence[Subject], visible: Sequence[dict[str, float]], noisy: bool, covariates: bool
) -> dict[str, np.ndarray]:
    """Posterior mean of every quantity, float64 [subjects]; NaN where the rhythm has no such quantity.

    `visible` holds each subject's visible latents as seen; `noisy` says that they carry MEASUREMENT_SD. With `covariates`
    age, height, BMI, blood pressure and sex are known too.
    """
    result: dict[str, np.ndarray] = {}
    for rhythm in RHYTHMS:
        of_rhythm = [i for i, s in enumerate(subjects) if s.rhythm == rhythm]
        for start in range(0, len(of_rhythm), _CHUNK):
            rows = of_rhythm[start : start + _CHUNK]
            means = _of_one_rhythm(rhythm, [subjects[i] for i in rows], [visible[i] for i in rows], noisy, covariates)
            for name, values in means.items():
                result.setdefault(name, np.zeros(len(subjects)))[rows] = values
    return result


def _of_one_rhythm(
    rhythm: str, subjects: list[Subject], visible: list[dict[str, float]], noisy: bool, covariates: bool
) -> dict[str, np.ndarray]:
    names = [n for n in VISIBLE if rhythm != "AF" or n not in HIDDEN_IN_AF]
    noise = np.array([MEASUREMENT_SD[n] ** 2 if noisy else 0.0 for n in names])
    seen = np.array([[v[n] for n in names] for v in visible])
    if covariates:
        seen = np.hstack([seen, [[s[n] for n in COVARIATES] for s in subjects]])
        names, noise = [*names, *COVARIATES], np.append(noise, np.zeros(len(COVARIATES)))
    evidence, target = [INDEX[n] for n in names], [INDEX[n] for n in _NEEDED]
    s_ee = COVARIANCE[np.ix_(evidence, evidence)] + np.diag(noise)
    s_te = COVARIANCE[np.ix_(target, evidence)]
    gain = np.linalg.solve(s_ee, s_te.T).T
    spread = COVARIANCE[np.ix_(target, target)] - gain @ s_te.T
    draws = _gaussian_points(spread)
    whiten = np.linalg.inv(np.linalg.cholesky(s_ee))

    male = np.array([s.sex == "M" for s in subjects])
    classes = [(sex, disease) for sex in SEXES for disease in DISEASES]
    log_weights, means = [], []
    for sex in SEXES:
        as_seen = _implied(seen, names, subjects, visible, sex)
        known = np.where(male == (sex == "M"), 0.0, -np.inf) if covariates else 0.0
        for d, disease in enumerate(DISEASES):
            mean = class_mean(sex, disease, rhythm)
            prior = (
                (P_MALE if sex == "M" else 1 - P_MALE) * P_DISEASE[sex][d] * P_RHYTHM[disease][RHYTHMS.index(rhythm)]
            )
            residual = as_seen - mean[evidence]
            log_weights.append(np.log(prior) + known - 0.5 * np.square(residual @ whiten.T).sum(1))
            means.append(mean[target] + residual @ gain.T)
    weights = np.exp(np.array(log_weights) - logsumexp(log_weights, axis=0))
    result: dict[str, np.ndarray] = {}
    for (sex, disease), weight, mean in zip(classes, weights, means, strict=True):
        likely = weight > _UNLIKELY
        points = mean[likely].T[:, :, None] + draws.T[:, None, :]
        people = Subject(sex, disease, rhythm, dict(zip(_NEEDED, points, strict=True)))
        for name, values in quantities(people).items():
            result.setdefault(name, np.zeros(len(subjects)))[likely] += weight[likely] * values.mean(1)
    return result


def _implied(
    seen: np.ndarray, names: list[str], subjects: list[Subject], visible: list[dict[str, float]], sex: str
) -> np.ndarray:
    """The evidence as it would have to be if the person were of `sex`.

    The trace shows the QT interval, not its deviation from the sex-specific regression on heart rate.
    """
    implied = seen.copy()
    rate = np.exp([v["lnHR"] for v in visible])
    true_qt = np.array([qt_regression_ms(r, s.sex) for r, s in zip(rate, subjects, strict=True)])
    implied[:, names.index("QTr")] += true_qt - qt_regression_ms(rate, sex)
    return implied


def _gaussian_points(covariance: np.ndarray) -> np.ndarray:
    """QMC points of a Gaussian with mean zero: float64 [QMC_POINTS, latents]."""
    values, vectors = np.linalg.eigh(covariance)
    # The first coordinates of a Sobol sequence are the most even: they go to the widest directions. What is known without
    # error has no spread; rounding leaves it a variance of about zero, of either sign.
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    uniform = qmc.Sobol(len(covariance), seed=1).random(QMC_POINTS)
    return norm.ppf(uniform * (1 - 1e-9) + 5e-10) @ (vectors * np.sqrt(values)).T
