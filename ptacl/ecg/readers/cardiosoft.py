"""GE CardioSoft resting ECG XML, UK Biobank field 20205.

Only what the study needs is taken: the ten-second strip, the median beat, the device's measurements and a few yes/no
statements. Names, dates and free text stay in the file.
"""

import numpy as np
from lxml import etree

from ptacl.ecg.readers.xml import measured, number, text_of
from ptacl.ecg.record import EcgRecord, assemble, standard_lead, whole_beat
from ptacl.ecg.statements import FLAGS, codes_of
from ptacl.errors import UnreadableEcg

MIN_COUNT, MAX_COUNT = -32768, 32767

_MEASUREMENTS = {
    "ventricular_rate_bpm": "VentricularRate", "p_duration_ms": "PDuration", "pq_ms": "PQInterval",
    "qrs_ms": "QRSDuration", "qt_ms": "QTInterval", "qtc_ms": "QTCInterval", "rr_ms": "RRInterval",
    "pp_ms": "PPInterval", "p_axis_deg": "PAxis", "r_axis_deg": "RAxis", "t_axis_deg": "TAxis", "n_qrs": "QRSNum",
    "q_onset_ms": "QOnset", "q_offset_ms": "QOffset", "t_offset_ms": "TOffset",
}  # fmt: skip


def read_cardiosoft(root: etree._Element) -> EcgRecord:
    """Reads the parsed `CardiologyXML` of a resting ECG. Raises UnreadableEcg."""
    kind = (root.findtext("ObservationType") or "").strip()
    exercise_blocks = any(root.find(name) is not None for name in ("Protocol", "ExerciseMeasurements", "TrendData"))
    if kind not in ("RestECG", "") or exercise_blocks:
        raise UnreadableEcg("exercise_ecg", "ObservationType is not RestECG, or it holds blocks of an exercise test")
    strip = root.find("StripData")
    if strip is None or strip.find(".//WaveformData") is None:
        raise UnreadableEcg("no_strip", "no StripData with WaveformData")

    flags: set[str] = set()
    leads, rate_hz = _waveforms(strip, flags)
    signal, present = assemble(leads)
    median_rate, median = 500.0, None
    block = root.find("RestingECGMeasurements/MedianSamples")
    if block is not None and block.find(".//WaveformData") is not None:
        try:
            beats, median_rate = _waveforms(block, set())
            median = _valid(block, whole_beat(beats, median_rate))
        except UnreadableEcg:
            flags.add("no_median_beat")
    statements = _statements(root)
    return EcgRecord(
        format="cardiosoft-xml",
        rate_hz=rate_hz,
        signal=signal,
        present=present,
        measurements=measured(
            {k: number(root.findtext(f"RestingECGMeasurements/{e}")) for k, e in _MEASUREMENTS.items()}
        ),
        beat_times_ms=_beat_times(strip),
        median_beat=median,
        median_rate_hz=median_rate,
        flags=flags | _flags(root, statements),
        statements=statements,
        mains_filter_hz=_mains_filters(root),
    )


def _waveforms(block: etree._Element, flags: set[str]) -> tuple[dict[str, np.ndarray], float]:
    """Leads in mV by standard name, and the rate, of a StripData or MedianSamples block."""
    rate_hz = number(text_of(block, "SampleRate"))
    if not 50 <= rate_hz <= 10000:
        raise UnreadableEcg("bad_header", "no plausible SampleRate")
    scale = _millivolt_per_count(block)
    leads: dict[str, np.ndarray] = {}
    for element in block.iter("WaveformData"):
        name = standard_lead(element.get("lead") or element.get("Lead") or "")
        if name is not None:
            if len(element):  # a comment or an entity, after which `text` would silently end
                raise UnreadableEcg("bad_number", "markup among the samples")
            values = (parse_counts(element.text or "", flags) * scale).astype(np.float32)
            if name in leads and not np.array_equal(leads[name], values, equal_nan=True):
                raise UnreadableEcg("duplicate_lead", "a lead is there twice, with other samples")
            leads[name] = values
    declared = number(text_of(block, "ChannelSampleCountTotal"))
    lengths = {len(v) for v in leads.values()}
    if len(lengths) > 1 or (lengths and np.isfinite(declared) and lengths != {int(declared)}):
        flags.add("length_mismatch")
    return leads, rate_hz


