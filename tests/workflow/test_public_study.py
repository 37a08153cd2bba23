"""configs/public.yaml on the real sample files, through the `table` source, to the report."""

import json

import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def public(shared_data, new_study, tmp_path_factory: pytest.TempPathFactory):
    data = shared_data("sunnybrook-scd").parent
    folder = tmp_path_factory.mktemp("public")
    (folder / "shared").mkdir()
    (folder / "shared" / "data").symlink_to(data)
    (folder / "main").mkdir()
    study = new_study(folder / "main", "--configfile", "configs/public.yaml")
    done = study.run()
    assert done.returncode == 0, done.stdout[-6000:]
    return study


def test_real_files_reach_the_report_which_says_what_they_show(public) -> None:
    results = public.folder / "results" / "public"
    page = (results / "report/index.html").read_text()
    assert "different people" in page
    flow = json.loads((results / "pairs/flow.json").read_text())
    assert flow["pairs"] >= 4
    assert flow["subjects"] == flow["pairs"] + sum(flow["excluded"].values())


def test_one_person_as_dicom_and_nifti_is_one_id(public) -> None:
    pairs = pq.read_table(public.folder / "results/public/pairs/pairs.parquet").to_pylist()
    visits = [r for r in pairs if r["subject_id"] == "SCD0000301"]
    assert len({r["split"] for r in visits}) == 1


def test_a_second_run_does_nothing(public) -> None:
    assert "Nothing to be done" in public.run().stdout
