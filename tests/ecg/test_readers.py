"""ECG files, real, odd and hostile: read right, or refused with a reason."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ptacl.ecg import LEADS, read_ecg
from ptacl.ecg.clean import clean_ecg
from ptacl.ecg.inspect import describe
from ptacl.ecg.readers.cardiosoft import parse_counts
from ptacl.ecg.readers.wfdb import parse_header
from ptacl.errors import UnreadableEcg, UnusableEcg
from ptacl.synthetic.cardiosoft import write_xml
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import simulate_trace
from tests.faults.ecg_faults import COUNTS, dicom, each_channel, in_syntax, muse, with_checksums
from tests.faults.ecg_faults import wfdb as wfdb_record

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}
SUBJECT = draw_subject(2026, 3)
TRACE = simulate_trace(SUBJECT, np.random.default_rng(1))


def xml(tmp_path: Path, change=lambda text: text, faults: frozenset[str] = frozenset()) -> Path:
    """A CardioSoft file, its text changed."""
    data = write_xml("9000001", SUBJECT, TRACE, np.random.default_rng(2), faults)
    path = tmp_path / "ecg.xml"
    path.write_bytes(change(data.decode("latin-1")).encode("latin-1"))
    return path


def reason(path: Path, source: str = "ukb") -> str | None:
    try:
        clean_ecg(read_ecg(path), SETTINGS, source)
    except (UnreadableEcg, UnusableEcg) as e:
        return e.code
    return None


def test_wfdb_records_are_read_as_the_reference_library_reads_them(shared_data) -> None:
    import wfdb

    headers = sorted(shared_data("challenge2021-wfdb").glob("*.hea"))
    headers += [*shared_data("ptb-wfdb").glob("*.hea"), *shared_data("ptbxl-100hz-wfdb").glob("*.hea")]
    assert len(headers) > 20
    for header in headers:
        ours, theirs = read_ecg(header), wfdb.rdrecord(str(header.with_suffix("")))
        names = [n.upper() for n in theirs.sig_name]
        assert ours.rate_hz == theirs.fs
        for i, lead in enumerate(LEADS):
            np.testing.assert_allclose(ours.signal[i], theirs.p_signal[:, names.index(lead.upper())], atol=1e-4)


def test_the_real_cardiosoft_file_agrees_with_its_device(shared_data) -> None:
    path = shared_data("ecgprocess-cardiosoft") / "example-XML1.xml"
    record = read_ecg(path)
    assert record.present.all() and record.signal.shape == (12, 5000) and record.rate_hz == 500
    one, two, three, avr, avl, avf = record.signal[:6]
    assert np.abs(one + three - two).max() < 1e-6
    for lead, expected in ((avr, -(one + two) / 2), (avl, one - two / 2), (avf, two - one / 2)):
        assert np.abs(lead - expected).max() <= 0.005
    ecg = clean_ecg(record, SETTINGS, "ukb")
    assert record.measurements["ventricular_rate_bpm"] == 50
    assert abs(ecg.heart_rate_bpm - 50) < 2
    # The device's beat times lie about 16 ms after the R peak.
    late = record.beat_times_ms[:, None] - ecg.r_peaks * 2
    assert np.abs(np.abs(late).min(1) - 16).max() < 34
    root = ET.parse(path).getroot()
    values = root.find("StripData/WaveformData[@lead='V3']").text.split(",")
    assert np.array_equal(np.round(record.signal[8] / 0.005), [int(v) for v in values])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: "", "empty_file"),
        (lambda t: t[: len(t) // 2], "truncated"),
        (lambda t: t[:300], "truncated"),
        (lambda t: t.replace("RestECG", "ExerciseECG"), "exercise_ecg"),
        (lambda t: t.replace("StripData", "OtherData"), "no_strip"),
        (lambda t: t.replace("CardiologyXML", "RestingECG"), "no_strip"),
        (lambda t: t.replace("CardiologyXML", "Report"), "not_an_ecg"),
        (lambda t: "hello", "not_an_ecg"),
        (lambda t: t.replace('lead="V3"', 'lead="X3"'), "missing_leads"),
        (lambda t: t.replace("<SampleRate units=\"Hz\">500", "<SampleRate units=\"Hz\">x"), "bad_header"),
        (lambda t: t.replace("uVperLsb", "furlongs"), "bad_header"),
        (lambda t: t.replace("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>",
                             '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'), "hostile_xml"),
    ],
)  # fmt: skip
def test_an_unusable_xml_has_its_reason(tmp_path: Path, change, expected: str) -> None:
    assert reason(xml(tmp_path, change)) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("ISO-8859-1", "ISO8859-1"),
        lambda t: t.replace("SYNTHETIC", "50° µV"),
        lambda t: t.replace('lead="aVR"', 'lead="AVR"').replace('lead="V1"', 'lead=" v1"'),
        lambda t: t.replace("?>", '?><!DOCTYPE restecg SYSTEM "http://127.0.0.1:9/restecg.dtd">'),
        lambda t: t.replace("<StripData>", "<StripData><Strip>").replace("</StripData>", "</Strip></StripData>"),
        lambda t: t.replace('units="uVperLsb">5<', 'units="mVperLsb">0.005<'),
        lambda t: t.replace("<QTInterval", "<QTNothing").replace("</QTInterval", "</QTNothing"),
    ],
)
def test_harmless_oddities_change_nothing(tmp_path: Path, change) -> None:
    record = read_ecg(xml(tmp_path, change))
    np.testing.assert_allclose(record.signal, TRACE.counts * 0.005, atol=1e-4)


def test_a_missing_limb_lead_is_derived_from_the_others(tmp_path: Path) -> None:
    path = xml(tmp_path, lambda t: t.replace('lead="aVL"', 'lead="none"').replace('lead="I"', 'lead="nor"'))
    ecg = clean_ecg(read_ecg(path), SETTINGS, "ukb")
    whole = clean_ecg(read_ecg(xml(tmp_path)), SETTINGS, "ukb")
    assert "leads_derived" in ecg.flags
    assert np.abs(ecg.counts.astype(int) - whole.counts).max() <= 3


def test_a_blank_sample_is_a_gap_and_a_trailing_comma_is_dropped() -> None:
    flags: set[str] = set()
    values = parse_counts(" 1,\n\t-2,,4, \n", flags)
    assert flags == {"gaps", "trailing_comma"}
    np.testing.assert_array_equal(values, [1, -2, np.nan, 4])


@pytest.mark.parametrize("text", ["1,-,3", "1,2;3", "1,nan,2", "1,inf", "1e999,2", "0x10,1", "1_000,2"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UnreadableEcg, match="bad_number"):
        parse_counts(text, set())


@pytest.mark.parametrize("text", ["1,32768", "-32769,1", "70000"])
def test_what_16_bits_cannot_hold_is_refused(text: str) -> None:
    with pytest.raises(UnreadableEcg, match="bad_number"):
        parse_counts(text, set())


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50), st.sampled_from(["", "\n", "\t ", " "]))
def test_numbers_come_back_whatever_the_white_space(numbers: list[int], space: str) -> None:
    text = f",{space}".join(map(str, numbers)) + space
    assert parse_counts(text, set()).tolist() == numbers


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_any_bytes_are_a_header_or_an_unreadable_ecg(data: bytes) -> None:
    for prefix in (b"", b"r 12 500 5000\n", b"r 1 500 10\nr.dat 16 "):
        try:
            parse_header(prefix + data)
        except UnreadableEcg:
            pass


def test_a_header_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    header = tmp_path / "r.hea"
    for name in ("../secret.dat", "/etc/passwd", "a\\b.dat"):
        header.write_text(f"r 1 500 5000\n{name} 16 1000/mV 16 0 0 0 0 II\n")
        assert reason(header) == "bad_header"


@pytest.mark.parametrize(
    ("samples", "rate", "source", "expected"),
    [(4990, 500, "ukb", None), (4900, 500, "ukb", "too_short"), (6000, 500, "ukb", "wrong_length"),
     (6000, 500, "table", None), (2500, 250, "table", None), (10000, 1000, "table", None)],
)  # fmt: skip
def test_length_and_rate_decide_by_source(tmp_path: Path, samples: int, rate: int, source: str, expected) -> None:
    record = read_ecg(xml(tmp_path))
    x = np.arange(samples) * 500 / rate
    record.signal = np.array([np.interp(x, np.arange(5000), s) for s in record.signal], np.float32)
    record.rate_hz = float(rate)
    try:
        ecg = clean_ecg(record, SETTINGS, source)
        found = None
        assert ecg.counts.shape == (12, 5000)
        if rate != 500:  # same beats on another grid
            whole = clean_ecg(read_ecg(xml(tmp_path)), SETTINGS, source)
            assert np.abs(ecg.r_peaks - whole.r_peaks).max() <= 4
    except UnusableEcg as e:
        found = e.code
    assert found == expected


def test_flat_leads_are_flagged_and_four_of_them_refused(tmp_path: Path) -> None:
    record = read_ecg(xml(tmp_path))
    record.signal[[7, 9, 11]] = 0.1
    ecg = clean_ecg(record, SETTINGS, "ukb")
    assert "flat_lead" in ecg.flags and not ecg.lead_mask[[7, 9, 11]].any() and not ecg.counts[[7, 9, 11]].any()
    record.signal[10] = 0
    with pytest.raises(UnusableEcg, match="flat_leads"):
        clean_ecg(record, SETTINGS, "ukb")


def test_limb_leads_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    record = read_ecg(xml(tmp_path))
    for gain, expected in ((1.0, set()), (1.1, {"einthoven"})):
        record.signal[1] *= gain
        assert clean_ecg(record, SETTINGS, "ukb").flags & {"einthoven"} == expected
    record.signal[1] *= 1.5
    with pytest.raises(UnusableEcg, match="einthoven"):
        clean_ecg(record, SETTINGS, "ukb")


def test_policies_drop_what_the_study_does_not_want(tmp_path: Path) -> None:
    path = xml(tmp_path, faults=frozenset({"pacemaker_text"}))
    assert "pacemaker" in clean_ecg(read_ecg(path), SETTINGS, "ukb").flags
    with pytest.raises(UnusableEcg, match="pacemaker"):
        clean_ecg(read_ecg(path), SETTINGS | {"pacemaker": "drop"}, "ukb")


def test_inspect_counts_on_the_files_own_grid(shared_data) -> None:
    found = describe(shared_data("ptbxl-100hz-wfdb") / "00001_lr.hea")
    assert set(found) == {
        "kind", "format", "leads", "rate_hz", "n_samples", "heart_rate_bpm", "n_beats", "r_peaks", "flags", "usable",
        "reason",
    }  # fmt: skip
    assert (found["rate_hz"], found["n_samples"], found["n_beats"]) == (100, 1000, len(found["r_peaks"]))
    assert max(found["r_peaks"]) < 1000


def test_muse_recordings_agree_with_their_device(shared_data) -> None:
    for folder in ("braveheart-muse", "easyrecg-muse"):
        for path in shared_data(folder).glob("*.xml"):
            record = read_ecg(path)
            ecg = clean_ecg(record, SETTINGS, "table")
            assert record.present.tolist() == [True, True, False, False, False, False] + [True] * 6
            assert "leads_derived" in ecg.flags and ecg.lead_mask.all()
            assert abs(ecg.heart_rate_bpm - record.measurements["ventricular_rate_bpm"]) < 2
            assert len(ecg.r_peaks) == record.measurements["n_qrs"] and ecg.beats_matched == 1
            # Derived limb leads obey Einthoven and Goldberger, in the strip and in the device's median beat.
            for one, two, three, avr, avl, avf in (ecg.counts[:6].astype(int), ecg.median_beat[:6].astype(int)):
                residuals = (one + three - two, avr + (one + two) / 2, avl - one + two / 2, avf - two + one / 2)
                assert max(np.abs(r).max() for r in residuals) <= 60  # baselines are removed lead by lead


def test_a_dicom_recording_is_read_as_pydicom_reads_it() -> None:
    import pydicom
    from pydicom.data import get_testdata_file

    path = Path(get_testdata_file("waveform_ecg.dcm", download=False))
    record, dataset = read_ecg(path), pydicom.dcmread(path)
    assert (record.format, record.rate_hz, record.n_samples) == ("dicom-ecg", 1000, 10000)
    microvolt = dataset.waveform_array(0).T
    np.testing.assert_allclose(record.signal, microvolt / 1000, atol=1e-6)
    ecg = clean_ecg(record, SETTINGS, "table")
    assert abs(ecg.heart_rate_bpm - 60000 / record.measurements["rr_ms"]) < 2
    assert record.measurements["qrs_ms"] == 75 and "sinus_rhythm" in record.statements


def test_measurements_of_zero_and_less_are_not_measured(tmp_path: Path) -> None:
    def zero(text: str) -> str:
        for name, value in (("PQInterval", 0), ("QTInterval", -1), ("VentricularRate", 0), ("QRSNum", 0), ("PAxis", 0)):
            text = re.sub(rf"(<{name}[^>]*>)[^<]*<", rf"\g<1>{value}<", text)
        return text

    found = read_ecg(xml(tmp_path, zero)).measurements
    assert np.isnan([found[k] for k in ("pq_ms", "qt_ms", "ventricular_rate_bpm", "n_qrs")]).all()
    assert found["p_axis_deg"] == 0 and found["qrs_ms"] > 0


_ZERO = "".join(
    f"<{name}>{value}</{name}>"
    for name, value in {"PRInterval": 0, "QRSDuration": 90, "RAxis": 0, "POnset": 0, "POffset": 0, "QOnset": 216,
                        "QOffset": 264, "TOffset": 0, "ECGSampleBase": 500}.items()
)  # fmt: skip


def test_muse_onsets_are_samples_and_its_zeros_are_not_measured(tmp_path: Path) -> None:
    block = f"<RestingECG><RestingECGMeasurements>{_ZERO}</RestingECGMeasurements>"
    found = read_ecg(muse(lambda t: t.replace("<RestingECG>", block))(tmp_path)).measurements
    assert (found["q_onset_ms"], found["q_offset_ms"], found["qrs_ms"], found["r_axis_deg"]) == (432, 528, 90, 0)
    assert np.isnan([found[k] for k in ("pq_ms", "p_duration_ms", "t_offset_ms")]).all()


@pytest.mark.parametrize(
    ("text", "expected"), [("60", {60}), ("50 HZ", {50}), ("NONE", set()), ("", set()), ("40", set())]
)
def test_the_mains_filter_of_a_muse_file(tmp_path: Path, text: str, expected: set[int]) -> None:
    path = muse(lambda t: t.replace("<SampleBase>", f"<ACFilter>{text}</ACFilter><SampleBase>"))(tmp_path)
    assert read_ecg(path).mains_filter_hz == expected


@pytest.mark.parametrize(
    ("notch", "expected"), [(["50"] * 12, {50}), (["50"] * 11 + ["0"], set()), (["0"] * 12, set())]
)
def test_the_mains_filter_of_a_dicom_file(tmp_path: Path, notch: list[str], expected: set[int]) -> None:
    values = iter(notch)
    path = dicom(each_channel(lambda c: setattr(c, "NotchFilterFrequency", next(values))))(tmp_path)
    assert read_ecg(path).mains_filter_hz == expected


def test_dicom_intervals_of_zero_and_less_are_not_measured(tmp_path: Path) -> None:
    def annotate(dataset) -> None:
        dataset.WaveformAnnotationSequence = [
            _annotation(n, v) for n, v in (("QT Interval", "-1"), ("QRS Axis", "-30"))
        ]

    found = read_ecg(dicom(annotate)(tmp_path)).measurements
    assert "qt_ms" not in found and found["r_axis_deg"] == -30


def _annotation(name: str, value: str):
    from pydicom.dataset import Dataset

    annotation, concept = Dataset(), Dataset()
    concept.CodeMeaning, annotation.NumericValue = name, value
    annotation.ConceptNameCodeSequence = [concept]
    return annotation


@pytest.mark.parametrize(
    ("error", "expected"),
    [(PermissionError, "unreadable"), (TimeoutError, "unreadable"), (FileNotFoundError, "missing_file"),
     (IsADirectoryError, "missing_file"), (NotADirectoryError, "missing_file")],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_not_called_missing(tmp_path: Path, monkeypatch, error, expected: str) -> None:
    path = xml(tmp_path)
    monkeypatch.setattr(Path, "open", lambda *a, **k: (_ for _ in ()).throw(error()))
    assert reason(path) == expected


def test_the_checksum_is_that_of_the_reference_library(tmp_path: Path) -> None:
    import wfdb

    header = wfdb_record(change=with_checksums(COUNTS))(tmp_path)
    record = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    assert [c % 2**16 for c in record.checksum] == record.calc_checksum()
    assert reason(header) is None


def test_a_deflated_data_set_is_refused_before_it_is_inflated(tmp_path: Path, monkeypatch) -> None:
    import pydicom

    path = dicom(in_syntax(DeflatedExplicitVRLittleEndian))(tmp_path)
    monkeypatch.setattr(pydicom, "dcmread", lambda *a, **k: pytest.fail("the data set was read"))
    assert reason(path) == "unsupported_format"
