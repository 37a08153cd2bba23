"""The device's words to codes: what it denies or has replaced is no finding."""

import pytest

from ptacl.ecg.statements import codes_of


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Sinus rhythm has replaced Atrial fibrillation", {"sinus_rhythm"}),
        ("Atrial fibrillation has replaced Sinus rhythm", {"atrial_fibrillation"}),
        ("Sinus rhythm has been replaced by atrial flutter", {"atrial_flutter"}),
        ("Cannot rule out Anterior infarct, age undetermined", set()),
        ("Nonspecific T wave abnormality no longer evident in Lateral leads", set()),
        ("No pacemaker spikes", set()),
        ("*** No atrial fibrillation", set()),
        ("No longer paced\nSinus rhythm", {"sinus_rhythm"}),
        ("Left bundle\n branch block", {"lbbb"}),
        ("Incomplete left bundle branch block", set()),
        ("Atrial-sensed ventricular-paced complexes", {"pacemaker"}),
        ("AV dual-paced complexes", {"pacemaker"}),
        ("Ventricular-paced rhythm", {"pacemaker"}),
        ("Minimal voltage criteria for LVH, may be normal variant", {"lvh"}),
        ("Left ventricular hypertrophy with repolarization abnormality", {"lvh"}),
        ("elvhat", set()),
        ("Anteroseptal infarction", {"infarct"}),
        ("Abnormal ECG", {"abnormal"}),
        ("Otherwise normal ECG", set()),
        ("Normal ECG", {"normal"}),
        (None, set()),
    ],
)
def test_a_statement_says_what_holds(text: str | None, codes: set[str]) -> None:
    assert codes_of([text]) == codes
