"""What runs again after a change, and that nothing else does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest


def test_running_again_does_nothing(micro) -> None:
    done = micro.run()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


AFTER_SCORES = {"evaluate", "compare", "report"}
AFTER_EMBED = {"embed_method", "evaluate_method", "package_method", "gallery", *AFTER_SCORES}
AFTER_SHARDS = {"quality_shard", "quality"}
AFTER_PAIRS = {"pretrain_method", *AFTER_EMBED, "evaluate_references"}


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ("cohort: {fingerprint: size}", {"cohort", "ecg_shard", "cmr_shard", "pairs", *AFTER_SHARDS, *AFTER_PAIRS}),
        ("ecg: {corner_hz: 0.5}", {"ecg_shard", "pairs", *AFTER_SHARDS, *AFTER_PAIRS}),
        ("ecg: {scale: 1.0}", AFTER_PAIRS - {"evaluate_references"}),
        ("cmr: {crop_mm: 150}", {"cmr_shard", "pairs", *AFTER_SHARDS, *AFTER_PAIRS}),
        ("pretrain: {contrastive: {lr: 1.0e-3}}", AFTER_EMBED | {"pretrain_method"}),
        ("evaluate: {bootstraps: 300}", {"evaluate_method", "package_method", "evaluate_references", *AFTER_SCORES}),
        ("report: {title: Another title}", {"report"}),
        ("report: {queries: 3}", {"gallery", "report"}),
        ("evaluate: {compare: [[ptacl, mae]]}", AFTER_SCORES),
        ("methods: [mae, global, ptacl]", AFTER_SCORES),
        # The reference rows learn from the shares of the labels that the seeds draw.
        ("seeds: [0]", {"evaluate_references", *AFTER_SCORES}),
    ],
)
def test_a_changed_setting_reruns_its_stage_and_what_follows(micro, change: str, rules: set[str]) -> None:
    planned = micro.planned("--configfile", "configs/micro.yaml", micro.overlay(change + "\n"))
    assert set(planned) - {"evaluate"} == rules - {"evaluate"}


def test_contrastive_settings_do_not_retrain_the_autoencoder(micro) -> None:
    overlay = micro.overlay("pretrain: {contrastive: {lr: 1.0e-3}}\n")
    planned = micro.planned("--configfile", "configs/micro.yaml", overlay)
    assert planned["pretrain_method"] == 4  # global and ptacl, two seeds each


def test_a_new_seed_trains_only_its_own_models(micro) -> None:
    planned = micro.planned("--configfile", "configs/micro.yaml", micro.overlay("seeds: [0, 1, 2]\n"))
    assert planned["pretrain_method"] == 4
    assert "ecg_shard" not in planned and "pairs" not in planned


def test_touching_files_that_did_not_change_reruns_nothing(copy_of_micro) -> None:
    study = copy_of_micro()
    for pattern in ("config.yaml", "rules/*.smk", "workflow_scripts/*.py", "ptacl/*/*.py", "results/micro/cohort/*"):
        for path in study.folder.glob(pattern):
            os.utime(path)
    assert study.planned() == {}


def test_changed_code_of_a_stage_reruns_that_stage_and_what_follows(copy_of_micro) -> None:
    study = copy_of_micro()
    everything = set(study.planned("--forceall"))
    after = {
        "synthetic/timing.py": everything - {"all"},
        "cohort/files.py": {"cohort", "ecg_shard", "cmr_shard", "pairs", *AFTER_SHARDS, *AFTER_PAIRS},
        "ecg/clean.py": {"ecg_shard", "pairs", *AFTER_SHARDS, *AFTER_PAIRS},
        "cmr/tensor.py": {"cmr_shard", "pairs", *AFTER_SHARDS, *AFTER_PAIRS},
        "store/pairs.py": {"pairs", *AFTER_PAIRS},
        "training/engine.py": AFTER_PAIRS - {"evaluate_references"},
        "evaluation/embed.py": {*AFTER_EMBED, "evaluate_references"},
        "evaluation/ridge.py": {
            "evaluate_method",
            "package_method",
            "evaluate_references",
            "gallery",
            *AFTER_SCORES,
        },
        "package/build.py": {"package_method"},
        "report/words.py": {"quality_shard", "quality", "gallery", "report"},
    }
    for name, rules in after.items():
        module = study.folder / "ptacl" / name
        text = module.read_text()
        module.write_text(text + "\n# a comment\n")
        assert set(study.planned()) - {"evaluate"} == rules - {"evaluate"}, name
        module.write_text(text)
    assert study.planned() == {}


def test_shards_made_again_with_the_same_bytes_train_nothing(copy_of_micro) -> None:
    study = copy_of_micro()
    module = study.folder / "ptacl" / "ecg" / "clean.py"
    module.write_text(module.read_text() + "\n# a comment\n")
    done = study.run("--", "embed")
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.count("Reading and cleaning the ECGs") == 2
    assert "Training" not in done.stdout


def test_a_new_withdrawal_list_takes_its_people_out_of_every_artifact(copy_of_micro) -> None:
    study = copy_of_micro()
    results = study.folder / "results/micro"
    pairs = pq.read_table(results / "pairs/pairs.parquet")
    gone = pairs["subject_id"][0].as_py()
    unchanged = [p for p in results.glob("ecg/*.parquet") if int(p.stem) != pairs["shard"][0].as_py()]
    before = [p.stat().st_mtime_ns for p in unchanged]
    (study.folder / "new.csv").write_text(f"{gone}\n")
    lists = "cohort: {withdrawals: ['{results}/synthetic/withdrawals/*.csv', new.csv]}\n"
    study.arguments = ("--configfile", "configs/micro.yaml", study.overlay(lists))
    verify = [sys.executable, "-m", "ptacl", "verify-withdrawals", *study.arguments]
    assert subprocess.run(verify, cwd=study.folder, capture_output=True).returncode == 1

    # A stage by itself, made to run before the cohort was looked at again, refuses.
    alone = study.run("--allowed-rules", "embed_method", "--forcerun", "embed_method", "--", "embed")
    assert alone.returncode != 0
    log = (results / "logs/embed/ptacl/seed0.log").read_text()
    assert "have withdrawn since it was made" in log and gone not in log + alone.stdout

    done = study.run()
    assert done.returncode == 0, done.stdout[-4000:]
    found = subprocess.run(verify, cwd=study.folder, capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    assert [p.stat().st_mtime_ns for p in unchanged] == before
    assert len(unchanged) == 1


def test_one_stage_can_be_asked_for_by_name(micro) -> None:
    for target in (
        "cohort",
        "ecg",
        "cmr",
        "pairs",
        "pretrain",
        "embed",
        "evaluate",
        "package",
        "quality",
        "gallery",
        "report",
    ):
        planned = micro.planned(target)
        assert set(planned) <= {target}, planned
    forced = micro.planned("--forcerun", "pretrain_method", "--until", "pretrain_method")
    assert set(forced) <= {"pretrain_method"} and forced["pretrain_method"] == 8


def test_a_wrong_setting_stops_before_anything_runs(micro) -> None:
    done = micro.run("--dry-run", "--configfile", "configs/micro.yaml", micro.overlay("methods: [maee]\n"))
    assert done.returncode != 0
    assert "config: methods[0]: 'maee' is not one of random, scratch, mae, cine_mae, global, ptacl" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_read_only_workflow_runs_from_another_folder(new_study, tmp_path: Path) -> None:
    study, here = new_study(tmp_path / "installed"), tmp_path / "here"
    here.mkdir()
    parts = [study.folder, *sorted(study.folder.rglob("*"))]
    for path in parts:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = [p.stat().st_mtime_ns for p in parts]
    # Root writes where it may not, unless that capability is taken away.
    mortal = ["setpriv", "--bounding-set=-dac_override", "--"] if os.geteuid() == 0 and shutil.which("setpriv") else []
    run = [*mortal, sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(study.folder / "Snakefile")]
    run += ["pairs", "--configfile", str(study.folder / "configs/micro.yaml")]
    done = subprocess.run(run, cwd=here, env=study.environment, capture_output=True, text=True)
    for path in parts:
        path.chmod(0o755)
    assert done.returncode == 0, done.stderr[-3000:]
    assert pq.read_table(here / "results/micro/pairs/pairs.parquet").num_rows > 20
    assert [p.stat().st_mtime_ns for p in parts] == before
    assert sorted(p for p in study.folder.rglob("*")) == parts[1:]
