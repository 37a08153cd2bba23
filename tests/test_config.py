"""The config is checked before anything runs, and says in one line what is wrong."""

import copy
from pathlib import Path

import pytest
import yaml

from ptacl.config import check_config, finetuned_methods, needed_models, probed_methods, warm_start
from ptacl.errors import ConfigError
from ptacl.stages import stage_settings

REPOSITORY = Path(__file__).resolve().parents[1]
SCHEMA = yaml.safe_load((REPOSITORY / "rules/schemas/config.schema.yaml").read_text())
DEMO = yaml.safe_load((REPOSITORY / "config.yaml").read_text())


def changed(**changes: object) -> dict:
    config = copy.deepcopy(DEMO)
    for path, value in changes.items():
        *parents, last = path.split("__")
        section = config
        for name in parents:
            section = section[name]
        section[last] = value
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["maee"]}, "methods[0]: 'maee' is not one of random, scratch, mae, cine_mae, global, ptacl"),
        ({"methods": ["cmr"]}, "methods[0]: 'cmr' reads the embeddings of 'ptacl', which is not in methods"),
        ({"methods": ["mae", "mae"]}, "methods: ['mae', 'mae'] names something twice"),
        ({"ecg__corner_hz": "fast"}, "ecg.corner_hz: 'fast' is not number"),
        ({"ecg__corner_hz": 0}, "ecg.corner_hz: 0 is not above 0"),
        (
            {"ecg__corner": 0.6},
            "ecg.corner: no such key; allowed here are corner_hz, mains_hz, scale, poor_quality, pacemaker",
        ),
        ({"cohort__source": "mimic"}, "cohort.source: 'mimic' is not one of ukb, table"),
        ({"cohort__source": "table", "cohort__table": None}, "cohort.table: missing"),
        ({"cohort__icd10": {"cad": ["I25"]}, "cohort__table": None}, "cohort.icd10: needs a UK Biobank table"),
        ({"cohort__icd10": {"cad": ["I25"]}, "cohort__source": "table"}, "cohort.icd10: needs a UK Biobank table"),
        ({"cohort__shards": 0}, "cohort.shards: 0 is not at least 1"),
        ({"pretrain__encoder": {}}, "pretrain.encoder.size: missing"),
        ({"cmr__frames": 10}, "pretrain.contrastive.bins: 10 is not at most 5"),
        (
            {"pretrain__methods__global__warm_start": {"ecg": "ptacl"}},
            "pretrain.methods.global.warm_start.ecg: 'ptacl' is not one of none, mae",
        ),
        ({"cohort__withdrawals": [9_000_001]}, "cohort.withdrawals[0]: <id> is not string"),
        ({"seeds": []}, "seeds: [] is not a list of at least 1"),
        (
            {"pretrain__contrastive__accumulate": 2},
            "pretrain.contrastive.accumulate: must be 1; a contrastive loss compares the patients of one batch",
        ),
        (
            {"pretrain__augment__time_flip": True},
            "pretrain.augment.time_flip: must be false; a heartbeat runs in one direction",
        ),
        ({"pretrain__gpus": 3}, "pretrain.mae.batch: 32 is not a multiple of 3 GPUs times 1 parts"),
        (
            {"pretrain__gpus": 4, "pretrain__mae__accumulate": 3, "pretrain__mae__batch": 32},
            "pretrain.mae.batch: 32 is not a multiple of 4 GPUs times 3 parts",
        ),
        (
            {"pretrain__gpus": 2, "pretrain__contrastive__batch": 33},
            "pretrain.contrastive.batch: 33 is not a multiple of 2 GPUs",
        ),
        ({"cmr__frames": 21}, "cmr.frames: 21 is not a multiple of pretrain.encoder.tubelet, 2"),
        (
            {"pretrain__encoder__size": "small", "cmr__size": 40},
            "cmr.size: 40 is not a multiple of pretrain.encoder.patch, 16",
        ),
        (
            {"pretrain__methods__ptacl__warm_start": {"ecg": "mae", "cmr": "cine_mae"}},
            "pretrain.methods.ptacl.warm_start.cmr: must be none or a file for pretrain.encoder.size tiny",
        ),
        (
            {"pretrain__methods__ptacl__warm_start": {"ecg": "encoder.pt"}},
            "pretrain.methods.ptacl.warm_start.ecg: 'encoder.pt' is not one of none, mae, and no path of a .safetensors file",
        ),
        (
            {"pretrain__methods__ptacl__warm_start": {"ecg": "cine_mae"}},
            "pretrain.methods.ptacl.warm_start.ecg: 'cine_mae' is not one of none, mae",
        ),
        (
            {"pretrain__methods__mae__warm_start": {"ecg": "mae"}},
            "pretrain.methods.mae.warm_start: only a contrastive method has one, this is mae",
        ),
        (
            {"pretrain__methods__mae__loss": {"beta": 1.0}},
            "pretrain.methods.mae.loss: only a contrastive method has one",
        ),
        (
            {"pretrain__methods__global__loss": {"beta": 0, "warp": "systole"}},
            "pretrain.methods.global.loss.warp: has no effect where beta is 0",
        ),
        (
            {"pretrain__methods__ptacl__loss": {"gamma": 2.0}},
            "pretrain.methods.ptacl.loss.gamma: has no effect without `residual: across`",
        ),
        (
            {"pretrain__methods__cmr": {"objective": "none", "embedding_of": "mae"}},
            "pretrain.methods.cmr.embedding_of: needs `objective: none`, and the name of a contrastive method",
        ),
        (
            {"pretrain__contrastive__lr": "1e-3"},
            "pretrain.contrastive.lr: '1e-3' is not number (YAML reads 1e-3 as text: write 1.0e-3)",
        ),
        ({"pretrain__compile": "yes"}, "pretrain.compile: 'yes' is not one of auto, true, false"),
        ({"methods": ["mae", "cine_mae"]}, "methods[1]: 'cine_mae' has no ECG encoder to compare"),
        ({"pretrain__precision": "fp16"}, "pretrain.precision: 'fp16' is not one of auto, bf16, fp32"),
        ({"pretrain__augment__ecg_stretch": 0.5}, "pretrain.augment.ecg_stretch: 0.5 is not at most 0.2"),
        ({"pretrain__finetune__layer_decay": 0}, "pretrain.finetune.layer_decay: 0 is not above 0"),
        (
            {"pretrain__finetune__label_fractions": [0.01, 0.1]},
            "pretrain.finetune.label_fractions: [0.01, 0.1] lacks 1.0, which the others are compared with",
        ),
        ({"pretrain__finetune__label_fractions": []}, "pretrain.finetune.label_fractions: [] lacks 1.0"),
        ({"pretrain__finetune__label_fractions": [1.0, 0]}, "pretrain.finetune.label_fractions[1]: 0 is not above 0"),
        (
            {"pretrain__finetune__label_fractions": [1.5, 1.0]},
            "pretrain.finetune.label_fractions[0]: 1.5 is not at most 1",
        ),
        (
            {"pretrain__finetune__label_fractions": [1.0, 0.1, 0.1]},
            "pretrain.finetune.label_fractions: [1.0, 0.1, 0.1] names something twice",
        ),
        ({"pretrain__finetune__label_fractions": 1.0}, "pretrain.finetune.label_fractions: 1.0 is not array"),
        ({"evaluate__label_fractions": [0.1]}, "evaluate.label_fractions: [0.1] lacks 1.0"),
        (
            {"evaluate__compare": [["ptacl", "globl"]]},
            "evaluate.compare[0]: 'globl' is not one of random, scratch, mae",
        ),
        ({"evaluate__compare": [["ptacl"]]}, "evaluate.compare[0]: ['ptacl'] is not a list of at least 2"),
        (
            {"pretrain__methods__ptacl__contrastive": {"bins": 20}},
            "pretrain.methods.ptacl.contrastive.bins: 20 is not at most 10",
        ),
        (
            {"pretrain__methods__mae__augment": {"cine_roll": True}},
            "pretrain.methods.mae.augment: only a contrastive method has one, this is mae",
        ),
        (
            {"pretrain__methods__ptacl__contrastive": {"mask": 0.5}},
            "pretrain.methods.ptacl.contrastive.mask: no such key; allowed here are epochs",
        ),
    ],
)
def test_a_wrong_value_is_named_in_one_line(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_config(changed(**changes), SCHEMA)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_every_shipped_study_is_valid() -> None:
    for overlay in [{}, *(yaml.safe_load(p.read_text()) for p in sorted((REPOSITORY / "configs").glob("*.yaml")))]:
        check_config(merge(DEMO, overlay), SCHEMA)


def merge(base: dict, overlay: dict) -> dict:
    """As Snakemake merges a --configfile: key by key, lists replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged


def test_results_in_a_path_stands_for_the_results_folder() -> None:
    config = check_config(changed(results="elsewhere"), SCHEMA)
    assert config["cohort"]["root"] == "elsewhere/synthetic"
    assert config["cohort"]["extra_tables"] == ["elsewhere/synthetic/timings.csv"]


def test_a_warm_start_is_trained_although_it_is_not_asked_for() -> None:
    config = check_config(changed(methods=["ptacl", "cmr"]), SCHEMA)
    assert needed_models(config) == ["mae", "ptacl"]
    assert warm_start(config, "ptacl", "ecg") == "mae"
    assert warm_start(config, "mae", "ecg") is None


def test_a_batch_may_be_cut_into_parts_where_the_loss_is_a_mean_over_rows() -> None:
    config = check_config(changed(pretrain__gpus=4, pretrain__mae__accumulate=2), SCHEMA)
    assert config["pretrain"]["mae"]["accumulate"] == 2 and config["pretrain"]["contrastive"]["accumulate"] == 1


def test_time_flips_may_be_named_as_long_as_they_are_off() -> None:
    """And what training reads is the same as without the key."""
    plain, named = (check_config(changed(**c), SCHEMA) for c in ({}, {"pretrain__augment__time_flip": False}))
    for stage in ("pretrain", "finetune"):
        settings = [stage_settings(config, stage, "ptacl")["augment"] for config in (plain, named)]
        assert settings[0] == settings[1]


def test_a_warm_start_may_be_a_file_and_is_then_no_model_to_train() -> None:
    start = {"ecg": "encoders/ecg.safetensors", "cmr": "none"}
    config = check_config(changed(methods=["ptacl"], pretrain__methods__ptacl__warm_start=start), SCHEMA)
    assert warm_start(config, "ptacl", "ecg") == "encoders/ecg.safetensors"
    assert warm_start(config, "ptacl", "cmr") is None
    assert needed_models(config) == ["ptacl"]


def test_a_method_of_two_warm_starts_needs_both_models() -> None:
    start = {"ecg": "mae", "cmr": "cine_mae"}
    changes = {"methods": ["ptacl"], "pretrain__encoder__size": "small", "pretrain__methods__ptacl__warm_start": start}
    assert needed_models(check_config(changed(**changes), SCHEMA)) == ["cine_mae", "mae", "ptacl"]


def test_methods_learnt_from_labels_have_no_embeddings_to_probe_and_untrained_ones_nothing_to_fine_tune() -> None:
    config = check_config(changed(methods=["random", "scratch", "mae", "ptacl", "cmr"]), SCHEMA)
    assert probed_methods(config) == ["random", "mae", "ptacl", "cmr"]
    assert finetuned_methods(config) == ["scratch", "mae", "ptacl"]
    assert needed_models(config) == ["mae", "ptacl", "random", "scratch"]


def test_all_labels_are_known_unless_a_study_asks_for_shares_of_them() -> None:
    section = {k: v for k, v in DEMO["pretrain"]["finetune"].items() if k != "label_fractions"}
    config = check_config(changed(pretrain__finetune=section), SCHEMA)
    assert config["pretrain"]["finetune"]["label_fractions"] == [1.0]
    for fractions in ([0.01, 0.1, 1.0], [1]):
        config = check_config(changed(pretrain__finetune__label_fractions=fractions), SCHEMA)
        assert config["pretrain"]["finetune"]["label_fractions"] == fractions


def test_defaults_are_filled_in_without_touching_the_given_config() -> None:
    config = changed()
    del config["ecg"]["corner_hz"]
    before = copy.deepcopy(config)
    assert check_config(config, SCHEMA)["ecg"]["corner_hz"] == 0.6
    assert config == before
