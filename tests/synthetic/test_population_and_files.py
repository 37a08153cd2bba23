"""The synthetic cohort: the population that it promises, and files that hold the truth."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ptacl.ecg import read_ecg
from ptacl.synthetic.cardiosoft import write_xml
from ptacl.synthetic.faults import KINDS, plan_faults
from ptacl.synthetic.latents import NAMES, draw_subject, phenotypes
from ptacl.synthetic.stage import build_synthetic_cohort
from ptacl.synthetic.trace import simulate_trace

PEOPLE = [draw_subject(2026, i) for i in range(3000)]
TRUTH = {k: np.array([phenotypes(s.latents)[k] for s in PEOPLE]) for k in phenotypes(PEOPLE[0].latents)}


def r2(y: np.ndarray, p: np.ndarray) -> float:
    return 1 - np.mean((y - p) ** 2) / np.var(y)


def test_the_population_is_that_of_the_specification() -> None:
    men = np.array([s.sex == "M" for s in PEOPLE])
    assert men.mean() == pytest.approx(0.48, abs=0.03)
    for name, sd in (("LVEDV", 31.5), ("LVESV", 17.9), ("LVEF", 5.8), ("LVM", 22.4), ("RVEDV", 35.1)):
        assert TRUTH[name].std() == pytest.approx(sd, rel=0.08)
    sex_only = np.where(men, TRUTH["LVM"][men].mean(), TRUTH["LVM"][~men].mean())
    assert r2(TRUTH["LVM"], sex_only) == pytest.approx(0.47, abs=0.05)


def test_a_person_is_the_same_in_any_cohort_and_grows_older_between_visits() -> None:
    assert draw_subject(2026, 17) == PEOPLE[17]
    assert draw_subject(2027, 17) != PEOPLE[17]
    later = draw_subject(2026, 17, visit=3)
    assert later.age_years == pytest.approx(PEOPLE[17].age_years + 2.5, abs=0.01)
    a, b = ([draw_subject(2026, i, v)["g"] for i in range(500)] for v in (2, 3))
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("index", range(8))
def test_limb_leads_obey_einthoven_in_whole_counts(index: int) -> None:
    one, two, three, avr, avl, avf = simulate_trace(PEOPLE[index], np.random.default_rng(index)).counts[:6].astype(int)
    assert not (one + three - two).any()
    for lead, doubled in ((avr, -(one + two)), (avl, 2 * one - two), (avf, 2 * two - one)):
        assert np.abs(2 * lead - doubled).max() <= 1


def test_the_xml_holds_the_trace_and_plausible_measurements(tmp_path: Path) -> None:
    subject, rng = PEOPLE[0], np.random.default_rng(0)
    trace = simulate_trace(subject, rng)
    (tmp_path / "x.xml").write_bytes(write_xml("9000001", subject, trace, rng))
    record = read_ecg(tmp_path / "x.xml")
    assert np.array_equal(np.round(record.signal / 0.005), trace.counts)
    assert record.measurements["ventricular_rate_bpm"] == pytest.approx(60000 / trace.rr_ms, abs=1)
    assert record.measurements["qrs_ms"] == pytest.approx(np.exp(subject["lnQRSd"]), rel=0.2)
    assert np.abs(record.beat_times_ms - trace.r_ms - 16).max() <= 1
    assert record.median_beat.shape == (12, 600)


def test_every_kind_of_fault_is_planted_in_a_cohort_of_the_demos_size() -> None:
    plan = plan_faults(2026, 1300, 0.03)
    assert set(plan.values()) == set(KINDS) and len(plan) == 39
    assert plan_faults(2026, 1300, 0.03) == plan
    assert plan_faults(1, 50, 0.0) == {}


def test_the_same_settings_are_the_same_bytes_in_any_number_of_processes(tmp_path: Path) -> None:
    settings = {"subjects": 10, "seed": 3, "size": "small", "fault_rate": 0.2}
    build_synthetic_cohort(settings, tmp_path / "a", processes=1)
    build_synthetic_cohort(settings, tmp_path / "b", processes=2)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(tmp_path / "b") for p in (tmp_path / "b").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)
    truth = pq.read_table(tmp_path / "a" / "truth.parquet").to_pylist()
    assert {f"latent_{n}" for n in NAMES} <= truth[0].keys()
    assert all(int(r["subject_id"]) >= 9_000_001 for r in truth)


def test_files_of_other_settings_are_removed(tmp_path: Path) -> None:
    settings = {"subjects": 4, "seed": 3, "size": "small", "fault_rate": 0.0}
    build_synthetic_cohort(settings, tmp_path, processes=1)
    build_synthetic_cohort(settings | {"subjects": 2}, tmp_path, processes=1)
    assert {p.name[:7] for p in (tmp_path / "ecg").iterdir()} == {"9000001", "9000002"}
