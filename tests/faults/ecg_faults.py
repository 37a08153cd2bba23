"""WFDB records, MUSE XML and DICOM waveforms in every way they go wrong. The signal is that of the CardioSoft faults."""

import base64
import copy
import io
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian
from scipy.signal import resample_poly

from ptacl.ecg.record import LEADS
from tests.faults.cardiosoft_faults import TRACE
from tests.faults.fault import Fault

COUNTS = np.asarray(TRACE.counts, np.int64)

# --- WFDB ---------------------------------------------------------------------------------------------------------------


def wfdb(
    counts: np.ndarray = COUNTS, names: tuple[str, ...] = LEADS, rate: str = "500", gain: str = "200/mV", form: str = "16",
    change: Callable[[str], str] = lambda header: header, cut: int | None = None, suffix: str = ".dat", head: bytes = b"",
    encoding: str = "utf-8",
) -> Callable[[Path], Path]:  # fmt: skip
    """A record whose header text is changed, or whose signal file is cut to so many bytes."""

    def make(folder: Path) -> Path:
        lines = [f"rec {len(names)} {rate} {counts.shape[1]}"]
        lines += [f"rec{suffix} {form} {gain} 16 0 0 0 0 {name}" for name in names]
        (folder / "rec.hea").write_text(change("\n".join(lines) + "\n# Age: 61\n"), encoding)
        (folder / f"rec{suffix}").write_bytes((head + _packed(counts, form))[:cut])
        return folder / "rec.hea"

    return make


def _packed(counts: np.ndarray, form: str) -> bytes:
    values = counts.T.ravel()
    if form.startswith("212"):
        values = np.append(values, np.zeros(len(values) % 2, int)).reshape(-1, 2) & 0xFFF
        low, high = values[:, 0] & 0xFF, values[:, 1] & 0xFF
        return np.stack([low, values[:, 0] >> 8 | (values[:, 1] >> 8) << 4, high], axis=1).astype(np.uint8).tobytes()
    if form.startswith("24"):
        return (values & 0xFFFFFF).astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return values.astype("<i4" if form.startswith("32") else "<i2").tobytes()


def with_checksums(counts: np.ndarray) -> Callable[[str], str]:
    """The header with the checksums of such samples."""
    sums = iter(((counts.sum(axis=1) + 2**15) % 2**16 - 2**15).tolist())
    return lambda header: re.sub(r" 16 0 0 0 0 ", lambda _: f" 16 0 0 {next(sums)} 0 ", header)


def damaged() -> np.ndarray:
    counts = COUNTS.copy()
    counts[8, 2000] += 400
    return counts


def v3_twice(second: np.ndarray) -> Callable[[Path], Path]:
    return wfdb(np.concatenate([COUNTS, second[None]]), (*LEADS, "V3"))


def at_rate(rate: int) -> np.ndarray:
    return np.round(resample_poly(COUNTS.astype(float), rate, 500, axis=1, padtype="line")).astype(int)


def extra_leads() -> Callable[[Path], Path]:
    """Twelve leads in lower case and Frank's three, which share the signal file."""
    frank = np.stack([COUNTS[0] + k for k in range(3)])
    return wfdb(np.concatenate([COUNTS, frank]), (*(x.lower() for x in LEADS), "vx", "vy", "vz"))


def with_gap(value: int, share: float) -> np.ndarray:
    counts = COUNTS.copy()
    counts[8, 1000 : 1000 + int(share * 5000 * 12)] = value
    return counts


