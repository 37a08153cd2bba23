"""Baseline, beats and phase: by their physics and by reference."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from ptacl.ecg import phase
from ptacl.ecg.baseline import ASYMMETRY, ITERATIONS, baseline, smoothing_of_corner
from ptacl.ecg.clean import clean_ecg
from ptacl.ecg.record import EcgRecord
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import simulate_trace

SETTINGS = {"corner_hz": 0.6, "mains_hz": 0, "poor_quality": "keep", "pacemaker": "keep"}


def test_the_banded_solver_equals_a_general_sparse_one() -> None:
    y = np.cumsum(np.random.default_rng(0).standard_normal(400))
    lam = smoothing_of_corner(0.6, 500)
    d = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(398, 400))
    weight = np.full(400, 0.5)
    for _ in range(ITERATIONS):
        z = spsolve((sparse.diags(weight) + lam * d.T @ d).tocsc(), weight * y)
        weight = np.where(y > z, ASYMMETRY, 1 - ASYMMETRY)
    np.testing.assert_allclose(baseline(y[None], lam)[0], z, atol=1e-4)


@pytest.mark.parametrize("rate", [250, 500])
def test_the_corner_is_the_frequency_of_half_amplitude(rate: int) -> None:
    t = np.arange(40 * rate) / rate
    for hz, low, high in ((0.3, 0.85, 1.0), (0.6, 0.4, 0.6), (1.2, 0.0, 0.12)):
        wave = np.sin(2 * np.pi * hz * t)
        kept = baseline(wave[None], smoothing_of_corner(0.6, rate), p=0.5)[0]
        gain = np.dot(kept, wave) / np.dot(wave, wave)
        assert low <= gain <= high


@pytest.mark.parametrize("index", range(12))
def test_r_peaks_are_where_the_simulation_put_them(index: int) -> None:
    subject = draw_subject(5, index)
    trace = simulate_trace(subject, np.random.default_rng(index))
    record = EcgRecord("test", 500.0, (trace.counts * 0.005).astype(np.float32), np.ones(12, bool))
    ecg = clean_ecg(record, SETTINGS, "ukb")
    inner = trace.r_ms[(trace.r_ms > 300) & (trace.r_ms < 9700)]
    assert np.abs(ecg.r_peaks[:, None] * 2 - inner).min(0).max() < 30
    assert abs(len(ecg.r_peaks) - len(trace.r_ms)) <= 1


def test_phase_runs_from_peak_to_peak_and_is_unknown_elsewhere() -> None:
    peaks = np.array([100.0, 500, 900, 1300])
    found = phase.phase_of(np.array([50.0, 100, 300, 899, 1299, 1300]), peaks)
    np.testing.assert_allclose(found, [np.nan, 0, 0.5, 399 / 400, 399 / 400, np.nan])


def test_a_beat_of_another_length_has_no_phase() -> None:
    peaks = np.array([0.0, 400, 800, 1300, 1700])
    assert phase.complete_beats(peaks).tolist() == [True, True, False, True]
    assert np.isnan(phase.phase_of(np.array([1000.0]), peaks))[0]


@pytest.mark.parametrize(
    ("rr", "ok"),
    [([400, 402, 398, 401], True), ([400, 520, 300, 450, 280], False), ([400], False), ([], False), ([400, 400], True)],
)
def test_phase_needs_two_beats_and_a_steady_rhythm(rr: list[int], ok: bool) -> None:
    assert phase.phase_ok(np.cumsum([100, *rr]).astype(float)) is ok


def test_the_median_beat_has_its_r_peak_at_sample_200() -> None:
    trace = simulate_trace(draw_subject(5, 0), np.random.default_rng(0))
    record = EcgRecord("test", 500.0, (trace.counts * 0.005).astype(np.float32), np.ones(12, bool))
    beat = clean_ecg(record, SETTINGS, "ukb").median_beat
    assert abs(int(np.argmax(np.square(beat.astype(float)).sum(0))) - 200) <= 2


def test_resampling_keeps_a_slow_wave_and_removes_what_aliases() -> None:
    t = np.arange(10_000) / 1000
    slow, fast = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 400 * t)
    trace = simulate_trace(draw_subject(5, 0), np.random.default_rng(0))
    base = np.repeat(trace.counts * 0.005, 2, axis=1)
    counts = []
    for extra in (0 * slow, fast):
        record = EcgRecord("test", 1000.0, (base + extra).astype(np.float32), np.ones(12, bool))
        record.signal[3:6] = np.array([[-0.5, -0.5], [1, -0.5], [-0.5, 1]]) @ record.signal[:2]
        record.signal[2] = record.signal[1] - record.signal[0]
        counts.append(clean_ecg(record, SETTINGS, "table").counts.astype(int))
    assert np.abs(counts[0][6:] - counts[1][6:])[:, 50:-50].max() < 20  # 0.1 of 1 mV
