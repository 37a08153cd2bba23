"""DICOM 12-lead ECG waveforms (supplement 30): the rhythm group of a 12-lead or general ECG object."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.waveforms import multiplex_array

from ptacl.ecg.record import LEADS, EcgRecord, assemble, derive_limb_leads, standard_lead
from ptacl.ecg.statements import FLAGS, codes_of
from ptacl.errors import UnreadableEcg

MAX_BYTES, MAX_VALUES = 64 * 2**20, 32 * 2**20
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _record(pydicom.dcmread(io.BytesIO(path.read_bytes())))
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
    labels = [str(g.get("MultiplexGroupLabel", "")).strip().upper() for g in groups]
    # The rhythm strip is the longest group that is no average.
    rhythm = max(
        (i for i, label in enumerate(labels) if "MEDIAN" not in label),
        key=lambda i: int(groups[i].NumberOfWaveformSamples) / float(groups[i].SamplingFrequency), default=None,
    )  # fmt: skip
    if rhythm is None:
        raise UnreadableEcg("no_strip", "no rhythm group among the waveforms")
    leads, rate_hz = _waveforms(dataset, rhythm)
    signal, present = assemble(leads)
    if not present.any():
        raise UnreadableEcg("not_an_ecg", "no channel is one of the twelve leads in volts")
    median, median_rate = None, 500.0
    averaged = next((i for i, label in enumerate(labels) if "MEDIAN" in label), None)
    if averaged is not None:
        beats, median_rate = _waveforms(dataset, averaged)
        median, there = derive_limb_leads(*assemble(beats))
        median = median if there.all() else None
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
        flags=statements & FLAGS,
        statements=statements,
    )


def _waveforms(dataset: pydicom.Dataset, index: int) -> tuple[dict[str, np.ndarray], float]:
    """Leads in mV by standard name, and the rate in Hz, of one multiplex group."""
    group = dataset.WaveformSequence[index]
    rate_hz, channels = float(group.SamplingFrequency), int(group.NumberOfWaveformChannels)
    if not 50 <= rate_hz <= 10000 or not 0 < channels * int(group.NumberOfWaveformSamples) <= MAX_VALUES:
        raise UnreadableEcg("bad_header", "implausible rate or size of a waveform group")
    wanted = channels * int(group.NumberOfWaveformSamples) * int(group.WaveformBitsAllocated) // 8
    if len(group.get("WaveformData") or b"") < wanted:
        raise UnreadableEcg("truncated", "fewer samples than the file says")
    values = multiplex_array(dataset, index, as_raw=False)  # [samples, channels], in the channels' own units
    leads: dict[str, np.ndarray] = {}
    for k, channel in enumerate(group.ChannelDefinitionSequence):
        name, scale = _lead_name(channel.ChannelSourceSequence[0]), _millivolt(channel)
        if name is not None and scale is not None and name not in leads:
            leads[name] = (values[:, k] * scale).astype(np.float32)
    return leads, rate_hz


def _lead_name(source: pydicom.Dataset) -> str | None:
    """Standard name of a channel from its SCP-ECG or MDC code, else from its meaning (`Lead I (Einthoven)`)."""
    code = re.search(r"(?:^5\.6\.3-9-|^2:)(\d+)$", str(source.get("CodeValue", "")))
    if code is not None:
        return _LEAD_CODES.get(code[1])
    meaning = re.sub(r"\(.*\)|\blead\b", "", str(source.get("CodeMeaning", "")), flags=re.IGNORECASE)
    return standard_lead(meaning)


def _millivolt(channel: pydicom.Dataset) -> float | None:
    """mV per unit of a channel; None for a channel that is not in volts or was never calibrated."""
    units = channel.get("ChannelSensitivityUnitsSequence")
    if not units or "ChannelSensitivity" not in channel:
        return None
    return _MILLIVOLT.get(str(units[0].get("CodeValue", "")).strip().lower())


def _measurements(annotations: Any) -> dict[str, float]:
    """The device's global measurements; zero stands for `not measured` in intervals."""
    found: dict[str, float] = {}
    for a in annotations:
        concept, value = a.get("ConceptNameCodeSequence"), a.get("NumericValue")
        name = _MEASUREMENTS.get(str(concept[0].get("CodeMeaning", "")).strip().lower()) if concept else None
        if name and value is not None and name not in found:
            number = float(value if np.isscalar(value) else value[0])
            if np.isfinite(number) and (number != 0 or name.endswith("_deg")):
                found[name] = number
    if "rr_ms" in found:
        found.setdefault("ventricular_rate_bpm", 60000 / found["rr_ms"])
    return found
