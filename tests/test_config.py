"""The config is checked before anything runs, and says in one line what is wrong."""

import copy
from pathlib import Path

import pytest
import yaml

from ptacl.config import check_config, needed_models, warm_start
from ptacl.errors import ConfigError

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
        ({"methods": ["maee"]}, "methods[0]: 'maee' is not one of random, mae, global, ptacl"),
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
    assert warm_start(config, "ptacl") == "mae"
    assert warm_start(config, "mae") is None


def test_defaults_are_filled_in_without_touching_the_given_config() -> None:
    config = changed()
    del config["ecg"]["corner_hz"]
    before = copy.deepcopy(config)
    assert check_config(config, SCHEMA)["ecg"]["corner_hz"] == 0.6
    assert config == before
