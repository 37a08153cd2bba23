"""A study of a hundred thousand participants is planned in seconds, and its plan is that of the workflow."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ptacl.config import load_config
from ptacl.plan import plan_study

REPOSITORY = Path(__file__).resolve().parents[2]
# As many shards as 100,000 participants have at 256 each.
HUNDRED_THOUSAND = "synthetic: {subjects: 100000}\ncohort: {shards: 391}\nseeds: [0, 1, 2]\n"


def test_a_dry_run_for_a_hundred_thousand_participants_names_shards_and_nobody(new_study, tmp_path: Path) -> None:
    study = new_study(tmp_path / "study")
    study.arguments = ("--configfile", study.overlay(HUNDRED_THOUSAND))
    done = study.run("--dry-run")
    assert done.returncode == 0, done.stdout[-3000:]
    jobs = int(re.search(r"^total\s+(\d+)", done.stdout, re.MULTILINE)[1])
    assert 3 * 391 < jobs < 3 * 391 + 100
    assert max(map(len, done.stdout.splitlines())) < 40_000


@pytest.mark.parametrize(
    "overlays", [["configs/micro.yaml"], ["configs/study.yaml"], ["configs/paper.yaml", "here.yaml"]]
)
def test_the_plan_names_the_jobs_that_the_workflow_has(new_study, tmp_path: Path, overlays: list[str]) -> None:
    study = new_study(tmp_path / "study")
    # The study of real people, with a cohort to look at: files and lists of the demo in its place.
    (study.folder / "here.yaml").write_text(
        "pretrain: {device: cpu}\ncohort: {source: table, table: configs/public.csv, root: ., withdrawals: []}\n"
    )
    study.arguments = ("--configfile", *overlays)
    planned = study.planned()
    targets = {"all", "evaluate", "package"}
    config = load_config([study.folder / name for name in overlays])
    assert {s.rule: s.jobs for s in plan_study(config, 5000)} == {r: n for r, n in planned.items() if r not in targets}


def plan(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ptacl", "plan", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


def test_what_a_study_costs_grows_with_what_it_does() -> None:
    def cost(visits: int, **changes: object) -> dict[str, float]:
        config = load_config([REPOSITORY / "configs/study.yaml"]) | changes
        return {s.rule: s.core_s + s.gpu_s for s in plan_study(config, visits)}

    one, two = cost(8000), cost(16_000)
    for rule in ("cmr_shard", "pretrain_method", "finetune_method", "evaluate_method"):
        assert 1.5 < two[rule] / one[rule] < 2.1
    assert cost(8000, seeds=[0])["pretrain_method"] == pytest.approx(one["pretrain_method"] / 3)


def test_the_planner_asks_for_visits_where_nothing_tells_and_states_what_was_not_measured() -> None:
    done = plan("--configfile", "configs/paper.yaml")
    assert done.returncode == 2 and "--visits" in done.stderr
    done = plan("--configfile", "configs/paper.yaml", "--visits", "27951")
    assert done.returncode == 0 and "no GPU has been measured" in done.stdout
    assert re.search(r"^pretrain_method +24 ", done.stdout, re.MULTILINE)
