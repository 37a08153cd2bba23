"""The gallery: who is shown beside an ECG, and what is said of them."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ptacl.report.gallery import FOUND, Searched, _chosen, _query, _spread_over, build_gallery
from ptacl.stages import stage_settings

EMBEDDINGS = "embeddings/{}/seed0.parquet"


def build(results: Path, config: dict, method: str = "ptacl") -> str:
    out = results / "gallery/index.html"
    build_gallery(results, stage_settings(config, "gallery"), results / EMBEDDINGS.format(method), out)
    return out.read_text()


def embeddings(results: Path, method: str = "ptacl") -> list[dict]:
    rows = pq.read_table(results / EMBEDDINGS.format(method)).to_pylist()
    return sorted((r for r in rows if r["split"] == "test"), key=lambda r: r["subject_id"])


def unit(rows: list[dict], name: str) -> np.ndarray:
    x = np.array([r[name] for r in rows])
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_those_found_are_the_nearest_by_cosine_without_the_query(default) -> None:
    results, config = default
    of, rows = Searched(results, results / EMBEDDINGS.format("ptacl")), embeddings(results)
    cosine = unit(rows, "ecg_proj") @ unit(rows, "cmr_proj").T
    subjects = {r["subject_id"]: r for r in pq.read_table(results / "cohort/subjects.parquet").to_pylist()}
    assert [p["subject_id"] for p in of.pairs] == [r["subject_id"] for r in rows]
    for i in (0, 7, 19):
        q = _query(of, i, "A", "why", ["LVEDV", "LVEF"], results)
        order = [j for j in np.argsort(-cosine[i]) if j != i][:FOUND]
        assert q.similarity == [f"{cosine[i, j]:.2f}".replace("-", "\u2212") for j in order]
        assert q.own_place == 1 + sum(cosine[i, j] > cosine[i, i] for j in range(len(rows)))
        line = q.lines[0]
        assert [v.text for v in line.found] == [f"{subjects[rows[j]['subject_id']]['LVEDV']:.0f}" for j in order]


def test_alike_is_within_half_a_standard_deviation_of_the_training_split(default) -> None:
    results, _ = default
    of = Searched(results, results / EMBEDDINGS.format("ptacl"))
    subjects = pq.read_table(results / "cohort/subjects.parquet").to_pylist()
    train = [s for s in subjects if s["split"] == "train"]
    test = [s for s in subjects if s["split"] == "test"]
    q = _query(of, 3, "A", "why", ["LVEDV", "LVEF"], results)
    alike, chance = 0, 0.0
    order = [j for j in np.argsort(-(of.gallery @ of.query[3])) if j != 3][:FOUND]
    for line, name in zip(q.lines, ("LVEDV", "LVEF"), strict=False):
        near = [abs(s[name] - test[3][name]) <= 0.5 * np.std([t[name] for t in train]) for s in test]
        assert [v.alike for v in line.found] == [near[j] for j in order]
        share = (sum(near) - 1) / (len(test) - 1)
        assert line.by_chance == f"{100 * share:.0f} %"
        alike, chance = alike + sum(near[j] for j in order), chance + FOUND * share
    assert (q.alike, q.compared) == (alike, 2 * FOUND) and q.by_chance == pytest.approx(chance)


def test_queries_are_spread_from_the_lowest_ejection_fraction_to_the_highest(default) -> None:
    results, _ = default
    of = Searched(results, results / EMBEDDINGS.format("ptacl"))
    chosen = _chosen(of, _spread_over(of, ["LVEDV", "LVEF"], 5), 5)
    values = [of.subjects[i]["LVEF"] for i, _ in chosen]
    everybody = sorted(s["LVEF"] for s in of.subjects)
    assert len(chosen) == 5 and values == sorted(values)
    assert (values[0], values[-1]) == (everybody[0], everybody[-1])
    assert chosen[0][1] == "LV ejection fraction, place 1 of 20 from the lowest"


def test_where_few_have_an_ejection_fraction_queries_are_spread_over_what_most_have(default) -> None:
    results, _ = default
    of = Searched(results, results / EMBEDDINGS.format("ptacl"))
    for subject in of.subjects[4:]:
        subject["LVEF"] = None
    for subject in of.subjects[12:]:
        subject["LVM"] = None
    assert _spread_over(of, ["LVEF", "LVM", "LVEDV"], 5) == "LVEDV"
    assert _spread_over(of, ["LVEF", "LVM"], 5) == "LVM" and _spread_over(of, ["LVEF", "LVM"], 4) == "LVEF"
    assert len(_chosen(of, "LVEDV", 5)) == 5 and _spread_over(of, [], 5) is None


def test_the_page_names_nobody_and_says_that_it_is_private(default) -> None:
    page = build(*default)
    assert not re.search(r"(?<!\d)9000\d{3}(?!\d)", page)
    assert page.count("<section") == 5 and "Private: this page shows individuals" in page
    assert page.count('class="sprite"') == 5 * 6
    assert "compared with the cines of all 20 people" in page


def test_a_method_without_cines_compares_ecgs(default) -> None:
    page = build(*default, method="mae")
    assert "with the ECGs of the other 19 people" in page and "own cine would come in" not in page


@pytest.mark.parametrize(("splits", "sections"), [((10, 2, 2, 0), 1), ((10, 2, 2, 1), 1), ((10, 2, 2, 3), 3)])
def test_few_or_no_people_make_a_page(study, splits: tuple, sections: int) -> None:
    page = build(*study(splits=splits))
    assert page.count("<section") == sections
    assert ("too small" in page) == (splits[3] < 2)
    assert ("shown are the 2 whose" in page) == (splits[3] == 3)


def test_without_phenotypes_cines_are_shown_all_the_same(study) -> None:
    page = build(*study(phenotypes=False))
    assert page.count('class="sprite"') == 30 and "by the order of the ids" in page and "from the lowest" not in page


def test_a_persons_later_visit_is_not_found_for_the_first(study) -> None:
    results, config = study()
    path = results / EMBEDDINGS.format("ptacl")
    table = pq.read_table(path).to_pylist()
    for r in table[-2:]:
        assert r["split"] == "test"
    for name in ("pairs/pairs.parquet", "cohort/subjects.parquet", EMBEDDINGS.format("ptacl")):
        old = pq.read_table(results / name)
        rows = old.to_pylist()
        # The last two rows become visits of one person.
        rows[-1] |= {"subject_id": rows[-2]["subject_id"], "visit": 3}
        pq.write_table(pa.Table.from_pylist(rows, schema=old.schema), results / name)
    of = Searched(results, path)
    people = [p["subject_id"] for p in of.pairs]
    assert len(set(people)) == len(people) == 19 and {p["visit"] for p in of.pairs} == {2}
