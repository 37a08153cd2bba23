"""What a stage's results depend on: its settings and its own code, and nothing else.

The workflow compares both with those of the last run to decide what runs again.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ptacl.report.shown import shown_method

REPOSITORY = Path(__file__).resolve().parents[1]

_COMMON = ["ptacl/__init__.py", "ptacl/artifacts.py", "ptacl/errors.py"]
_MODEL = ["ptacl/model", "ptacl/store", "ptacl/training"]
_WITHDRAWALS = [f"ptacl/cohort/{name}.py" for name in ("__init__", "identity", "text", "withdrawals")]
_EVALUATION = ["ptacl/evaluation", "ptacl/cohort", "ptacl/store/__init__.py", "ptacl/store/labels.py"]
_PAGES = ["ptacl/report", "ptacl/counts.py", "ptacl/store", *_EVALUATION]
# For people at the command line: no stage imports them.
TOOLS = {
    "ptacl/cohort/verify.py", "ptacl/cohort/listing.py", "ptacl/cmr/inspect.py", "ptacl/ecg/inspect.py",
    "ptacl/package/model.py", "ptacl/package/ask.py",
}  # fmt: skip

# Objectives of methods whose encoder stays as it was drawn, until labels are learnt.
UNTRAINED = {"none", "supervised"}
# What an objective changes at random, by prefix of its keys; the masked autoencoder of the ECG sees unchanged crops.
AUGMENTED = {"cine_mae": ("cine_",), "contrastive": ("ecg_", "cine_")}

# Files and folders whose bytes a stage's digest covers, besides the script that starts it.
STAGE_SOURCES: dict[str, list[str]] = {
    "synthetic": ["ptacl/synthetic"],
    "cohort": ["ptacl/cohort"],
    "ecg": ["ptacl/compiled.py", "ptacl/ecg"],
    "cmr": ["ptacl/compiled.py", "ptacl/cmr"],
    "pairs": ["ptacl/store/__init__.py", "ptacl/store/pairs.py", "ptacl/store/schema.py"],
    "pretrain": _MODEL,
    "finetune": [*_MODEL, *_WITHDRAWALS],
    "embed": [*_MODEL, *_WITHDRAWALS, "ptacl/evaluation/__init__.py", "ptacl/evaluation/embed.py"],
    "evaluate": _EVALUATION,
    "compare": _EVALUATION,
    "package": ["ptacl/package", "ptacl/counts.py", *_MODEL, *_EVALUATION],
    "gallery": _PAGES,
    "quality": [
        "ptacl/report",
        "ptacl/cohort/fields.py",
        "ptacl/store/__init__.py",
        "ptacl/store/schema.py",
        *_WITHDRAWALS,
    ],
    "report": _PAGES,
}


def stage_code(stage: str) -> str:
    """16 hex digits over the source a stage runs: the modules it may import, and its script."""
    h = hashlib.sha256()
    scripts = sorted(str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "workflow_scripts").glob(f"{stage}*.py"))
    for name in [*_COMMON, *STAGE_SOURCES[stage], *scripts]:
        path = REPOSITORY / name
        files = sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for file in files if path.is_dir() else [path]:
            if (relative := file.relative_to(REPOSITORY).as_posix()) not in TOOLS:
                h.update(relative.encode() + b"\0" + file.read_bytes())
    return h.hexdigest()[:16]


def stage_settings(
    config: Mapping[str, Any], stage: str, method: str | None = None, label_fraction: float = 1.0
) -> dict[str, Any]:
    """The part of the config that decides a stage's results, keys sorted at every level.

    Left out on purpose: lists of methods, seeds and label fractions, threads, device, and paths of outputs.
    """
    source, ecg, cmr, pretrain = (config["cohort"]["source"], config["ecg"], config["cmr"], config["pretrain"])
    if stage in ("synthetic", "cohort"):
        settings = dict(config[stage])
    elif stage in ("evaluate", "compare"):
        # What is compared changes no score; protocols decide which jobs there are, and nothing of any.
        left_out = {"protocols"} if stage == "compare" else {"protocols", "compare"}
        settings = {k: v for k, v in config["evaluate"].items() if k not in left_out}
    elif stage == "ecg":
        settings = {k: v for k, v in ecg.items() if k != "scale"} | {"source": source}
    elif stage == "cmr":
        settings = dict(cmr) | {"source": source}
    elif stage == "pairs":
        settings = {"shards": config["cohort"]["shards"]}
    elif stage == "package":
        encoder = {k: pretrain["encoder"][k] for k in ("size", "tokens")}
        targets = [*config["evaluate"]["targets"], *config["evaluate"]["extra_targets"]]
        settings = {"ecg": {k: v for k, v in ecg.items() if k != "scale"}, "source": source, "scale": ecg["scale"]}
        settings |= {"encoder": encoder, "targets": targets}
    elif stage in ("pretrain", "embed", "finetune"):
        settings = _method_settings(config, stage, pretrain["methods"][method])
        if stage == "finetune":
            settings["label_fraction"] = label_fraction
    elif stage == "gallery":
        settings = {"method": shown_method(config), "queries": config["report"]["queries"]}
        settings |= {"targets": config["evaluate"]["targets"]}
    elif stage == "quality":
        settings = {"shards": config["cohort"]["shards"]}
    elif stage == "report":
        settings = dict(config)
    else:
        raise ValueError(f"no stage is called {stage!r}")
    return _sorted(settings)


def _method_settings(config: Mapping[str, Any], stage: str, definition: Mapping[str, Any]) -> dict[str, Any]:
    """What a method's model depends on: nothing of the side it does not look at."""
    pretrain, objective = config["pretrain"], definition["objective"]
    ecg, cine = (objective != "cine_mae"), (objective in ("cine_mae", "contrastive")) and stage != "finetune"
    settings: dict[str, Any] = {"method": definition, "scale": config["ecg"]["scale"]}
    used = ["size", *["tokens"] * ecg, *["tubelet", "patch"] * cine]
    settings["encoder"] = {k: pretrain["encoder"][k] for k in used}
    if cine:
        settings["cmr"] = {k: config["cmr"][k] for k in ("slices", "frames", "size")}
    contrastive = pretrain["contrastive"] | definition.get("contrastive", {})
    if stage == "embed" or (stage == "pretrain" and objective == "contrastive"):
        settings["phase"] = {k: contrastive[k] for k in ("bins", "kappa")}
    if stage == "finetune":
        section = {k: v for k, v in pretrain["finetune"].items() if k != "label_fractions"}
        settings |= {"finetune": section, "targets": config["evaluate"]["targets"]}
    elif stage == "pretrain" and objective not in UNTRAINED:
        settings[objective] = contrastive if objective == "contrastive" else pretrain[objective]
    if stage != "embed" and (sides := ("ecg_",) if stage == "finetune" else AUGMENTED.get(objective)):
        augment = pretrain["augment"] | definition.get("augment", {})
        settings["augment"] = {k: v for k, v in augment.items() if k.startswith(sides)}
    return settings


def _sorted(value: Any) -> Any:
    """The same value with the keys of every dictionary in order: Snakemake compares the text of params."""
    if isinstance(value, Mapping):
        return {k: _sorted(value[k]) for k in sorted(value)}
    return [_sorted(v) for v in value] if isinstance(value, list) else value
