"""Phenotypes and covariates: names, labels, units, UK Biobank fields, and the ranges in which values are believed."""

from dataclasses import dataclass

Range = tuple[float, float]
_ANY: Range = (float("-inf"), float("inf"))


@dataclass(frozen=True)
class Quantity:
    """One column of the cohort table.

    `fields` lists UK Biobank fields in order of preference; the mean over a field's arrays is taken.
    `any_visit` allows a value from another visit (sex and height hold; age, weight and blood pressure do not).
    `possible` is the range outside which a reading is an error: it is left out and counted.
    `plausible` is the narrower range outside which a value is kept, and flagged as `{name}_implausible`.
    """

    label: str
    unit: str
    fields: tuple[int, ...] = ()
    any_visit: bool = False
    possible: Range = _ANY
    plausible: Range = _ANY


def _volume(label: str, field: int, possible: Range, plausible: Range) -> Quantity:
    return Quantity(label, "ml", (field,), possible=possible, plausible=plausible)


def _fraction(label: str, field: int, plausible: Range = (10, 90)) -> Quantity:
    return Quantity(label, "%", (field,), possible=(3, 95), plausible=plausible)


def _regional(
    name: str, label: str, unit: str, first: int, count: int, possible: Range, plausible: Range
) -> dict[str, Quantity]:
    """`{name}1` to `{name}{count}`, from consecutive fields."""
    return {
        f"{name}{i + 1}": Quantity(f"{label} {i + 1}", unit, (first + i,), possible=possible, plausible=plausible)
        for i in range(count)
    }


def _distensibility(label: str, field: int) -> Quantity:
    return Quantity(label, "10⁻³/mmHg", (field,), possible=(0, 50), plausible=(0.05, 15))


# (possible, plausible), ml
_END_DIASTOLIC, _END_SYSTOLIC, _STROKE = ((20, 700), (40, 500)), ((5, 600), (10, 400)), ((5, 300), (15, 250))
_ATRIUM_MAX, _ATRIUM_MIN, _ATRIUM_STROKE = ((5, 500), (15, 300)), ((1, 450), (3, 250)), ((1, 250), (5, 150))

_THICKNESS, _SHORTENING, _THICKENING = ((1, 40), (2, 25)), ((-80, 40), (-50, 10)), ((-80, 300), (-20, 200))

