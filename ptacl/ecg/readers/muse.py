"""GE MUSE `RestingECG` XML: base64 samples of the eight independent leads, from which the other four follow.

Layout after public sample exports (BRAVEHEART, easyRecg). Names, dates and free text stay in the file.
"""

import base64
import binascii
import re
import zlib

import numpy as np
from lxml import etree

from ptacl.ecg.readers.xml import measured, number, text_of
from ptacl.ecg.record import EcgRecord, assemble, standard_lead, whole_beat
from ptacl.ecg.statements import FLAGS, codes_of
from ptacl.errors import UnreadableEcg

_MEASUREMENTS = {
    "ventricular_rate_bpm": "VentricularRate", "pq_ms": "PRInterval", "qrs_ms": "QRSDuration", "qt_ms": "QTInterval",
    "qtc_ms": "QTCorrected", "p_axis_deg": "PAxis", "r_axis_deg": "RAxis", "t_axis_deg": "TAxis", "n_qrs": "QRSCount",
}  # fmt: skip
_MILLIVOLT = {"MICROVOLTS": 0.001, "MILLIVOLTS": 1.0}


def read_muse(root: etree._Element) -> EcgRecord:
    """Reads the parsed `RestingECG`. Raises UnreadableEcg."""
    blocks: dict[str, etree._Element] = {}
    for block in root.iterfind("Waveform"):
        blocks.setdefault((block.findtext("WaveformType") or "").strip().lower(), block)  # the first of a type
    rhythm = blocks.get("rhythm")
    if rhythm is None or rhythm.find("LeadData") is None:
        raise UnreadableEcg("no_strip", "no Waveform of the type Rhythm")
    flags: set[str] = set()
    leads, rate_hz = _waveforms(rhythm)
    signal, present = assemble(leads)
    median, median_rate = None, 500.0
    if "median" in blocks:
        try:
            beats, median_rate = _waveforms(blocks["median"])
            median = whole_beat(beats, median_rate)
        except UnreadableEcg:
            flags.add("no_median_beat")
    statements = codes_of(e.text for e in root.iterfind("Diagnosis/DiagnosisStatement/StmtText"))
    mains = {int(x) for x in re.findall(r"[0-9]{1,3}", rhythm.findtext("ACFilter") or "")}  # `60`, `50 HZ`, `NONE`
    return EcgRecord(
        format="muse-xml",
        rate_hz=rate_hz,
        signal=signal,
        present=present,
        measurements=_measurements(root),
        beat_times_ms=np.unique([t for e in root.iterfind("QRSTimesTypes/QRS/Time") if (t := number(e.text)) >= 0]),
        median_beat=median,
        median_rate_hz=median_rate,
        flags=flags | (statements & FLAGS),
        statements=statements,
        mains_filter_hz=frozenset(mains & {50, 60}),
    )


def _waveforms(block: etree._Element) -> tuple[dict[str, np.ndarray], float]:
    """Leads in mV by standard name, and the rate in Hz, of one Waveform element."""
    base, exponent = number(block.findtext("SampleBase")), number(block.findtext("SampleExponent") or "0")
    rate_hz = base * 10.0**exponent if abs(exponent) <= 6 else float("nan")
    if not 50 <= rate_hz <= 10000:
        raise UnreadableEcg("bad_header", "no plausible SampleBase")
    leads: dict[str, np.ndarray] = {}
    for element in block.iterfind("LeadData"):
        name = standard_lead(element.findtext("LeadID") or "")
        if name is not None:
            values = _samples(element)
            if name in leads and not np.array_equal(leads[name], values):
                raise UnreadableEcg("duplicate_lead", "a lead is there twice, with other samples")
            leads[name] = values
    return leads, rate_hz


def _samples(lead: etree._Element) -> np.ndarray:
    """float32 [n] in mV; the declared size and checksum have to agree where they are given."""
    per_bit = number(lead.findtext("LeadAmplitudeUnitsPerBit"))
    unit = _MILLIVOLT.get((lead.findtext("LeadAmplitudeUnits") or "MICROVOLTS").strip().upper())
    if not 0 < per_bit < 1e6 or unit is None or number(lead.findtext("LeadSampleSize") or "2") != 2:
        raise UnreadableEcg("bad_header", "no amplitude per bit in micro- or millivolts, or samples of another size")
    try:
        raw = base64.b64decode("".join((lead.findtext("WaveFormData") or "").split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableEcg("bad_number", "the samples are not base64") from None
    declared = number(lead.findtext("LeadSampleCountTotal"))
    if len(raw) % 2 or (np.isfinite(declared) and declared != len(raw) // 2):
        raise UnreadableEcg("truncated", "fewer or more samples than the file says")
    checksum = number(lead.findtext("LeadDataCRC32"))
    if np.isfinite(checksum) and checksum != zlib.crc32(raw):
        raise UnreadableEcg("bad_checksum", "the samples do not agree with their checksum")
    return (np.frombuffer(raw, "<i2") * (per_bit * unit)).astype(np.float32)


def _measurements(root: etree._Element) -> dict[str, float]:
    """The device's measurements; its onsets and offsets are samples of the median beat."""
    block = root.find("RestingECGMeasurements")
    if block is None:
        return {}
    found = {k: number(block.findtext(e)) for k, e in _MEASUREMENTS.items()}
    found["rr_ms"] = number(text_of(root, "GlobalRR"))
    rate = number(block.findtext("ECGSampleBase"))
    if rate > 0:
        ms = {e: number(block.findtext(e)) * 1000 / rate for e in ("POnset", "POffset", "QOnset", "QOffset", "TOffset")}
        found |= {"q_onset_ms": ms["QOnset"], "q_offset_ms": ms["QOffset"], "t_offset_ms": ms["TOffset"]}
        found["p_duration_ms"] = ms["POffset"] - ms["POnset"]
    return measured(found)