WFDB: dict[str, Fault] = {
    "WFDB": Fault("a sound record", wfdb()),
    "WFDB, .mat": Fault("16-bit `.mat` with a header of 24 bytes", wfdb(form="16+24", suffix=".mat", head=bytes(24))),
    "WFDB, 12 of 15 signals": Fault("lower-case names, Frank leads besides", extra_leads()),
    "WFDB, baseline and gain per lead": Fault(
        "2 x counts + 100 in all leads", wfdb(COUNTS * 2 + 100, gain="400(100)/mV")
    ),
    "WFDB, µV": Fault("gain per µV", wfdb(gain="0.2/uV")),
    "WFDB, no unit": Fault("millivolts by convention", wfdb(gain="200")),
    "WFDB, 212": Fault("twelve-bit format", wfdb(np.clip(COUNTS, -2047, 2047), form="212"), tolerance=None),
    "WFDB, 24": Fault("24-bit format", wfdb(form="24")),
    "WFDB, 32": Fault("32-bit format", wfdb(form="32")),
    "WFDB, 100 Hz": Fault("100 samples per second", wfdb(at_rate(100), rate="100"), tolerance=None),
    "WFDB, 250 Hz": Fault("250 samples per second", wfdb(at_rate(250), rate="250"), tolerance=None),
    "WFDB, 1000 Hz": Fault("1000 samples per second", wfdb(at_rate(1000), rate="1000"), tolerance=12),
    "WFDB, counter frequency": Fault("`500/250(0)` as rate", wfdb(rate="500/250(0)")),
    "WFDB, a few missing samples": Fault(
        "50 samples of -32768", wfdb(with_gap(-32768, 50 / 60000)), flags=frozenset({"gaps"}), tolerance=None
    ),
    "WFDB, many missing samples": Fault("3 % of -32768", wfdb(with_gap(-32768, 0.03)), "bad_values"),
    "WFDB, checksums": Fault("stated and right", wfdb(change=with_checksums(COUNTS))),
    "WFDB, checksums, 212": Fault("stated and right in the twelve-bit format", wfdb(np.clip(COUNTS, -2047, 2047), form="212", change=with_checksums(np.clip(COUNTS, -2047, 2047))), tolerance=None),
    "WFDB, damaged": Fault("a sample changed, its checksum not", wfdb(damaged(), change=with_checksums(COUNTS)), "bad_checksum"),
    "WFDB, a lead twice, alike": Fault("V3 twice with the same samples", v3_twice(COUNTS[8])),
    "WFDB, a lead twice, unlike": Fault("V3 twice with other samples", v3_twice(COUNTS[7]), "duplicate_lead"),
    "WFDB, offsets": Fault("an offset of its own in every lead", wfdb(COUNTS + np.arange(12)[:, None] * 50), tolerance=1),
    "WFDB, another unit": Fault("volts for millivolts", wfdb(gain="200/V"), "bad_amplitude"),
    "WFDB, absurd gain": Fault("10^-320 counts per mV", wfdb(gain="1e-320/mV"), "bad_values"),
    "WFDB, Latin-1": Fault("the micro sign in one byte", wfdb(gain="0.2/\u00b5V", encoding="latin-1")),
    "WFDB, cut signal": Fault("half of the signal file", wfdb(cut=60000), "truncated"),
    "WFDB, no signal file": Fault("named in the header, not there", wfdb(change=lambda h: h.replace("rec.dat", "x.dat")), "missing_file"),
    "WFDB, empty header": Fault("no byte in it", wfdb(change=lambda h: ""), "empty_file"),
    "WFDB, cut header": Fault("five of twelve signal lines", wfdb(change=lambda h: "\n".join(h.splitlines()[:6])), "truncated"),
    "WFDB, path outside": Fault("`../rec.dat` as signal file", wfdb(change=lambda h: h.replace("rec.dat", "../rec.dat")), "bad_header"),
    "WFDB, several segments": Fault("a multi-segment record", wfdb(change=lambda h: h.replace("rec 12", "rec/3 12")), "unsupported_format"),
    "WFDB, unknown format": Fault("signal format 311", wfdb(change=lambda h: h.replace(" 16 200", " 311 200")), "unsupported_format"),
    "WFDB, skewed": Fault("samples of leads not simultaneous", wfdb(change=lambda h: h.replace(" 16 200", " 16:3 200")), "unsupported_format"),
    "WFDB, absurd rate": Fault("10^9 Hz", wfdb(rate="1000000000"), "bad_header"),
    "WFDB, absurd length": Fault("more samples announced than memory", wfdb(change=lambda h: h.replace(" 5000\n", " 999999999\n")), "too_large"),
    "WFDB, gain in words": Fault("no number where the gain stands", wfdb(change=lambda h: h.replace("200/mV", "high")), "bad_header"),
    "WFDB, mmHg": Fault("signals that are no voltage", wfdb(gain="200/mmHg"), "not_an_ecg"),
    "WFDB, V6 absent": Fault("eleven leads", wfdb(COUNTS[:11], LEADS[:11]), "missing_leads"),
    "WFDB, limb leads absent": Fault("I and II only", wfdb(COUNTS[[0, 1, *range(6, 12)]], (*LEADS[:2], *LEADS[6:])), flags=frozenset({"leads_derived"}), tolerance=2),
}  # fmt: skip

