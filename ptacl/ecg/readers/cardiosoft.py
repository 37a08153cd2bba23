"""GE CardioSoft resting ECG XML, UK Biobank field 20205.

Only what the study needs is taken: the ten-second strip, the median beat, the device's measurements and a few yes/no
statements. Names, dates and free text stay in the file.
"""

from pathlib import Path

import numpy as np
from lxml import etree

from ptacl.ecg.record import EcgRecord, assemble, standard_lead
from ptacl.errors import UnreadableEcg

MAX_BYTES = 64 * 1024 * 1024

_MEASUREMENTS = {
    "ventricular_rate_bpm": "VentricularRate", "p_duration_ms": "PDuration", "pq_ms": "PQInterval",
    "qrs_ms": "QRSDuration", "qt_ms": "QTInterval", "qtc_ms": "QTCInterval", "p_axis_deg": "PAxis",
    "r_axis_deg": "RAxis", "t_axis_deg": "TAxis", "n_qrs": "QRSNum", "t_offset_ms": "TOffset",
}  # fmt: skip


def read_cardiosoft(path: Path) -> EcgRecord:
    """Reads one CardioSoft XML. Raises UnreadableEcg."""
    root = _parse(path)
    if root.tag != "CardiologyXML":
        code = "unsupported_format" if root.tag == "RestingECG" else "not_an_ecg"
        raise UnreadableEcg(code, "the root element is not CardiologyXML")
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
            median = assemble(beats)[0] if len(beats) == 12 else None
        except UnreadableEcg:
            flags.add("no_median_beat")
    return EcgRecord(
        format="cardiosoft-xml",
        rate_hz=rate_hz,
        signal=signal,
        present=present,
        measurements={k: _number(root.findtext(f"RestingECGMeasurements/{e}")) for k, e in _MEASUREMENTS.items()},
        beat_times_ms=_beat_times(strip),
        median_beat=median,
        median_rate_hz=median_rate,
        flags=flags | _statements(root),
    )


def _parse(path: Path) -> etree._Element:
    size = path.stat().st_size
    if size == 0:
        raise UnreadableEcg("empty_file")
    if size > MAX_BYTES:
        raise UnreadableEcg("too_large", f"more than {MAX_BYTES // 2**20} MiB of XML")
    data = path.read_bytes()
    if b"<!ENTITY" in data:
        raise UnreadableEcg("hostile_xml", "an XML entity is declared")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        whole = b"</CardiologyXML>" in data[-200:]
        code = "bad_xml" if whole else "truncated" if b"<CardiologyXML" in data else "not_an_ecg"
        raise UnreadableEcg(code, "the XML does not parse") from None


def _waveforms(block: etree._Element, flags: set[str]) -> tuple[dict[str, np.ndarray], float]:
    """Leads in mV by standard name, and the rate, of a StripData or MedianSamples block."""
    rate_hz = _number(_find_text(block, "SampleRate"))
    if not 50 <= rate_hz <= 10000:
        raise UnreadableEcg("bad_header", "no plausible SampleRate")
    scale = _millivolt_per_count(block)
    leads: dict[str, np.ndarray] = {}
    for element in block.iter("WaveformData"):
        name = standard_lead(element.get("lead") or element.get("Lead") or "")
        if name is not None:
            if len(element):  # a comment or an entity, after which `text` would silently end
                raise UnreadableEcg("bad_number", "markup among the samples")
            leads[name] = (parse_counts(element.text or "", flags) * scale).astype(np.float32)
    declared = _number(_find_text(block, "ChannelSampleCountTotal"))
    lengths = {len(v) for v in leads.values()}
    if len(lengths) > 1 or (lengths and np.isfinite(declared) and lengths != {int(declared)}):
        flags.add("length_mismatch")
    return leads, rate_hz


def _millivolt_per_count(block: etree._Element) -> float:
    element = block.find(".//Resolution")
    resolution = _number(element.text if element is not None else None)
    units = (element.get("units") or "uVperLsb" if element is not None else "").lower()
    if not 0 < resolution < 1e6 or units not in ("uvperlsb", "mvperlsb"):
        raise UnreadableEcg("bad_header", "no Resolution in uVperLsb or mVperLsb")
    return resolution / 1000 if units == "uvperlsb" else resolution


def parse_counts(text: str, flags: set[str]) -> np.ndarray:
    """Comma-separated numbers with any white space around them, to float64 [n].

    White space within a number is refused: dropping it would join two numbers that lost their comma. A trailing comma
    is dropped and flagged `trailing_comma`; a blank token becomes NaN and is flagged `gaps`.
    Raises UnreadableEcg(`bad_number`) for anything else that is not a finite number.
    """
    line = " ".join(text.split())
    if line.endswith(","):
        line = line[:-1].rstrip()
        flags.add("trailing_comma")
    if not line:
        return np.zeros(0)
    try:
        # loadtxt is as quick as fromstring and refuses what that takes for 0: a blank token, a lone minus sign.
        return np.loadtxt([line], dtype=np.int32, delimiter=",", comments=None, ndmin=1).astype(np.float64)
    except (ValueError, OverflowError):
        pass
    values = np.empty(line.count(",") + 1)
    for i, token in enumerate(line.split(",")):
        if token.strip():
            values[i] = _number(token)
            if not np.isfinite(values[i]):
                raise UnreadableEcg("bad_number", "a sample is not a number")
        else:
            values[i] = np.nan
            flags.add("gaps")
    return values


def _beat_times(strip: etree._Element) -> np.ndarray:
    times = np.array([_number(e.text) for e in strip.iterfind(".//ArrhythmiaResults/Time")])
    return np.unique(times[np.isfinite(times)])


def _statements(root: etree._Element) -> set[str]:
    flags = set()
    if (root.findtext("PatientInfo/PaceMaker") or "").strip().lower() in ("yes", "true", "1"):
        flags.add("pacemaker")
    for element in root.iterfind("Interpretation//*"):
        text = (element.text or "").lower()
        if "poor data quality" in text:
            flags.add("poor_quality")
        if "pacemaker" in text or "paced rhythm" in text:
            flags.add("pacemaker")
        if "atrial fibrillation" in text:
            flags.add("atrial_fibrillation")
    return flags


def _find_text(block: etree._Element, name: str) -> str | None:
    element = block.find(f".//{name}")
    return element.text if element is not None else None


def _number(text: str | None) -> float:
    """A finite decimal number, else NaN."""
    text = (text or "").strip()
    if not text or len(text) > 32 or set(text) - set("0123456789+-.eE"):
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")
