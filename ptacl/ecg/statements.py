"""The device's free text to a fixed vocabulary: codes may be exported, text may not (it can hold names and dates)."""

from collections.abc import Iterable

# Code, and phrases of which one has to occur. GE's 12SL and the usual abbreviations; case and spacing do not matter.
_PHRASES: dict[str, tuple[str, ...]] = {
    "normal": ("normal ecg", "ecg normale"),
    "borderline": ("borderline ecg",),
    "abnormal": ("abnormal ecg",),
    "sinus_rhythm": ("sinus rhythm", "ritmo sinusale"),
    "sinus_bradycardia": ("sinus bradycardia",),
    "sinus_tachycardia": ("sinus tachycardia",),
    "atrial_fibrillation": ("atrial fibrillation",),
    "atrial_flutter": ("atrial flutter",),
    "premature_atrial": ("premature atrial", "premature supraventricular"),
    "premature_ventricular": ("premature ventricular",),
    "first_degree_av_block": ("1st degree a-v block", "1st degree av block", "first degree av block"),
    "lbbb": ("left bundle branch block",),
    "rbbb": ("right bundle branch block",),
    "left_anterior_fascicular_block": ("left anterior fascicular block",),
    "lvh": ("left ventricular hypertrophy",),
    "low_voltage": ("low voltage",),
    "prolonged_qt": ("prolonged qt",),
    "infarct": ("infarct",),
    "t_wave_abnormality": ("t wave abnormality",),
    "st_abnormality": ("st abnormality", "st & t wave abnormality"),
    "pacemaker": ("pacemaker", "paced rhythm"),
    "poor_quality": ("poor data quality", "poor quality data"),
}
_PREFIXED = {
    "normal": ("abnormal ecg", "otherwise normal ecg"),
    "rbbb": ("incomplete right",),
    "lbbb": ("incomplete left",),
}
# Statements that change how a recording is treated, and so are flags as well.
FLAGS = frozenset({"atrial_fibrillation", "pacemaker", "poor_quality"})


def codes_of(texts: Iterable[str | None]) -> set[str]:
    """Codes of the statements found in the device's texts; what is not in the vocabulary is left behind."""
    found: set[str] = set()
    for text in texts:
        line = " ".join((text or "").lower().split())
        for code, phrases in _PHRASES.items():
            plain = line
            for other in _PREFIXED.get(code, ()):
                plain = plain.replace(other, "")
            if any(phrase in plain for phrase in phrases):
                found.add(code)
    return found
