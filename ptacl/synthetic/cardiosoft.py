"""A CardioSoft XML as the device would write it, and its measurements."""

import numpy as np

from ptacl.synthetic.latents import Subject
from ptacl.synthetic.trace import LEADS, MS_PER_SAMPLE, SAMPLES, Trace, qt_ms

BEAT_SAMPLES, BEAT_R_SAMPLE = 600, 240
# The shipped sample's beat times lie this long after the R peak.
BEAT_TIME_LAG_MS = 16
_STATEMENTS = {
    "normal": "Normal sinus rhythm", "LBBB": "Left bundle branch block", "RBBB": "Right bundle branch block",
    "LAFB": "Left anterior fascicular block", "AF": "Atrial fibrillation",
}  # fmt: skip
_UNITS = {"VentricularRate": "BPM", "PAxis": "deg", "RAxis": "deg", "TAxis": "deg", "QRSNum": None}


def median_beat(trace: Trace) -> np.ndarray:
    """The device's averaged beat, int [12, 600], R peak at sample 240, level before the P wave at zero."""
    starts = np.round(trace.r_ms / MS_PER_SAMPLE).astype(int) - BEAT_R_SAMPLE
    whole = [s for s in starts if s >= 0 and s + BEAT_SAMPLES <= SAMPLES] or [
        int(np.clip(starts[len(starts) // 2], 0, SAMPLES - BEAT_SAMPLES))
    ]
    beat = np.median(np.stack([trace.counts[:, s : s + BEAT_SAMPLES] for s in whole]).astype(np.float32), axis=0)
    return np.round(beat - np.median(beat[:, 60:110], axis=1, keepdims=True)).astype(int)


def measurements(subject: Subject, trace: Trace, rng: np.random.Generator) -> dict[str, int]:
    """The device's measurements with its errors; those of the P wave are absent in atrial fibrillation."""
    af = subject.rhythm == "AF"
    qrs = np.exp(subject["lnQRSd"]) * np.exp(0.05 * rng.standard_normal())
    qt = qt_ms(subject) + 6 * rng.standard_normal()
    pr, p = subject["PR"] + 7 * rng.standard_normal(), subject["Pdur"] + 6 * rng.standard_normal()
    axes = [subject["axF"] + 10, subject["axF"], 38 + subject["tAngF"]] + rng.normal(0, 6, 3)
    q_on = BEAT_R_SAMPLE * MS_PER_SAMPLE - trace.r_after_onset_ms
    found = {
        "VentricularRate": 60000 / trace.rr_ms, "PQInterval": pr, "PDuration": p, "QRSDuration": qrs,
        "QTInterval": qt, "QTCInterval": qt / np.sqrt(trace.rr_ms / 1000), "RRInterval": trace.rr_ms,
        "PPInterval": trace.rr_ms, "PAxis": axes[0], "RAxis": axes[1], "TAxis": axes[2], "QRSNum": len(trace.r_ms),
        "POnset": q_on - pr, "POffset": q_on - pr + p, "QOnset": q_on, "QOffset": q_on + qrs, "TOffset": q_on + qt,
    }  # fmt: skip
    hidden = {"PQInterval", "PDuration", "PPInterval", "PAxis", "POnset", "POffset"} if af else set()
    return {k: int(round(v)) for k, v in found.items() if k not in hidden}


def write_xml(
    eid: str, subject: Subject, trace: Trace, rng: np.random.Generator, faults: frozenset[str] = frozenset()
) -> bytes:
    """The XML's bytes. Faults: missing_lead, flat_lead, trailing_comma, exercise_type, pacemaker_text, truncated_xml."""
    counts = trace.counts.copy()
    if "flat_lead" in faults:
        counts[8] = 0
    leads = [i for i in range(12) if not ("missing_lead" in faults and i in (4, 10))]
    kind = "ExerciseECG" if "exercise_type" in faults else "RestECG"
    statements = [
        _STATEMENTS[subject.rhythm],
        *(["Electronic ventricular pacemaker"] if "pacemaker_text" in faults else []),
    ]
    found = measurements(subject, trace, rng)
    beats = "".join(
        f'<ArrhythmiaResults><Time units="ms">{round(t + BEAT_TIME_LAG_MS)}</Time><BeatClass>dominant</BeatClass>'
        "</ArrhythmiaResults>"
        for t in trace.r_ms
    )
    text = "\n".join(
        [
            '<?xml version="1.0" encoding="ISO-8859-1"?>',
            "<CardiologyXML>",
            f"<ObservationType>{kind}</ObservationType>",
            "<ObservationDateTime><Hour>10</Hour><Minute>12</Minute><Second>31</Second><Day>7</Day><Month>3</Month>"
            "<Year>2019</Year></ObservationDateTime>",
            "<ClinicalInfo><DeviceInfo><Desc>SYNTHETIC</Desc><SoftwareVer>synthetic-cohort</SoftwareVer></DeviceInfo></ClinicalInfo>",
            f"<PatientInfo><PID>{eid}</PID><Name><FamilyName>{eid}</FamilyName><GivenName>SYNTHETIC</GivenName></Name>"
            f'<Age units="years">{subject.age_years:.0f}</Age>'
            f"<Gender>{'MALE' if subject.sex == 'M' else 'FEMALE'}</Gender><Race>UNKNOWN</Race>"
            f"<PaceMaker>{'yes' if 'pacemaker_text' in faults else 'no'}</PaceMaker></PatientInfo>",
            "<FilterSetting><CubicSpline>No</CubicSpline><Filter50Hz>Yes</Filter50Hz><Filter60Hz>No</Filter60Hz>"
            '<LowPass units="Hz">100</LowPass><HighPass units="Hz">0.01</HighPass></FilterSetting>',
            "<Interpretation><Diagnosis>"
            + "".join(f"<DiagnosisText>{s}</DiagnosisText>" for s in statements)
            + "<DiagnosisText>---</DiagnosisText></Diagnosis></Interpretation>",
            "<RestingECGMeasurements>",
            *(_element(k, v) for k, v in found.items()),
            "<MedianSamples>",
            _waveforms(median_beat(trace), range(12), ""),
            "</MedianSamples>",
            "</RestingECGMeasurements>",
            f"<StripData>{beats}",
            _waveforms(counts, leads, "," if "trailing_comma" in faults else ""),
            "</StripData>",
            "<FullDisclosure/>",
            "</CardiologyXML>",
        ]
    )
    data = text.encode("latin-1")
    return data[: int(len(data) * 0.7)] if "truncated_xml" in faults else data


def _element(name: str, value: int) -> str:
    unit = _UNITS.get(name, "ms")
    return f'<{name} units="{unit}">{value}</{name}>' if unit else f"<{name}>{value}</{name}>"


def _waveforms(counts: np.ndarray, leads, ending: str) -> str:  # noqa: ANN001
    lines = [
        f"<NumberOfLeads>{len(list(leads))}</NumberOfLeads>",
        '<SampleRate units="Hz">500</SampleRate>',
        f"<ChannelSampleCountTotal>{counts.shape[1]}</ChannelSampleCountTotal>",
        '<Resolution units="uVperLsb">5</Resolution>',
    ]
    for i in leads:
        numbers = counts[i].tolist()
        rows = [",".join(map(str, numbers[k : k + 200])) for k in range(0, len(numbers), 200)]
        lines.append(f'<WaveformData lead="{LEADS[i]}">\n\t\t' + ",\n\t\t".join(rows) + ending + "\n\t</WaveformData>")
    return "\n".join(lines)
