"""DICOM 12-lead ECG waveforms (supplement 30): the rhythm group of a 12-lead or general ECG object."""

import io
import logging
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.filereader import read_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pydicom.waveforms import multiplex_array

from ptacl.ecg.record import LEADS, EcgRecord, assemble, standard_lead, whole_beat
from ptacl.ecg.statements import FLAGS, codes_of
from ptacl.errors import UnreadableEcg

# pydicom quotes values of headers in its log, and they may be personal.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

MAX_BYTES, MAX_VALUES = 64 * 2**20, 32 * 2**20
MAX_SKEW_SAMPLES = 0.5
# A deflated data set would be inflated whatever its size; pydicom leaves big-endian samples as they are.
_SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
_MILLIVOLT = {"uv": 0.001, "mv": 1.0, "v": 1000.0, "nv": 1e-6}
# SCP-ECG and MDC number the leads alike: 1, 2, 61 to 64, 3 to 8.
_LEAD_CODES = dict(zip(("1", "2", "61", "62", "63", "64", "3", "4", "5", "6", "7", "8"), LEADS, strict=True))
_MEASUREMENTS = {
    "rr interval": "rr_ms", "pp interval": "pp_ms", "pr interval": "pq_ms", "qrs duration": "qrs_ms",
    "qt interval": "qt_ms", "qtc interval": "qtc_ms", "p duration": "p_duration_ms", "p axis": "p_axis_deg",
    "qrs axis": "r_axis_deg", "t axis": "t_axis_deg", "ventricular heart rate": "ventricular_rate_bpm",
    "heart rate": "ventricular_rate_bpm",
}  # fmt: skip


def is_dicom(head: bytes) -> bool:
    """Whether a file that starts with `head` (132 bytes) is a DICOM file."""
    return head[128:132] == b"DICM"


def read_dicom_ecg(path: Path) -> EcgRecord:
    """Reads one ECG waveform object. Raises UnreadableEcg."""
    if path.stat().st_size > MAX_BYTES:
        raise UnreadableEcg("too_large", f"more than {MAX_BYTES // 2**20} MiB")
    data = path.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if read_file_meta_info(path).get("TransferSyntaxUID", _SYNTAXES[0]) not in _SYNTAXES:
                raise UnreadableEcg("unsupported_format", "a transfer syntax other than uncompressed little endian")
            return _record(pydicom.dcmread(io.BytesIO(data)))
    except UnreadableEcg:
        raise
    except (EOFError, OSError):
        raise UnreadableEcg("truncated", "the DICOM file breaks off") from None
    except Exception as e:  # pydicom raises many types for damaged or hostile files
        raise UnreadableEcg("bad_header", f"not a readable ECG waveform ({type(e).__name__})") from None


def _record(dataset: pydicom.Dataset) -> EcgRecord:
    groups = dataset.get("WaveformSequence") or []
    if not groups:
        raise UnreadableEcg("not_an_ecg", "a DICOM file without waveforms")
    averaged = [i for i, g in enumerate(groups) if "MEDIAN" in str(g.get("MultiplexGroupLabel", "")).upper()]
    rhythm = _rhythm_groups({i: g for i, g in enumerate(groups) if i not in averaged})
    leads: dict[str, np.ndarray] = {}
    for i in rhythm:
        found, rate_hz = _waveforms(dataset, i)
        leads |= found
    signal, present = assemble(leads)
    if not present.any():
        raise UnreadableEcg("not_an_ecg", "no channel is one of the twelve leads in volts")
    flags: set[str] = set()
    median, median_rate = None, 500.0
    if averaged:
        try:
            beats, median_rate = _waveforms(dataset, averaged[0])
            median = whole_beat(beats, median_rate)
        except UnreadableEcg:
            flags.add("no_median_beat")
    annotations = dataset.get("WaveformAnnotationSequence") or []
    statements = codes_of(str(a.get("UnformattedTextValue", "")) for a in annotations)
    return EcgRecord(
        format="dicom-ecg",
        rate_hz=rate_hz,
        signal=signal,
        present=present,
        measurements=_measurements(annotations),
        median_beat=median,
        median_rate_hz=median_rate,
        flags=flags | (statements & FLAGS),
        statements=statements,
        mains_filter_hz=frozenset.intersection(*(_mains_filters(groups[i]) for i in rhythm)),
    )


def _rhythm_groups(groups: dict[int, pydicom.Dataset]) -> list[int]:
    """Indices of the multiplex groups that hold the rhythm strip: of most standard leads, then the longest.

    A recorder may keep limb and chest leads in groups of their own: those of one rate, length and stated time offset
    belong together, unless they hold the same leads.
    """
    together: list[tuple[list[int], set[str], tuple[Any, ...], float]] = []
    for i, group in groups.items():
        names = {name for c in group.get("ChannelDefinitionSequence") or [] if (name := _lead_of(c)[0])}
        rate_hz, n = float(group.SamplingFrequency), int(group.NumberOfWaveformSamples)
        start = group.get("MultiplexGroupTimeOffset")
        when = (rate_hz, n, f"group {i}" if start is None else float(start))
        for members, held, other, _ in together:
            if other == when and not held & names:
                members.append(i)
                held |= names
                break
        else:
            together.append(([i], names, when, n / rate_hz if rate_hz > 0 else 0.0))
    if not together:
        raise UnreadableEcg("no_strip", "no rhythm group among the waveforms")
    return max(together, key=lambda t: (len(t[1]), t[3]))[0]