# --- MUSE ---------------------------------------------------------------------------------------------------------------

_EIGHT = (0, 1, 6, 7, 8, 9, 10, 11)


def muse(
    change: Callable[[str], str] = lambda text: text, leads: tuple[int, ...] = _EIGHT, counts: np.ndarray = COUNTS
) -> Callable[[Path], Path]:
    """A RestingECG file of the eight independent leads, its text changed."""

    def make(folder: Path) -> Path:
        blocks = []
        for i in leads:
            data = counts[i].astype("<i2").tobytes()
            blocks.append(
                f"<LeadData><LeadSampleCountTotal>5000</LeadSampleCountTotal><LeadAmplitudeUnitsPerBit>5</LeadAmplitudeUnitsPerBit>"
                f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadID>{LEADS[i]}</LeadID><LeadSampleSize>2</LeadSampleSize>"
                f"<LeadDataCRC32>{zlib.crc32(data)}</LeadDataCRC32><WaveFormData>\n{base64.encodebytes(data).decode()}</WaveFormData></LeadData>"
            )
        text = (
            '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>'
            "<Waveform><WaveformType>Rhythm</WaveformType><SampleBase>500</SampleBase><SampleExponent>0</SampleExponent>"
            + "".join(blocks) + "</Waveform></RestingECG>"
        )  # fmt: skip
        (folder / "muse.xml").write_text(change(text))
        return folder / "muse.xml"

    return make


def no_lead_i() -> np.ndarray:
    return COUNTS * (np.arange(12)[:, None] != 0)


def second_rhythm(text: str) -> str:
    """Another rhythm block behind the first, of twice the amplitude."""
    block = text[text.index("<Waveform>") : text.index("</RestingECG>")]
    other = block.replace(">5</LeadAmplitudeUnitsPerBit", ">10</LeadAmplitudeUnitsPerBit")
    return text.replace("</RestingECG>", other + "</RestingECG>")


