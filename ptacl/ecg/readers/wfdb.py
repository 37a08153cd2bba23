"""WFDB records: a text header beside one or more signal files.

Written after the published header and signal format descriptions (physionet.org, WFDB Applications Guide).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ptacl.ecg.record import EcgRecord, assemble, standard_lead
from ptacl.errors import UnreadableEcg

SIGNAL_SUFFIXES = (".mat", ".dat")
MAX_HEADER_BYTES = 256 * 1024
MAX_SIGNAL_BYTES = 64 * 1024 * 1024

# At most nine digits where an integer is wanted: no file needs more, and `int` refuses thousands.
_RECORD = re.compile(
    r"(?P<name>[^\s/]+)(?P<segments>/\d+)?\s+(?P<signals>\d{1,9})(?:\s+(?P<rate>[\d.]+)\S*)?(?:\s+(?P<n>\d{1,9}))?(?:\s.*)?",
    re.ASCII,
)
_FORMAT = re.compile(
    r"(?P<format>\d{1,9})(?:x(?P<per_frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?(?:\+(?P<offset>\d{1,9}))?", re.ASCII
)
_GAIN = re.compile(r"(?P<gain>-?[\d.]+(?:[eE][+-]?\d+)?)(?:\((?P<baseline>-?\d{1,10})\))?(?:/(?P<unit>\S+))?", re.ASCII)
# Micro has two code points, the sign and the Greek letter.
_MILLIVOLT = {"v": 1000.0, "mv": 1.0, "uv": 0.001, "\u00b5v": 0.001, "\u03bcv": 0.001, "nv": 1e-6}


@dataclass(frozen=True)
class _Signal:
    file: str
    format: int
    aligned: bool  # one sample per frame, no skew: the only layout read here
    offset: int
    gain: float
    baseline: int
    checksum: int  # 0 where none is stated
    unit: str
    name: str

    @property
    def lead(self) -> str | None:
        """The standard name, for one of the twelve leads in volts."""
        return standard_lead(self.name) if self.unit in _MILLIVOLT else None


def read_wfdb(header: Path) -> EcgRecord:
    """Reads one record by its `.hea` file; signals that are none of the twelve leads are ignored. Raises UnreadableEcg."""
    if not header.is_file():
        raise UnreadableEcg("missing_file", "no WFDB header")
    with header.open("rb") as f:
        data = f.read(MAX_HEADER_BYTES + 1)
    if not data:
        raise UnreadableEcg("empty_file")
    rate_hz, n_samples, signals = parse_header(data)
    leads: dict[str, np.ndarray] = {}
    for file in dict.fromkeys(s.file for s in signals if s.lead is not None):
        group = [s for s in signals if s.file == file]
        for signal, counts in zip(group, _read_group(header.parent / file, group, n_samples), strict=True):
            if signal.lead is None:
                continue
            values = _millivolts(signal, counts)
            if signal.lead in leads and not np.array_equal(leads[signal.lead], values, equal_nan=True):
                raise UnreadableEcg("duplicate_lead", "a lead is there twice, with other samples")
            leads[signal.lead] = values
    if not leads:
        raise UnreadableEcg("not_an_ecg", "no signal is one of the twelve leads in volts")
    signal_mv, present = assemble(leads)
    return EcgRecord(format="wfdb", rate_hz=rate_hz, signal=signal_mv, present=present)


def parse_header(data: bytes) -> tuple[float, int | None, list[_Signal]]:
    """Rate in Hz, samples per signal (None when not stated) and the signals of a header. Raises UnreadableEcg."""
    if len(data) > MAX_HEADER_BYTES:
        raise UnreadableEcg("too_large", "the WFDB header is larger than 256 KiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:  # older recorders write the micro sign in Latin-1, in which any byte is a character
        text = data.decode("latin-1")
    lines = [x.strip() for x in text.splitlines()]
    lines = [x for x in lines if x and not x.startswith("#")]
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        raise UnreadableEcg("bad_header", "the first line is no WFDB record line")
    if record["segments"]:
        raise UnreadableEcg("unsupported_format", "a WFDB record of several segments")
    rate_hz = _float(record["rate"] or "250")
    count = int(record["signals"])
    n_samples = int(record["n"]) if record["n"] and int(record["n"]) > 0 else None
    if not 50 <= rate_hz <= 10000 or not 1 <= count <= 256:
        raise UnreadableEcg("bad_header", "implausible rate or number of signals")
    if (n_samples or 0) * count > MAX_SIGNAL_BYTES:
        raise UnreadableEcg("too_large", "more samples than a resting ECG has")
    if len(lines) < 1 + count:
        raise UnreadableEcg("truncated", "fewer signal lines than the header announces")
    return rate_hz, n_samples, [_parse_signal(line) for line in lines[1 : 1 + count]]


def _parse_signal(line: str) -> _Signal:
    fields = line.split(None, 8)
    form = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
    if form is None:
        raise UnreadableEcg("bad_header", "a signal line has no format")
    if "/" in fields[0] or "\\" in fields[0] or fields[0] in (".", "..", "-"):
        raise UnreadableEcg("bad_header", "a signal file outside the header's folder")
    gain = _GAIN.fullmatch(fields[2]) if len(fields) > 2 else _GAIN.fullmatch("200")
    if gain is None:
        raise UnreadableEcg("bad_header", "a signal line has no readable gain")
    if not np.isfinite(_float(gain["gain"])):
        raise UnreadableEcg("bad_header", "a gain is not finite")
    adc_zero = int(fields[4]) if len(fields) > 4 and re.fullmatch(r"-?\d{1,9}", fields[4]) else 0
    return _Signal(
        file=fields[0],
        format=int(form["format"]),
        aligned=int(form["per_frame"] or 1) == 1 and int(form["skew"] or 0) == 0,
        offset=int(form["offset"] or 0),
        gain=_float(gain["gain"]) or 200.0,
        baseline=int(gain["baseline"]) if gain["baseline"] else adc_zero,
        checksum=int(fields[6]) if len(fields) > 6 and re.fullmatch(r"-?[0-9]{1,6}", fields[6]) else 0,
        unit=(gain["unit"] or "mV").lower(),
        name=fields[8] if len(fields) > 8 else "",
    )


def _read_group(path: Path, group: list[_Signal], n_samples: int | None) -> np.ndarray:
    """Counts, int [signals, n], of the signals interleaved in one file; the checksums of the twelve leads have to agree."""
    if len({(s.format, s.offset) for s in group}) > 1:
        raise UnreadableEcg("unsupported_format", "signals of different formats in one file")
    if group[0].format not in _DECODERS or not all(s.aligned for s in group):
        raise UnreadableEcg("unsupported_format", "a WFDB signal format that is not read")
    if not path.is_file():
        raise UnreadableEcg("missing_file", "a signal file named in the header is not there")
    if path.stat().st_size > MAX_SIGNAL_BYTES:
        raise UnreadableEcg("too_large", "the signal file is larger than 64 MiB")
    raw = path.read_bytes()[group[0].offset :]
    counts = _DECODERS[group[0].format](raw)
    n = n_samples or len(counts) // len(group)
    if n == 0 or len(counts) < n * len(group):
        raise UnreadableEcg("truncated", "the signal file is shorter than the header says")
    counts = counts[: n * len(group)].reshape(n, len(group)).T
    for signal, own in zip(group, counts, strict=True):
        if signal.lead is not None and signal.checksum and (int(own.sum(dtype=np.int64)) - signal.checksum) % 2**16:
            raise UnreadableEcg("bad_checksum", "the samples of a lead do not agree with their checksum")
    return counts


def _millivolts(signal: _Signal, counts: np.ndarray) -> np.ndarray:
    """float32 [n] in mV; the format's missing value is NaN."""
    with np.errstate(over="ignore"):  # of an absurd gain: infinite samples are refused with the gaps
        values = (counts.astype(np.float64) - signal.baseline) / signal.gain * _MILLIVOLT[signal.unit]
        return np.where(counts == _MISSING[signal.format], np.nan, values).astype(np.float32)


