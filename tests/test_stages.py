"""A stage's digest covers all the code it may run, and its settings all that decides its results."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ptacl.config import check_config
from ptacl.stages import STAGE_SOURCES, TOOLS, stage_code, stage_settings

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA = yaml.safe_load((REPOSITORY / "rules/schemas/config.schema.yaml").read_text())
CONFIG = check_config(yaml.safe_load((REPOSITORY / "config.yaml").read_text()), SCHEMA)

# What the scripts use to report, which decides no result.
NOT_COVERED = {"ptacl/logs.py"}


@pytest.mark.parametrize("stage", STAGE_SOURCES)
def test_the_digest_of_a_stage_covers_every_module_it_imports(sources_of, stage: str) -> None:
    scripts = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "workflow_scripts").glob(f"{stage}*.py")}
    assert scripts
    covered = ["ptacl/__init__.py", "ptacl/artifacts.py", "ptacl/errors.py", *STAGE_SOURCES[stage]]
    missed = {
        file
        for file in sources_of(scripts) - scripts - NOT_COVERED
        if file in TOOLS or not any(file == name or file.startswith(name + "/") for name in covered)
    }
    assert not missed


def test_the_digest_changes_with_the_bytes_of_a_module_and_only_for_its_stage(tmp_path: Path) -> None:
    digests = "import ptacl.stages as s; print(*(s.stage_code(n) for n in sorted(s.STAGE_SOURCES)))"
    for folder in ("ptacl", "workflow_scripts"):
        subprocess.run(["cp", "-r", REPOSITORY / folder, tmp_path], check=True)

    def run() -> dict[str, str]:
        out = subprocess.run([sys.executable, "-c", digests], cwd=tmp_path, capture_output=True, text=True, check=True)
        return dict(zip(sorted(STAGE_SOURCES), out.stdout.split(), strict=True))

    before = run()
    assert before["ecg"] == stage_code("ecg")
    for tool in TOOLS:
        with (tmp_path / tool).open("a") as f:
            f.write("# changed\n")
    assert run() == before
    with (tmp_path / "ptacl/ecg/clean.py").open("a") as f:
        f.write("# changed\n")
    after = run()
    assert {stage for stage in before if before[stage] != after[stage]} == {"ecg"}


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        (("ecg", "corner_hz"), {"ecg", "package", "report"}),
        (("ecg", "scale"), {"pretrain", "finetune", "embed", "package", "report"}),
        (("cmr", "crop_mm"), {"cmr", "report"}),
        (("cmr", "size"), {"cmr", "pretrain", "embed", "report"}),
        (("pretrain", "contrastive", "lr"), {"pretrain", "report"}),
        (("pretrain", "finetune", "lr"), {"finetune", "report"}),
        # Each share of the labels is fine-tuned by itself: a further one learns nothing of the others again.
        (("pretrain", "finetune", "label_fractions"), {"report"}),
        (("pretrain", "augment", "ecg_gain"), {"pretrain", "finetune", "report"}),
        # How a training runs decides no result.
        (("pretrain", "checkpoint_steps"), {"report"}),
        (("pretrain", "gpus"), {"report"}),
        (("evaluate", "targets"), {"evaluate", "compare", "finetune", "package", "gallery", "report"}),
        (("evaluate", "bootstraps"), {"evaluate", "compare", "report"}),
        # What is compared changes no score.
        (("evaluate", "compare"), {"compare", "report"}),
        (("evaluate", "label_fractions"), {"evaluate", "compare", "report"}),
        (("evaluate", "protocols"), {"report"}),
        (("seeds",), {"report"}),
        (("methods",), {"gallery", "report"}),  # cut to `random`, which is then what the gallery shows
        (("report", "queries"), {"gallery", "report"}),
        (("report", "title"), {"report"}),
        (("cohort", "shards"), {"cohort", "pairs", "quality", "report"}),
    ],
)
def test_a_setting_reaches_its_stages_and_no_other(key: tuple[str, ...], stages: set[str]) -> None:
    changed = copy.deepcopy(CONFIG)
    section = changed
    for name in key[:-1]:
        section = section[name]
    value = section[key[-1]]
    section[key[-1]] = value[:1] if isinstance(value, list) and len(value) > 1 else [7] if value == [0] else value * 2
    differs = {s for s in STAGE_SOURCES if stage_settings(CONFIG, s, "ptacl") != stage_settings(changed, s, "ptacl")}
    assert differs == stages


def test_a_share_of_the_labels_decides_its_own_fine_tuning_and_nothing_else() -> None:
    for stage in STAGE_SOURCES:
        every, tenth = (stage_settings(CONFIG, stage, "ptacl", f) for f in (1.0, 0.1))
        assert stage_settings(CONFIG, stage, "ptacl") == every
        assert tenth == (every | {"label_fraction": 0.1} if stage == "finetune" else every)
        assert stage not in ("finetune", "pretrain") or "label_fractions" not in repr(every)


def test_the_text_of_settings_does_not_depend_on_the_order_of_keys() -> None:
    reverse = {k: dict(reversed(v.items())) if isinstance(v, dict) else v for k, v in reversed(CONFIG.items())}
    for stage in STAGE_SOURCES:
        assert repr(stage_settings(CONFIG, stage, "ptacl")) == repr(stage_settings(reverse, stage, "ptacl"))


def test_a_method_may_train_with_settings_of_its_own() -> None:
    config = copy.deepcopy(CONFIG)
    own = {"contrastive": {"tau_l": 0.2, "bins": 5}, "augment": {"cine_roll": True}}
    config["pretrain"]["methods"]["ptacl_other"] |= own
    before, after = (stage_settings(c, "pretrain", "ptacl_other") for c in (CONFIG, config))
    assert after["contrastive"] == before["contrastive"] | own["contrastive"] and after["phase"]["bins"] == 5
    assert after["augment"] == before["augment"] | own["augment"]
    assert stage_settings(config, "embed", "ptacl_other")["phase"]["bins"] == 5
    assert stage_settings(config, "pretrain", "ptacl") == stage_settings(CONFIG, "pretrain", "ptacl")