_DERIVED = frozenset({"leads_derived"})
MUSE: dict[str, Fault] = {
    "MUSE": Fault("eight leads, four derived", muse(), flags=_DERIVED, tolerance=2),
    "MUSE, millivolts": Fault(
        "0.005 mV per bit", muse(lambda t: t.replace(">5</LeadAmplitudeUnitsPerBit", ">0.005</LeadAmplitudeUnitsPerBit").replace("MICRO", "MILLI")),
        flags=_DERIVED, tolerance=2,
    ),
    "MUSE, unknown unit": Fault("amplitude in furlongs", muse(lambda t: t.replace("MICROVOLTS", "FURLONGS")), "bad_header"),
    "MUSE, checksum": Fault("a sample changed, its checksum not", muse(lambda t: re.sub(r"(<WaveFormData>\n.{8}).", r"\1z", t, count=1)), "bad_checksum"),
    "MUSE, not base64": Fault("exclamation marks among the samples", muse(lambda t: t.replace("<WaveFormData>\n", "<WaveFormData>!!", 1)), "bad_number"),
    "MUSE, short": Fault("fewer samples than announced", muse(lambda t: t.replace(">5000<", ">5001<")), "truncated"),
    "MUSE, V1 absent": Fault("seven leads", muse(leads=(0, 1, 7, 8, 9, 10, 11)), "missing_leads"),
    "MUSE, II absent": Fault("one limb lead", muse(leads=(0, 6, 7, 8, 9, 10, 11)), "missing_leads"),
    "MUSE, I flat": Fault("lead I of zeros, from which others follow", muse(counts=no_lead_i()), "missing_leads"),
    "MUSE, two rhythm blocks": Fault("the first is taken", muse(second_rhythm), flags=_DERIVED, tolerance=2),
    "MUSE, another unit": Fault("5 mV per bit", muse(lambda t: t.replace("MICRO", "MILLI")), "bad_amplitude"),
    "MUSE, median beat without samples": Fault(
        "ours is taken", muse(lambda t: t.replace("</RestingECG>", "<Waveform><WaveformType>Median</WaveformType><SampleBase>500</SampleBase></Waveform></RestingECG>")),
        flags=_DERIVED | {"no_median_beat"}, tolerance=2,
    ),
    "MUSE, no rhythm": Fault("a median beat only", muse(lambda t: t.replace(">Rhythm<", ">Median<")), "no_strip"),
    "MUSE, rate absent": Fault("no SampleBase", muse(lambda t: t.replace("SampleBase", "Other")), "bad_header"),
    "MUSE, cut": Fault("half a file", muse(lambda t: t[: len(t) // 2]), "truncated"),
}  # fmt: skip

# --- DICOM --------------------------------------------------------------------------------------------------------------

_CODES = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def dicom_bytes(change: Callable[[Dataset], object] = lambda dataset: None) -> bytes:
    """A 12-lead ECG object, its data set changed."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta, dataset.SOPClassUID, dataset.SOPInstanceUID = meta, meta.MediaStorageSOPClassUID, "1.2.3.4"
    dataset.Modality = "ECG"
    group = Dataset()
    group.MultiplexGroupLabel, group.SamplingFrequency, group.WaveformOriginality = "RHYTHM", "500", "ORIGINAL"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = 12, 5000
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.ChannelDefinitionSequence = Sequence([_channel(name) for name in LEADS])
    group.add_new("WaveformData", "OW", COUNTS.T.astype("<i2").tobytes())
    dataset.WaveformSequence = Sequence([group])
    change(dataset)
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return out.getvalue()


def _channel(name: str) -> Dataset:
    channel, source, unit = Dataset(), Dataset(), Dataset()
    source.CodeValue, source.CodingSchemeDesignator, source.CodeMeaning = (
        f"5.6.3-9-{_CODES[name]}",
        "SCPECG",
        f"Lead {name}",
    )
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
    channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence = Sequence([source]), Sequence([unit])
    channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = "5", "1", "0"
    channel.WaveformBitsStored = 16
    return channel


def dicom(change: Callable[[Dataset], object] = lambda d: None, raw: Callable[[bytes], bytes] = lambda b: b):
    def make(folder: Path) -> Path:
        (folder / "ecg.dcm").write_bytes(raw(dicom_bytes(change)))
        return folder / "ecg.dcm"

    return make


def each_channel(change: Callable[[Dataset], object]) -> Callable[[Dataset], object]:
    return lambda dataset: [change(c) for c in dataset.WaveformSequence[0].ChannelDefinitionSequence]


def _by_meaning(channel: Dataset) -> None:
    channel.ChannelSourceSequence[0].CodeValue = "local"


def _in_mmhg(channel: Dataset) -> None:
    channel.ChannelSensitivityUnitsSequence[0].CodeValue = "mm[Hg]"


def _padded(dataset: Dataset) -> None:
    group, counts = dataset.WaveformSequence[0], COUNTS.T.copy()
    counts[1000:1020, 8] = 4000
    group.WaveformData = counts.astype("<i2").tobytes()
    group.add_new("WaveformPaddingValue", "OW", np.array(4000, "<i2").tobytes())


def _relabelled(dataset: Dataset) -> None:
    dataset.WaveformSequence[0].ChannelDefinitionSequence[8].ChannelSourceSequence[0].CodeValue = "5.6.3-9-4"


def _part(group: Dataset, channels: slice, **elements: object) -> Dataset:
    """Some channels of a group, as a group of their own."""
    part = copy.deepcopy(group)
    part.ChannelDefinitionSequence = Sequence(list(group.ChannelDefinitionSequence)[channels])
    part.NumberOfWaveformChannels = len(part.ChannelDefinitionSequence)
    part.WaveformData = COUNTS[channels].T.astype("<i2").tobytes()
    for name, value in elements.items():
        setattr(part, name, value)
    return part


def _limb_and_chest(dataset: Dataset) -> None:
    group = dataset.WaveformSequence[0]
    dataset.WaveformSequence = Sequence(
        [_part(group, channels, MultiplexGroupTimeOffset="0") for channels in (slice(0, 6), slice(6, 12))]
    )


def _with_long_strip(dataset: Dataset) -> None:
    samples = np.tile(COUNTS[1], 3).astype("<i2").tobytes()
    strip = _part(dataset.WaveformSequence[0], slice(1, 2), NumberOfWaveformSamples=15000, WaveformData=samples)
    dataset.WaveformSequence.append(strip)


def _broken_median(dataset: Dataset) -> None:
    dataset.WaveformSequence.append(
        _part(dataset.WaveformSequence[0], slice(0, 12), MultiplexGroupLabel="MEDIAN BEAT", WaveformData=bytes(100))
    )


def in_syntax(uid: str) -> Callable[[Dataset], object]:
    return lambda dataset: setattr(dataset.file_meta, "TransferSyntaxUID", uid)


def skewed(**skew: str) -> Callable[[Dataset], object]:
    """V1 sampled later than the other leads."""

    def change(dataset: Dataset) -> None:
        for k, channel in enumerate(dataset.WaveformSequence[0].ChannelDefinitionSequence):
            for name, value in skew.items():
                setattr(channel, name, value if k == 6 else "0")

    return change


DICOM: dict[str, Fault] = {
    "DICOM ECG": Fault("a sound waveform object", dicom()),
    "DICOM ECG, millivolts": Fault(
        "sensitivity 0.005 mV",
        dicom(each_channel(lambda c: (setattr(c, "ChannelSensitivity", "0.005"), setattr(c.ChannelSensitivityUnitsSequence[0], "CodeValue", "mV")))),
    ),
    "DICOM ECG, leads by meaning": Fault("`Lead V1` without a known code", dicom(each_channel(_by_meaning))),
    "DICOM ECG, other units": Fault("channels in mmHg", dicom(each_channel(_in_mmhg)), "not_an_ecg"),
    "DICOM ECG, cut": Fault("half the samples", dicom(raw=lambda b: b[: len(b) // 2]), "truncated"),
    "DICOM ECG, short": Fault("more samples announced than there are", dicom(lambda d: setattr(d.WaveformSequence[0], "NumberOfWaveformSamples", 6000)), "truncated"),
    "DICOM ECG, absurd rate": Fault("0 Hz", dicom(lambda d: setattr(d.WaveformSequence[0], "SamplingFrequency", "0")), "bad_header"),
    "DICOM without waveforms": Fault("an image under an ECG's name", dicom(lambda d: d.pop("WaveformSequence")), "not_an_ecg"),
    "DICOM ECG, padding": Fault("20 samples of the padding value", dicom(_padded), flags=frozenset({"gaps"}), tolerance=10),
    "DICOM ECG, a lead twice": Fault("two channels called V2", dicom(_relabelled), "duplicate_lead"),
    "DICOM ECG, limb and chest groups": Fault("six leads each, simultaneous", dicom(_limb_and_chest)),
    "DICOM ECG, a longer strip": Fault("30 s of lead II besides", dicom(_with_long_strip)),
    "DICOM ECG, broken median beat": Fault("ours is taken", dicom(_broken_median), flags=frozenset({"no_median_beat"})),
    "DICOM ECG, skewed samples": Fault("V1 30 samples late", dicom(skewed(ChannelSampleSkew="30")), "unsupported_format"),
    "DICOM ECG, skewed in time": Fault("V1 60 ms late", dicom(skewed(ChannelTimeSkew="0.06")), "unsupported_format"),
    "DICOM ECG, deflated": Fault("compressed as a whole, to any size", dicom(in_syntax(DeflatedExplicitVRLittleEndian)), "unsupported_format"),
    "DICOM ECG, big endian": Fault("the retired transfer syntax", dicom(in_syntax(ExplicitVRBigEndian)), "unsupported_format"),
}  # fmt: skip