def _decode_16(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw[: len(raw) // 2 * 2], "<i2")


def _decode_32(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw[: len(raw) // 4 * 4], "<i4")


def _decode_80(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, "u1").astype(np.int32) - 128


def _decode_24(raw: bytes) -> np.ndarray:
    b = np.frombuffer(raw[: len(raw) // 3 * 3], "u1").reshape(-1, 3).astype(np.int32)
    value = b[:, 0] | b[:, 1] << 8 | b[:, 2] << 16
    return np.where(value >= 2**23, value - 2**24, value)


def _decode_212(raw: bytes) -> np.ndarray:
    """Two 12-bit samples in three bytes: low byte, both high nibbles, low byte."""
    n = len(raw) * 2 // 3  # an odd last sample has two bytes
    b = np.frombuffer(raw + bytes(-len(raw) % 3), "u1").reshape(-1, 3).astype(np.int32)
    pairs = np.stack([b[:, 0] | (b[:, 1] & 0x0F) << 8, b[:, 2] | (b[:, 1] & 0xF0) << 4], axis=1).ravel()[:n]
    return np.where(pairs >= 2**11, pairs - 2**12, pairs)


_DECODERS: dict[int, Callable[[bytes], np.ndarray]] = {
    16: _decode_16, 24: _decode_24, 32: _decode_32, 80: _decode_80, 212: _decode_212,
}  # fmt: skip
_MISSING = {16: -(2**15), 24: -(2**23), 32: -(2**31), 80: -(2**7), 212: -(2**11)}


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UnreadableEcg("bad_header", "a number in the header is none") from None
