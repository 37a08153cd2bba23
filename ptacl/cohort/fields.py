"""Phenotypes and covariates: names, labels, units, UK Biobank fields and plausible ranges."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quantity:
    """One column of the cohort table.

    `fields` lists UK Biobank fields in order of preference; the mean over a field's arrays is taken.
    `any_visit` allows a value from another visit (sex and height hold; age, weight and blood pressure do not).
    `plausible` is the range outside which a value is taken for an error and left out.
    """

    label: str
    unit: str
    fields: tuple[int, ...] = ()
    any_visit: bool = False
    plausible: tuple[float, float] = (float("-inf"), float("inf"))


PHENOTYPES: dict[str, Quantity] = {
    "LVEDV": Quantity("LV end-diastolic volume", "ml", (24100,), plausible=(20, 700)),
    "LVESV": Quantity("LV end-systolic volume", "ml", (24101,), plausible=(5, 600)),
    "LVSV": Quantity("LV stroke volume", "ml", (24102,), plausible=(5, 300)),
    "LVEF": Quantity("LV ejection fraction", "%", (24103,), plausible=(3, 95)),
    "LVCO": Quantity("LV cardiac output", "l/min", (24104,), plausible=(0.5, 20)),
    "LVM": Quantity("LV myocardial mass", "g", (24105,), plausible=(15, 500)),
    "RVEDV": Quantity("RV end-diastolic volume", "ml", (24106,), plausible=(20, 700)),
    "RVESV": Quantity("RV end-systolic volume", "ml", (24107,), plausible=(5, 600)),
    "RVSV": Quantity("RV stroke volume", "ml", (24108,), plausible=(5, 300)),
    "RVEF": Quantity("RV ejection fraction", "%", (24109,), plausible=(3, 95)),
    "es_ms": Quantity("End-systole after the R wave", "ms"),
    "atrial_fraction": Quantity("Atrial share of filling", ""),
    "septal_lateral_ms": Quantity("Septal-lateral delay", "ms"),
    "atrial_kick_phase": Quantity("Phase of the atrial kick", ""),
    "mitral_opening_ms": Quantity("Mitral opening after the R wave", "ms"),
    "peak_filling_rate": Quantity("Peak filling rate", "EDV/s"),
}

COVARIATES: dict[str, Quantity] = {
    "age": Quantity("Age", "years", (21003,), plausible=(0, 120)),
    "sex": Quantity("Sex (0 female, 1 male)", "", (31,), any_visit=True, plausible=(0, 1)),
    "height_cm": Quantity("Height", "cm", (12144, 50), any_visit=True, plausible=(100, 230)),
    "weight_kg": Quantity("Weight", "kg", (21002,), plausible=(25, 300)),
    "bmi": Quantity("Body mass index", "kg/m²", (21001,), plausible=(10, 90)),
    "systolic_bp": Quantity("Systolic blood pressure", "mmHg", (4080,), plausible=(50, 300)),
    "diastolic_bp": Quantity("Diastolic blood pressure", "mmHg", (4079,), plausible=(20, 200)),
}

QUANTITIES: dict[str, Quantity] = {**COVARIATES, **PHENOTYPES}