PHENOTYPES: dict[str, Quantity] = {
    "LVEDV": _volume("LV end-diastolic volume", 24100, *_END_DIASTOLIC),
    "LVESV": _volume("LV end-systolic volume", 24101, *_END_SYSTOLIC),
    "LVSV": _volume("LV stroke volume", 24102, *_STROKE),
    "LVEF": _fraction("LV ejection fraction", 24103),
    "LVCO": Quantity("LV cardiac output", "l/min", (24104,), possible=(0.5, 20), plausible=(1.5, 15)),
    "LVM": Quantity("LV myocardial mass", "g", (24105,), possible=(15, 500), plausible=(20, 350)),
    "RVEDV": _volume("RV end-diastolic volume", 24106, *_END_DIASTOLIC),
    "RVESV": _volume("RV end-systolic volume", 24107, *_END_SYSTOLIC),
    "RVSV": _volume("RV stroke volume", 24108, *_STROKE),
    "RVEF": _fraction("RV ejection fraction", 24109),
    "LAVmax": _volume("LA maximum volume", 24110, *_ATRIUM_MAX),
    "LAVmin": _volume("LA minimum volume", 24111, *_ATRIUM_MIN),
    "LASV": _volume("LA stroke volume", 24112, *_ATRIUM_STROKE),
    "LAEF": _fraction("LA ejection fraction", 24113, (5, 90)),
    "RAVmax": _volume("RA maximum volume", 24114, *_ATRIUM_MAX),
    "RAVmin": _volume("RA minimum volume", 24115, *_ATRIUM_MIN),
    "RASV": _volume("RA stroke volume", 24116, *_ATRIUM_STROKE),
    "RAEF": _fraction("RA ejection fraction", 24117, (5, 90)),
    "AAo_max_area": Quantity("Ascending aorta, maximum area", "mm²", (24118,), possible=(50, 5000), plausible=(250, 2500)),
    "AAo_min_area": Quantity("Ascending aorta, minimum area", "mm²", (24119,), possible=(50, 5000), plausible=(200, 2400)),
    "AAo_distensibility": _distensibility("Ascending aorta, distensibility", 24120),
    "DAo_max_area": Quantity("Descending aorta, maximum area", "mm²", (24121,), possible=(50, 5000), plausible=(150, 1800)),
    "DAo_min_area": Quantity("Descending aorta, minimum area", "mm²", (24122,), possible=(50, 5000), plausible=(120, 1700)),
    "DAo_distensibility": _distensibility("Descending aorta, distensibility", 24123),
    "LV_wall_thickness": Quantity("LV mean wall thickness", "mm", (24140,), possible=(1, 40), plausible=(3, 20)),
    "Ecc": Quantity("LV circumferential strain", "%", (24157,), possible=(-60, 20), plausible=(-40, -3)),
    "Err": Quantity("LV radial strain", "%", (24174,), possible=(-50, 250), plausible=(5, 120)),
    "Ell": Quantity("LV longitudinal strain", "%", (24181,), possible=(-60, 20), plausible=(-35, -3)),
    **_regional("LV_wall_thickness_AHA", "LV mean wall thickness, AHA segment", "mm", 24124, 16, *_THICKNESS),
    **_regional("Ecc_AHA", "LV circumferential strain, AHA segment", "%", 24141, 16, *_SHORTENING),
    **_regional("Err_AHA", "LV radial strain, AHA segment", "%", 24158, 16, *_THICKENING),
    **_regional("Ell_segment", "LV longitudinal strain, segment", "%", 24175, 6, *_SHORTENING),
    # The scanner's own automatic contours: kept apart, since they differ systematically from category 157.
    "LVEDV_inline": _volume("LV end-diastolic volume (scanner)", 22421, *_END_DIASTOLIC),
    "LVESV_inline": _volume("LV end-systolic volume (scanner)", 22422, *_END_SYSTOLIC),
    "LVSV_inline": _volume("LV stroke volume (scanner)", 22423, *_STROKE),
    "LVEF_inline": _fraction("LV ejection fraction (scanner)", 22420),
    "LVCO_inline": Quantity("LV cardiac output (scanner)", "l/min", (22424,), possible=(0.5, 20), plausible=(1.5, 15)),
    "cardiac_index_inline": Quantity(
        "Cardiac index (scanner)", "l/min/m²", (22425,), possible=(0.3, 12), plausible=(1, 8)
    ),
    "heart_rate_inline": Quantity("Heart rate at the MRI (scanner)", "bpm", (22426,), possible=(15, 250), plausible=(30, 150)),
    "bsa_inline": Quantity("Body surface area (scanner)", "m²", (22427,), possible=(0.5, 4), plausible=(1.1, 3)),
    "es_ms": Quantity("End-systole after the R wave", "ms"),
    "atrial_fraction": Quantity("Atrial share of filling", ""),
    "septal_lateral_ms": Quantity("Septal-lateral delay", "ms"),
    "atrial_kick_phase": Quantity("Phase of the atrial kick", ""),
    "mitral_opening_ms": Quantity("Mitral opening after the R wave", "ms"),
    "peak_filling_rate": Quantity("Peak filling rate", "EDV/s"),
}  # fmt: skip

COVARIATES: dict[str, Quantity] = {
    "age": Quantity("Age", "years", (21003,), possible=(0, 120)),
    "sex": Quantity("Sex (0 female, 1 male)", "", (31,), any_visit=True, possible=(0, 1)),
    "height_cm": Quantity("Height", "cm", (12144, 50), any_visit=True, possible=(100, 230), plausible=(130, 215)),
    "weight_kg": Quantity("Weight", "kg", (21002,), possible=(25, 300), plausible=(35, 200)),
    "bmi": Quantity("Body mass index", "kg/m²", (21001,), possible=(10, 90), plausible=(14, 60)),
    "bsa": Quantity("Body surface area (DuBois)", "m²", possible=(0.5, 4), plausible=(1.1, 3)),
    "systolic_bp": Quantity("Systolic blood pressure", "mmHg", (4080,), possible=(50, 300), plausible=(75, 240)),
    "diastolic_bp": Quantity("Diastolic blood pressure", "mmHg", (4079,), possible=(20, 200), plausible=(40, 140)),
}

# Codes rather than amounts.
CATEGORIES: dict[str, Quantity] = {
    "smoking": Quantity("Smoking (0 never, 1 previous, 2 current)", "", (20116,), possible=(0, 2)),
    "diabetes": Quantity("Diabetes diagnosed by a doctor (0 no, 1 yes)", "", (2443,), possible=(0, 1)),
    "centre": Quantity("Assessment centre", "", (54,)),
    "ethnicity": Quantity(
        "Ethnic background (1 White, 2 Mixed, 3 Asian, 4 Black, 5 Chinese, 6 other)", "", (21000,), any_visit=True,
        possible=(1, 6),
    ),
}  # fmt: skip