def _waveforms(dataset: pydicom.Dataset, index: int) -> tuple[dict[str, np.ndarray], float]:
    """Leads in mV by standard name, and the rate in Hz, of one multiplex group. Raises UnreadableEcg."""
    group = dataset.WaveformSequence[index]
    try:
        rate_hz, channels = float(group.SamplingFrequency), int(group.NumberOfWaveformChannels)
        samples, bits = int(group.NumberOfWaveformSamples), int(group.WaveformBitsAllocated)
        if not 50 <= rate_hz <= 10000 or not 0 < channels * samples <= MAX_VALUES:
            raise UnreadableEcg("bad_header", "implausible rate or size of a waveform group")
        if len(group.get("WaveformData") or b"") < channels * samples * bits // 8:
            raise UnreadableEcg("truncated", "fewer samples than the file says")
        return _leads(group, multiplex_array(dataset, index), rate_hz), rate_hz
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as e:
        raise UnreadableEcg("bad_header", f"not a readable waveform group ({type(e).__name__})") from None


def _leads(group: pydicom.Dataset, counts: np.ndarray, rate_hz: float) -> dict[str, np.ndarray]:
    """Leads in mV by standard name from a group's counts [samples, channels]; padding is NaN."""
    padding = group.get("WaveformPaddingValue")
    invalid = counts == np.frombuffer(padding[: counts.itemsize], counts.dtype) if padding else None
    leads: dict[str, np.ndarray] = {}
    for k, channel in enumerate(group.ChannelDefinitionSequence):
        name, scale = _lead_of(channel)
        if name is None:
            continue
        skew = abs(_decimal(channel, "ChannelSampleSkew")) + abs(_decimal(channel, "ChannelTimeSkew")) * rate_hz
        if skew > MAX_SKEW_SAMPLES:
            raise UnreadableEcg("unsupported_format", "samples of leads not simultaneous")
        sensitivity = _decimal(channel, "ChannelSensitivity") * _decimal(
            channel, "ChannelSensitivityCorrectionFactor", 1
        )
        values = (counts[:, k] * sensitivity + _decimal(channel, "ChannelBaseline")) * scale
        if invalid is not None:
            values[invalid[:, k]] = np.nan
        if name in leads and not np.array_equal(leads[name], values.astype(np.float32), equal_nan=True):
            raise UnreadableEcg("duplicate_lead", "a lead is there twice, with other samples")
        leads[name] = values.astype(np.float32)
    return leads


def _lead_of(channel: pydicom.Dataset) -> tuple[str | None, float]:
    """Standard name of a channel and mV per unit; None for another signal, or one that was never calibrated in volts."""
    units = channel.get("ChannelSensitivityUnitsSequence")
    scale = _MILLIVOLT.get(str(units[0].get("CodeValue", "")).strip().lower()) if units else None
    source = channel.get("ChannelSourceSequence")
    if scale is None or "ChannelSensitivity" not in channel or not source:
        return None, 0.0
    return _lead_name(source[0]), scale


def _lead_name(source: pydicom.Dataset) -> str | None:
    """Standard name of a channel from its SCP-ECG or MDC code, else from its meaning (`Lead I (Einthoven)`)."""
    code = re.search(r"(?:^5\.6\.3-9-|^2:)(\d+)$", str(source.get("CodeValue", "")))
    if code is not None:
        return _LEAD_CODES.get(code[1])
    meaning = re.sub(r"\(.*\)|\blead\b", "", str(source.get("CodeMeaning", "")), flags=re.IGNORECASE)
    return standard_lead(meaning)


def _mains_filters(group: pydicom.Dataset) -> frozenset[int]:
    """Mains frequencies that were filtered out of every lead of a group."""
    filtered = [round(_decimal(c, "NotchFilterFrequency")) for c in group.ChannelDefinitionSequence if _lead_of(c)[0]]
    return frozenset({50, 60} & set(filtered)) if len(set(filtered)) == 1 else frozenset()


def _decimal(channel: pydicom.Dataset, keyword: str, absent: float = 0.0) -> float:
    """A decimal of a channel, whose element may be absent or empty."""
    value: Any = channel.get(keyword)
    return absent if value is None else float(value)


def _measurements(annotations: Any) -> dict[str, float]:
    """The device's global measurements; zero and less stand for `not measured` in intervals and rates."""
    found: dict[str, float] = {}
    for a in annotations:
        concept, value = a.get("ConceptNameCodeSequence"), a.get("NumericValue")
        name = _MEASUREMENTS.get(str(concept[0].get("CodeMeaning", "")).strip().lower()) if concept else None
        if name and value is not None and name not in found:
            number = float(np.ravel(value)[0])
            if np.isfinite(number) and (number > 0 or name.endswith("_deg")):
                found[name] = number
    if "rr_ms" in found:
        found.setdefault("ventricular_rate_bpm", 60000 / found["rr_ms"])
    return found
