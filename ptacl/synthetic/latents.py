"""The latent physiology: linear-Gaussian within each class of sex, hidden disease and visible rhythm.

A latent is centre(sex) + sum(coefficient x parent's deviation) + class shift + residual. The covariance is the same in every
class, so that the posterior of any latents given any others has a closed form (ceiling.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from scipy.special import expit

SEXES = ("F", "M")
P_MALE = 0.48
DISEASES = ("none", "DCM", "HCM", "MI")
P_DISEASE = {"F": (0.9825, 0.0035, 0.0020, 0.0120), "M": (0.9590, 0.0070, 0.0040, 0.0300)}
RHYTHMS = ("normal", "LBBB", "RBBB", "LAFB", "AF")
P_RHYTHM = {
    "none": (0.9505, 0.0055, 0.0180, 0.0130, 0.0130),
    "DCM": (0.68, 0.16, 0.03, 0.05, 0.08),
    "HCM": (0.88, 0.02, 0.03, 0.03, 0.04),
    "MI": (0.885, 0.02, 0.035, 0.035, 0.025),
}


@dataclass(frozen=True)
class Latent:
    """Centres for men and women, residual SD, parents with coefficients, shifts by disease or rhythm."""

    male: float
    female: float
    sd: float
    parents: Mapping[str, float]
    shifts: Mapping[str, float]


def _latent(male: float, female: float, sd: float, shifts: dict[str, float] | None = None, **parents: float) -> Latent:
    return Latent(male, female, sd, parents, shifts or {})


# In the order in which they are drawn. Names beginning with ln are logarithms, with logit or lg logits.
LATENTS: dict[str, Latent] = {
    # body and person
    "A": _latent(0, 0, 1, {"AF": 0.65, "LBBB": 0.35, "RBBB": 0.35, "MI": 0.35}),
    "H": _latent(0, 0, 0.99, A=-0.12),
    "B": _latent(0, 0, 1, {"AF": 0.25, "MI": 0.2}),
    "P": _latent(0, 0, 0.93, {"AF": 0.1}, A=0.30, B=0.20),
    "F": _latent(0, 0, 0.94, A=-0.12, B=-0.28),
    "g": _latent(0, 0, 1),
    "h": _latent(0, 0, 1),
    "c": _latent(0, 0, 1),
    "d": _latent(0, 0, 0.80, {"HCM": 1.2, "DCM": 0.6, "AF": 0.4}, A=0.42, P=0.20, B=0.18, h=0.15),
    # heart
    "lnHR": _latent(log(60.5), log(63.0), 0.130, {"AF": 0.14, "DCM": 0.07}, F=-0.055, B=0.018, P=0.015),
    "lnEDV": _latent(
        log(156.0), log(121.5), 0.057, {"DCM": 0.42, "MI": 0.10, "LBBB": 0.08, "HCM": -0.04, "AF": 0.02},
        H=0.058, B=0.062, P=0.042, A=-0.036, F=0.048, lnHR=-0.30, g=0.122,
    ),
    "lnLVM": _latent(
        log(99.5), log(69.5), 0.065, {"DCM": 0.30, "HCM": 0.34, "LBBB": 0.08, "MI": 0.05, "AF": 0.03},
        H=0.042, B=0.084, P=0.062, A=-0.008, F=0.040, g=0.070, h=0.100,
    ),
    "lnQRSd": _latent(
        log(96.0), log(87.5), 0.073, {"LBBB": 0.46, "RBBB": 0.40, "LAFB": 0.05, "DCM": 0.04},
        H=0.018, A=0.008, lnLVM=0.10, lnEDV=0.07,
    ),
    "logitEF": _latent(
        0.345, 0.455, 0.105,
        {"DCM": -0.95, "MI": -0.32, "HCM": 0.22, "AF": -0.20, "RBBB": 0.15, "LBBB": -0.26},
        c=0.175, lnEDV=-0.16, lnHR=-0.16, lnQRSd=-0.42, P=0.025,
    ),
    "lnRVEDV": _latent(
        log(172.0), log(128.0), 0.056, {"AF": 0.08, "DCM": 0.22},
        H=0.060, B=0.068, P=0.020, A=-0.036, F=0.050, lnHR=-0.30, g=0.122, logitEF=0.14,
    ),
    "lnRho": _latent(0, 0, 0.05),
    "lnLA": _latent(log(72.0), log(64.0), 0.150, {"AF": 0.35, "DCM": 0.2}, B=0.055, P=0.035, A=0.045, d=0.09, g=0.06),
    "lgfA": _latent(-0.70, -0.70, 0.18, A=0.20, d=0.22, F=-0.05, lnHR=0.6),
    # electrical, visible on the trace
    "PR": _latent(168, 160, 17.5, A=4, B=2.5, lnHR=-25, lnLA=20, F=3),
    "Pdur": _latent(111, 106, 7.0, A=2.5, B=2.5, lnLA=22),
    "lnPamp": _latent(log(0.12), log(0.11), 0.25, lnHR=0.5),
    "PTF": _latent(0, 0, 0.9, lnLA=1.4),
    "lnMag": _latent(log(1.58), log(1.46), 0.185, {"LBBB": 0.10}, lnLVM=0.48, lnEDV=0.15, B=-0.078, A=-0.025, F=0.02),
    "axF": _latent(34, 40, 23.0, {"LAFB": -72, "LBBB": -30}, A=-6, B=-9, H=2, lnLVM=-25),
    "axH": _latent(-22, -18, 10.0, lnEDV=18, B=2.5),
    "ST": _latent(0.064, 0.022, 0.034, {"MI": -0.02}, A=-0.006, F=0.008, c=0.0035, P=-0.004),
    "lnTmag": _latent(
        log(0.415), log(0.325), 0.21, {"DCM": -0.3, "MI": -0.25, "HCM": -0.4, "LBBB": 0.2},
        A=-0.05, B=-0.055, F=0.055, h=-0.055, c=0.03, P=-0.04,
    ),
    "tAngF": _latent(4, 0, 18.0, {"MI": 25, "HCM": 60, "DCM": 45, "LBBB": 110}, P=3, h=4.5, c=-3, A=3, B=2),
    "tAngH": _latent(46, 36, 15.0, {"MI": 20, "HCM": 45, "DCM": 35, "LBBB": 70}, h=3.5, c=-2.5, A=3, P=2),
    "QTr": _latent(0, 8.0, 12.0, {"DCM": 18, "HCM": 15}, A=2, h=3, c=-2.5, F=2, lnQRSd=60),
    "TpTe": _latent(86, 82, 7.5, {"HCM": 12, "MI": 6}, d=4, A=1.5, h=2),
    "Tas": _latent(0, 0, 0.9, d=0.25),
    "lnRMSSD": _latent(3.15, 3.2, 0.42, A=-0.22, lnHR=-1.8, F=0.12),
    "qsep": _latent(0, 0, 1.0, {"LBBB": -2.5, "MI": -0.5}),
    "lat": _latent(0.0, -0.16, 0.11, B=-0.05),
    "gainP": _latent(0.04, -0.04, 0.10, B=-0.06, H=-0.015),
    # timing and shape, visible on the images only
    "lnHRm": _latent(log(60.5), log(63.0), 0.05, lnHR=1.0),
    "PEPr": _latent(0, 2.0, 6.0, {"RBBB": -30}, c=-7, lnQRSd=80),
    "ESr": _latent(0, 0, 9.0, {"RBBB": -20}, QTr=0.55, lnQRSd=60, c=-3),
    "IVRT": _latent(84, 84, 8.0, d=9, A=3, c=-3),
    "TE": _latent(190, 190, 15.0, d=16, A=4),
    "tA": _latent(0, 0, 8.0),
    "DYS": _latent(14, 12, 7.0, {"RBBB": -78, "MI": 14}, lnQRSd=200),
    "MAPSE": _latent(13.8, 12.8, 1.2, logitEF=6.0, H=0.4, d=-0.4),
    "lnSph": _latent(0, 0, 0.06, {"DCM": -0.10}),
}  # fmt: skip
NAMES = tuple(LATENTS)
INDEX = {name: i for i, name in enumerate(NAMES)}

_SD = np.array([x.sd for x in LATENTS.values()])
_COEFFICIENTS = np.zeros((len(NAMES), len(NAMES)))
for _name, _x in LATENTS.items():
    for _parent, _coefficient in _x.parents.items():
        _COEFFICIENTS[INDEX[_name], INDEX[_parent]] = _coefficient
# Deviations are TOTAL_EFFECT @ (shift + residual).
TOTAL_EFFECT = np.linalg.inv(np.eye(len(NAMES)) - _COEFFICIENTS)
COVARIANCE = TOTAL_EFFECT @ np.diag(_SD**2) @ TOTAL_EFFECT.T


def class_mean(sex: str, disease: str, rhythm: str) -> np.ndarray:
    """Mean of all latents in one class, float64 [latents]."""
    centre = np.array([x.male if sex == "M" else x.female for x in LATENTS.values()])
    shift = np.array([x.shifts.get(disease, 0.0) + x.shifts.get(rhythm, 0.0) for x in LATENTS.values()])
    return centre + TOTAL_EFFECT @ shift


@dataclass(frozen=True)
class Subject:
    """One visit of one person. sex: F | M; disease: none | DCM | HCM | MI; rhythm: normal | LBBB | RBBB | LAFB | AF.

    The latents are floats, or arrays of one shape for many people of one class; what follows from them is alike.
    """

    sex: str
    disease: str
    rhythm: str
    latents: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.latents[name]

    @property
    def age_years(self) -> Any:
        return 64 + 7.6 * self["A"]

    @property
    def height_cm(self) -> Any:
        return 176 + 7 * self["H"] if self.sex == "M" else 163 + 6.3 * self["H"]

    @property
    def bmi(self) -> Any:
        return 26.8 * np.exp(0.145 * self["B"]) if self.sex == "M" else 25.8 * np.exp(0.17 * self["B"])

    @property
    def weight_kg(self) -> Any:
        return self.bmi * (self.height_cm / 100) ** 2

    @property
    def bsa_m2(self) -> Any:
        """Body surface area after DuBois."""
        return 0.007184 * self.height_cm**0.725 * self.weight_kg**0.425

    @property
    def systolic_bp(self) -> Any:
        return 140 + 17 * self["P"] if self.sex == "M" else 134 + 18 * self["P"]


VISIT_CORRELATION, YEARS_BETWEEN_VISITS = 0.95, 2.5


def draw_subject(seed: int, index: int, visit: int = 2) -> Subject:
    """The person number `index` of a cohort, from a random stream of their own.

    At the repeat visit (3) the same person is 2.5 years older; residuals of age, height and class stay, the others
    correlate by 0.95.
    """
    rng = np.random.default_rng([seed, index, 0])
    sex = "M" if rng.random() < P_MALE else "F"
    disease = str(rng.choice(DISEASES, p=P_DISEASE[sex]))
    rhythm = str(rng.choice(RHYTHMS, p=P_RHYTHM[disease]))
    residual = rng.standard_normal(len(NAMES))
    if visit == 3:
        fresh = np.random.default_rng([seed, index, 1]).standard_normal(len(NAMES))
        later = VISIT_CORRELATION * residual + np.sqrt(1 - VISIT_CORRELATION**2) * fresh
        later[INDEX["H"]] = residual[INDEX["H"]]
        later[INDEX["A"]] = residual[INDEX["A"]] + YEARS_BETWEEN_VISITS / 7.6
        residual = later
    values = class_mean(sex, disease, rhythm) + TOTAL_EFFECT @ (_SD * residual)
    return Subject(sex, disease, rhythm, dict(zip(NAMES, values.tolist(), strict=True)))


def phenotypes(latents: Mapping[str, Any]) -> dict[str, Any]:
    """Phenotypes of latents (floats or arrays): volumes in ml, LVM in g, ejection fractions in %, LVCO in l/min."""
    edv, ef = np.exp(latents["lnEDV"]), expit(latents["logitEF"])
    sv, rvedv = edv * ef, np.exp(latents["lnRVEDV"])
    rvsv = np.minimum(sv * np.exp(latents["lnRho"]), 0.80 * rvedv)
    return {
        "LVEDV": edv, "LVESV": edv - sv, "LVSV": sv, "LVEF": 100 * ef,
        "LVCO": sv * np.exp(latents["lnHRm"]) / 1000, "LVM": np.exp(latents["lnLVM"]),
        "RVEDV": rvedv, "RVESV": rvedv - rvsv, "RVSV": rvsv, "RVEF": 100 * rvsv / rvedv,
    }  # fmt: skip


INDEXED = ("LVEDV", "LVESV", "LVSV", "LVM", "RVEDV", "RVESV", "RVSV")


def indexed(values: Mapping[str, Any], bsa_m2: Any) -> dict[str, Any]:
    """Volumes (ml/m2) and mass (g/m2) of `values` per body surface, named with a trailing i."""
    return {f"{name}i": values[name] / bsa_m2 for name in INDEXED}


def qt_regression_ms(rate_bpm: Any, sex: str) -> Any:
    """QT interval expected at a heart rate (Boudoulas 1981), in ms."""
    return 521 - 2.0 * rate_bpm if sex == "M" else 511 - 1.8 * rate_bpm
