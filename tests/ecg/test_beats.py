"""R peaks and median beats where something is higher than the R wave: a T wave, a pacing spike."""

import dataclasses

import numpy as np
import pytest
from lxml import etree

from ptacl.ecg import phase, rpeaks
from ptacl.ecg.clean import CleanEcg, clean_ecg
from ptacl.ecg.magnitude import spatial_magnitude, without_pacing_spikes
from ptacl.ecg.readers.cardiosoft import read_cardiosoft
from ptacl.ecg.record import LIMB_FROM_I_II, EcgRecord
from ptacl.ecg.rpeaks import find_r_peaks
from ptacl.synthetic.cardiosoft import BEAT_R_SAMPLE, write_xml
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import Trace, qt_ms, simulate_trace

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}
SUBJECT = draw_subject(5, 0)
TRACE = simulate_trace(SUBJECT, np.random.default_rng(0))
T_MS = np.arange(5000) * 2.0


def with_counts(counts: np.ndarray) -> Trace:
    """The trace with other counts, whose limb leads follow from I and II."""
    counts[:6] = LIMB_FROM_I_II @ counts[:2]
    return dataclasses.replace(TRACE, counts=np.round(counts).astype(np.int16))


def high_t_waves(times: float = 7) -> Trace:
    window = sum(np.exp(-0.5 * ((T_MS - r - 270) / 80) ** 4) for r in TRACE.r_ms)
    return with_counts(TRACE.counts * (1 + (times - 1) * np.clip(window, 0, 1)))


def paced(millivolt: float, before_ms: float, samples: int = 1) -> Trace:
    counts = TRACE.counts.astype(float)
    for r in TRACE.r_ms:
        at = round((r - before_ms) / 2)
        counts[:, max(at, 0) : max(at + samples, 0)] += millivolt / 0.005
    return with_counts(counts)


def cleaned(trace: Trace, change=lambda root: None) -> CleanEcg:
    root = etree.fromstring(write_xml("9000001", SUBJECT, trace, np.random.default_rng(2)))
    change(root)
    return clean_ecg(read_cardiosoft(root), SETTINGS, "ukb")


def without_onsets(root: etree._Element) -> None:
    for name in ("QOnset", "QOffset"):
        root.find(f"RestingECGMeasurements/{name}").text = ""


@pytest.mark.parametrize("change", [lambda root: None, without_onsets], ids=["onset and offset", "steepest slope"])
def test_a_device_beat_is_aligned_on_r_though_its_t_wave_is_higher(change) -> None:
    trace = high_t_waves()
    record = read_cardiosoft(etree.fromstring(write_xml("9000001", SUBJECT, trace, np.random.default_rng(2))))
    beat = record.median_beat - np.median(record.median_beat, axis=1, keepdims=True)
    assert int(np.argmax(spatial_magnitude(beat))) > BEAT_R_SAMPLE + 60
    ecg = cleaned(trace, change)
    r = BEAT_R_SAMPLE + np.arange(-40, 41)
    shifts = [np.abs(beat[:, r + k] - beat[:, r + k].mean() - _centred(ecg)).sum() for k in range(-3, 4)]
    assert min(shifts) < 0.2 * np.abs(_centred(ecg)).sum()
    assert abs(ecg.t_end_ms - (qt_ms(SUBJECT) - TRACE.r_after_onset_ms)) < 30


def _centred(ecg: CleanEcg) -> np.ndarray:
    beat = ecg.median_beat[:, 160:241] * 0.005
    return beat - beat.mean()


def test_what_is_not_valid_is_no_part_of_a_device_beat() -> None:
    def noisy_ends(root: etree._Element) -> None:
        block = root.find("RestingECGMeasurements/MedianSamples")
        for element in block.iterfind("WaveformData"):
            counts = "".join(element.text.split()).split(",")
            element.text = ",".join(["3000"] * 60 + counts[60:560] + ["-3000"] * 40)
        etree.SubElement(block, "FirstValid").text, etree.SubElement(block, "LastValid").text = "60", "559"

    ecg, sound = cleaned(TRACE, noisy_ends), cleaned(TRACE)
    assert np.abs(ecg.median_beat[:, 20:520].astype(int) - sound.median_beat[:, 20:520]).max() <= 5
    assert np.abs(ecg.median_beat).max() < 1.1 * np.abs(sound.median_beat).max() and ecg.t_end_ms == sound.t_end_ms