QUANTITIES: dict[str, Quantity] = {**COVARIATES, **CATEGORIES, **PHENOTYPES}

ICD10_CODES, ICD10_DATES = 41270, 41280

# Codes for "do not know" and "prefer not to answer", where a field's coding has them. Never for all fields: -2 is a
# strain like any other.
SPECIAL_CODES: dict[int, tuple[float, ...]] = {20116: (-3,), 2443: (-1, -3), 21000: (-1, -3)}

# Words that stand for no answer, where codes are exported as words.
NO_ANSWER = ("prefer not to answer", "do not know", "none of the above", "na", "nan")

# Of these a title can't tell whether they are category 157's or the scanner's own.
SCANNER_TITLES = frozenset({"LVEDV", "LVESV", "LVSV", "LVEF", "LVCO"})

# Fields whose coding has two levels: 1001 (British) belongs to 1 (White), 3002 to 3.
TWO_LEVELS = (21000,)

# The Research Analysis Platform exports words in place of codes unless told otherwise.
WORDS: dict[int, dict[str, int]] = {
    31: {"female": 0, "male": 1},
    54: {
        "cheadle (imaging)": 11025, "reading (imaging)": 11026, "newcastle (imaging)": 11027, "bristol (imaging)": 11028,
    },
    20116: {"never": 0, "previous": 1, "current": 2},
    2443: {"no": 0, "yes": 1},
    21000: {
        "white": 1, "british": 1, "irish": 1, "any other white background": 1, "mixed": 2, "white and black caribbean": 2,
        "white and black african": 2, "white and asian": 2, "any other mixed background": 2, "asian or asian british": 3,
        "indian": 3, "pakistani": 3, "bangladeshi": 3, "any other asian background": 3, "black or black british": 4,
        "caribbean": 4, "african": 4, "any other black background": 4, "chinese": 5, "other ethnic group": 6,
    },
}  # fmt: skip

# Titles as the Showcase spells them. The scanner's own fields (category 133) carry the same titles as category 157
# and can't be told from them by title: a title means category 157 (SCANNER_TITLES; the cohort's log says so).
TITLES: dict[str, int] = {
    "LV end diastolic volume": 24100, "LV end systolic volume": 24101, "LV stroke volume": 24102,
    "LV ejection fraction": 24103, "LV cardiac output": 24104, "LV myocardial mass": 24105,
    "RV end diastolic volume": 24106, "RV end systolic volume": 24107, "RV stroke volume": 24108,
    "RV ejection fraction": 24109, "LA maximum volume": 24110, "LA minimum volume": 24111, "LA stroke volume": 24112,
    "LA ejection fraction": 24113, "RA maximum volume": 24114, "RA minimum volume": 24115, "RA stroke volume": 24116,
    "RA ejection fraction": 24117, "Ascending aorta maximum area": 24118, "Ascending aorta minimum area": 24119,
    "Ascending aorta distensibility": 24120, "Descending aorta maximum area": 24121,
    "Descending aorta minimum area": 24122, "Descending aorta distensibility": 24123,
    "LV mean myocardial wall thickness global": 24140, "LV circumferential strain global": 24157,
    "LV radial strain global": 24174, "LV longitudinal strain global": 24181,
    "Sex": 31, "Age when attended assessment centre": 21003, "Height": 12144, "Standing height": 50, "Weight": 21002,
    "Body mass index (BMI)": 21001, "Systolic blood pressure, automated reading": 4080,
    "Diastolic blood pressure, automated reading": 4079, "Smoking status": 20116,
    "Diabetes diagnosed by doctor": 2443, "Ethnic background": 21000, "Diagnoses - ICD10": ICD10_CODES,
    "Date of first in-patient diagnosis - ICD10": ICD10_DATES, "UK Biobank assessment centre": 54,
    "Cardiac index": 22425, "Average heart rate": 22426, "Body surface area": 22427,
    **{f"LV mean myocardial wall thickness AHA {i + 1}": 24124 + i for i in range(16)},
    **{f"LV circumferential strain AHA {i + 1}": 24141 + i for i in range(16)},
    **{f"LV radial strain AHA {i + 1}": 24158 + i for i in range(16)},
    **{f"LV longitudinal strain Segment {i + 1}": 24175 + i for i in range(6)},
}  # fmt: skip
