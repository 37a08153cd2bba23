"""The device's free text to a fixed vocabulary: codes may be exported, text may not (it can hold names and dates)."""

import re
from collections.abc import Iterable

# Code, and phrases (regular expressions) of which one has to occur at the beginning of a word. GE's 12SL and the usual
# abbreviations; case and spacing do not matter.
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
    "lvh": ("left ventricular hypertrophy", r"lvh\b"),
    "low_voltage": ("low voltage",),
    "prolonged_qt": ("prolonged qt",),
    "infarct": ("infarct",),
    "t_wave_abnormality": ("t wave abnormality",),
    "st_abnormality": ("st abnormality", "st & t wave abnormality"),
    "pacemaker": ("pacemaker", "paced rhythm", "-paced"),
    "poor_quality": ("poor data quality", "poor quality data"),
}
_PATTERNS = {code: re.compile(rf"\b(?:{'|'.join(phrases)})") for code, phrases in _PHRASES.items()}
_PREFIXED = {
    "normal": ("otherwise normal ecg",),
    "rbbb": ("incomplete right",),
    "lbbb": ("incomplete left",),
}
# Statements that change how a recording is treated, and so are flags as well.
FLAGS = frozenset({"atrial_fibrillation", "pacemaker", "poor_quality"})


# Serial comparisons: what stands before `has replaced`, or after `replaced by`, holds of this recording.
_REPLACED, _REPLACED_BY = re.compile(r"\b(?:has|have)(?: now)? replaced\b"), re.compile(r"\breplaced by\b")
_DENIED = re.compile(r"^\W*no |\bno longer\b|\bcannot rule out\b")


def codes_of(texts: Iterable[str | None]) -> set[str]:
    """Codes of the statements found in the device's texts; what is not in the vocabulary is left behind.

    A line that denies (`no longer`, `cannot rule out`, a leading `no`) says nothing; of `X has replaced Y`, X counts.
    """
    found: set[str] = set()
    for text in texts:
        line = " ".join(_what_holds(x) for x in (text or "").lower().splitlines())
        line = " ".join(line.split())
        for code, pattern in _PATTERNS.items():
            plain = line
            for other in _PREFIXED.get(code, ()):
                plain = plain.replace(other, "")
            if pattern.search(plain):
                found.add(code)
    return found


def _what_holds(line: str) -> str:
    line = " ".join(line.split())
    if _DENIED.search(line):
        return ""
    return _REPLACED_BY.split(_REPLACED.split(line)[0])[-1]