def _valid(block: etree._Element, beat: np.ndarray) -> np.ndarray:
    """A median beat [12, m] whose first and last valid samples stand for those beyond, which are no part of it."""
    first, last = number(text_of(block, "FirstValid")), number(text_of(block, "LastValid"))
    end = beat.shape[1] - 1
    low, high = first if first > 0 else 0, last if last < end else end
    if not 0 <= low < high:
        raise UnreadableEcg("no_median_beat", "no sample of the median beat is valid")
    return beat[:, np.clip(np.arange(end + 1), int(low), int(high))]


def _millivolt_per_count(block: etree._Element) -> float:
    element = block.find(".//Resolution")
    resolution = number(element.text if element is not None else None)
    units = (element.get("units") or "uVperLsb" if element is not None else "").lower()
    if not 0 < resolution < 1e6 or units not in ("uvperlsb", "mvperlsb"):
        raise UnreadableEcg("bad_header", "no Resolution in uVperLsb or mVperLsb")
    return resolution / 1000 if units == "uvperlsb" else resolution


def parse_counts(text: str, flags: set[str]) -> np.ndarray:
    """Comma-separated numbers with any white space around them, to float64 [n].

    White space within a number is refused: dropping it would join two numbers that lost their comma. A trailing comma
    is dropped and flagged `trailing_comma`; a blank token becomes NaN and is flagged `gaps`.
    Raises UnreadableEcg(`bad_number`) for anything else that is not a finite number of at most 16 bits.
    """
    line = " ".join(text.split())
    if line.endswith(","):
        line = line[:-1].rstrip()
        flags.add("trailing_comma")
    if not line:
        return np.zeros(0)
    try:
        # loadtxt is as quick as fromstring and refuses what that takes for 0: a blank token, a lone minus sign.
        values = np.loadtxt([line], dtype=np.int32, delimiter=",", comments=None, ndmin=1).astype(np.float64)
    except (ValueError, OverflowError):
        values = _counts_one_by_one(line, flags)
    if np.nanmin(values, initial=0) < MIN_COUNT or np.nanmax(values, initial=0) > MAX_COUNT:
        raise UnreadableEcg("bad_number", "a sample that the device's 16 bits can't hold")
    return values


def _counts_one_by_one(line: str, flags: set[str]) -> np.ndarray:
    values = np.empty(line.count(",") + 1)
    for i, token in enumerate(line.split(",")):
        if token.strip():
            values[i] = number(token)
            if not np.isfinite(values[i]):
                raise UnreadableEcg("bad_number", "a sample is not a number")
        else:
            values[i] = np.nan
            flags.add("gaps")
    return values


def _beat_times(strip: etree._Element) -> np.ndarray:
    times = np.array([number(e.text) for e in strip.iterfind(".//ArrhythmiaResults/Time")])
    return np.unique(times[np.isfinite(times)])


def _statements(root: etree._Element) -> set[str]:
    return codes_of(e.text for e in root.iterfind("Interpretation//*"))


def _flags(root: etree._Element, statements: set[str]) -> set[str]:
    implant = (root.findtext("PatientInfo/PaceMaker") or "").strip().lower() in ("yes", "true", "1")
    return (statements & FLAGS) | ({"pacemaker"} if implant else set())


def _mains_filters(root: etree._Element) -> frozenset[int]:
    said = {hz: (root.findtext(f"FilterSetting/Filter{hz}Hz") or "").strip().lower() for hz in (50, 60)}
    return frozenset(hz for hz, text in said.items() if text in ("yes", "true", "1"))