@pytest.mark.parametrize("onset_offset", [(0, 0), (900, 400), (-5, 90), (400, 9000), (np.nan, np.nan)])
def test_an_impossible_onset_or_offset_is_not_used(onset_offset: tuple[float, float]) -> None:
    beat = np.zeros((12, 600))
    beat[:, 230:251] = np.bartlett(21)
    beat[:, 320:441] = 3 * np.hanning(121)
    assert phase.r_of_beat(beat, onset_offset) == 240


def test_an_onset_and_offset_say_where_r_is() -> None:
    beat = np.zeros((12, 600))
    beat[:, 230:251], beat[:, 330:351] = np.bartlett(21), 2 * np.bartlett(21)
    assert phase.r_of_beat(beat, (440.0, 520.0)) == 240 and phase.r_of_beat(beat, (640.0, 720.0)) == 340


@pytest.mark.parametrize(("millivolt", "before_ms", "samples"), [(4, 170, 1), (4, 50, 1), (8, 50, 2), (1, 50, 1)])
@pytest.mark.parametrize("device", [True, False])
def test_r_is_not_put_on_a_pacing_spike(millivolt: float, before_ms: float, samples: int, device: bool) -> None:
    trace = paced(millivolt, before_ms, samples)
    ecg, sound = (cleaned(t, (lambda root: None) if device else _without_measurements) for t in (trace, TRACE))
    assert len(ecg.r_peaks) == len(sound.r_peaks) and np.abs(ecg.r_peaks - sound.r_peaks).max() <= 3
    assert abs(ecg.t_end_ms - sound.t_end_ms) < 10
    assert np.abs(ecg.median_beat[:, 190:260].astype(int) - sound.median_beat[:, 190:260]).max() < 40


def _without_measurements(root: etree._Element) -> None:
    root.remove(root.find("RestingECGMeasurements"))
    for beat in root.findall("StripData/ArrhythmiaResults"):
        beat.getparent().remove(beat)


def test_a_strip_without_spikes_stays_as_it_is() -> None:
    np.testing.assert_array_equal(without_pacing_spikes(TRACE.counts * 0.005), TRACE.counts * 0.005)
    spiked = paced(4, 170).counts * 0.005
    assert np.abs(without_pacing_spikes(spiked) - TRACE.counts * 0.005).max() < 0.2


def two_waves() -> tuple[np.ndarray, np.ndarray]:
    """A strip in which the wave 300 ms after R is as high and as narrow as R itself; and its R peaks."""
    r = np.arange(200, 4800, 500)
    strip = np.zeros((12, 5000))
    for at in (*r, *(r + 150)):
        strip[:, at - 10 : at + 11] = np.bartlett(21)
    return strip, r


@pytest.mark.parametrize(("lag_ms", "first_stands"), [(16, False), (316, True)])
def test_beats_that_lie_elsewhere_than_the_devices_are_doubted(monkeypatch, lag_ms: int, first_stands: bool) -> None:
    strip, r = two_waves()
    monkeypatch.setattr(rpeaks, "_sleepecg", lambda signal, rate_hz: r + 150)
    monkeypatch.setattr(rpeaks, "_xqrs", lambda signal, rate_hz: r)
    record = EcgRecord("test", 500.0, strip, np.ones(12, bool), beat_times_ms=r * 2.0 + lag_ms)
    found = find_r_peaks(strip, 500, record, np.ones(12, bool))
    assert found.samples.tolist() == (r + 150 * first_stands).tolist()
    assert found.lag_ms == 16 and found.beats_matched == 1 and not found.shifted


def test_beats_that_stay_elsewhere_are_flagged() -> None:
    def later(root: etree._Element) -> None:
        for time in root.iterfind("StripData/ArrhythmiaResults/Time"):
            time.text = str(int(time.text) + 250)

    assert "beats_shifted" in cleaned(TRACE, later).flags and "beats_shifted" not in cleaned(TRACE).flags
    assert cleaned(TRACE).phase_ok and not cleaned(TRACE, later).phase_ok
