"""Checking a study's configuration: one line that names the key, the value and what is allowed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from ptacl.errors import ConfigError
from ptacl.logs import mask_ids
from ptacl.stages import REPOSITORY

# The two encoders, and the objective of a method that either may start from.
SIDES = {"ecg": "mae", "cmr": "cine_mae"}


def check_config(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config with the schema's defaults filled in and `{results}` resolved in every path.

    Raises ConfigError with one line for the first thing wrong, such as
    `methods[0]: 'maee' is not one of random, mae, global, ptacl, cmr`.
    """
    filled = _resolve(dict(config), str(config.get("results", "results")))
    error = next(iter(sorted(_Validator(schema).iter_errors(filled), key=lambda e: list(map(str, e.path)))), None)
    if error is not None:
        raise ConfigError(mask_ids(_one_line(error)))
    _check_cohort(filled["cohort"])
    _check_methods(filled)
    _check_training(filled)
    _check_sizes(filled)
    _check_evaluation(filled)
    return filled


def load_config(overlays: Sequence[Path]) -> dict[str, Any]:
    """The checked config of a study as `snakemake --configfile` makes it: config.yaml of this checkout with overlays on it.

    Raises ConfigError.
    """
    config: dict[str, Any] = {}
    for path in (REPOSITORY / "config.yaml", *overlays):
        config = _merged(config, _read_yaml(path))
    return check_config(config, _read_yaml(REPOSITORY / "rules" / "schemas" / "config.schema.yaml"))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path.name}: can't be read ({type(e).__name__})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(mask_ids(f"{path.name}: no YAML: {' '.join(str(e).split())}")) from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path.name}: no keys with values")
    return found


def _merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """As Snakemake merges config files: key by key, lists replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def needed_models(config: Mapping[str, Any]) -> list[str]:
    """The methods with a model to train: those asked for, and the warm starts they need; sorted."""
    definitions = config["pretrain"]["methods"]
    wanted = {m for m in config["methods"] if "embedding_of" not in definitions[m]}
    starts = {warm_start(config, m, side) for m in wanted for side in SIDES}
    return sorted(wanted | {s for s in starts if s is not None and s in definitions})


def probed_methods(config: Mapping[str, Any]) -> list[str]:
    """The methods of a study whose embeddings are looked at: all but those learnt from labels."""
    return [m for m in config["methods"] if config["pretrain"]["methods"][m]["objective"] != "supervised"]


def finetuned_methods(config: Mapping[str, Any]) -> list[str]:
    """The methods of a study that the fine-tuning stage trains: those whose ECG encoder has learnt, and `scratch`."""
    definitions = config["pretrain"]["methods"]
    return [m for m in config["methods"] if definitions[m]["objective"] != "none"]


def uses_gpu(config: Mapping[str, Any]) -> bool:
    """Whether jobs that train are to have a GPU: when the config says so, or may have one and this machine shows one."""
    device = config["pretrain"]["device"]
    return device == "cuda" or (device == "auto" and Path("/dev/nvidia0").exists())


def warm_start(config: Mapping[str, Any], method: str, side: str) -> str | None:
    """What `method` starts its `ecg` or `cmr` encoder from: a method, a safetensors file, or None."""
    start = config["pretrain"]["methods"][method].get("warm_start", {}).get(side, "none")
    return None if start == "none" else start


def _resolve(value: Any, results: str) -> Any:
    if isinstance(value, str):
        return value.replace("{results}", results)
    if isinstance(value, Mapping):
        return {k: _resolve(v, results) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, results) for v in value]
    return value


def _key(path: Any) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _one_line(error: ValidationError) -> str:
    key, value = _key(error.absolute_path), error.instance
    rule, allowed = error.validator, error.validator_value
    if rule == "additionalProperties":
        unknown = sorted(set(value) - set(error.schema.get("properties", {})))[0]
        path = _key([*error.absolute_path, unknown])
        return f"{path}: no such key; allowed here are {', '.join(error.schema.get('properties', {}))}"
    if rule == "required":
        missing = next(name for name in allowed if name not in value)
        return f"{_key([*error.absolute_path, missing])}: missing"
    if rule == "enum":
        return f"{key}: {value!r} is not one of {', '.join('true' if a is True else 'false' if a is False else a for a in allowed)}"
    if rule == "type":
        kinds = [allowed] if isinstance(allowed, str) else allowed
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)" if "number" in kinds and isinstance(value, str) else ""
        return f"{key}: {value!r} is not {' or '.join(kinds)}{hint}"
    limits = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "above",
        "exclusiveMaximum": "below",
        "minItems": "a list of at least",
        "minLength": "of a length of at least",
        "pattern": "of the form",
    }
    if rule in limits:
        return f"{key}: {value!r} is not {limits[rule]} {allowed}"
    if rule == "uniqueItems":
        return f"{key}: {value!r} names something twice"
    return f"{key}: {' '.join(error.message.split())}"


def _check_cohort(cohort: Mapping[str, Any]) -> None:
    if cohort["source"] == "table" and not cohort["table"]:
        raise ConfigError("cohort.table: missing; the source `table` reads its rows from it")
    if cohort["icd10"] and (cohort["source"] != "ukb" or not cohort["table"]):
        raise ConfigError("cohort.icd10: needs a UK Biobank table; in a table of your own, write a column of 0 and 1")


def _check_methods(config: Mapping[str, Any]) -> None:
    definitions, methods = config["pretrain"]["methods"], config["methods"]
    for i, method in enumerate(methods):
        if method not in definitions:
            raise ConfigError(f"methods[{i}]: {method!r} is not one of {', '.join(definitions)}")
        source = definitions[method].get("embedding_of")
        if source is not None and source not in methods:
            raise ConfigError(f"methods[{i}]: {method!r} reads the embeddings of {source!r}, which is not in methods")
        if definitions[method]["objective"] == "cine_mae":
            raise ConfigError(
                f"methods[{i}]: {method!r} has no ECG encoder to compare; it is a warm start of other methods"
            )
    for name, definition in definitions.items():
        _check_method(name, definition, definitions)


def _check_method(name: str, method: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
    """Refuses what would be accepted and do nothing."""
    key, objective, loss = f"pretrain.methods.{name}", method["objective"], method.get("loss", {})
    for part in ("loss", "warm_start", "contrastive", "augment"):
        if part in method and objective != "contrastive":
            raise ConfigError(f"{key}.{part}: only a contrastive method has one, this is {objective}")
    if "embedding_of" in method:
        source = definitions.get(method["embedding_of"], {}).get("objective")
        if objective != "none" or source != "contrastive":
            raise ConfigError(f"{key}.embedding_of: needs `objective: none`, and the name of a contrastive method")
    local = loss.get("beta", 1.0) > 0 or loss.get("residual", "none") == "across"
    for option in ("correspondence", "warp", "soft", "center", "residual"):
        if option in loss and not local and loss[option] not in (None, False, "none"):
            raise ConfigError(f"{key}.loss.{option}: has no effect where beta is 0")
    if loss.get("correspondence") == "index" and loss.get("warp", "linear") != "linear":
        raise ConfigError(f"{key}.loss.warp: has no effect with `correspondence: index`, which asks for no phase")
    if "gamma" in loss and loss.get("residual") != "across":
        raise ConfigError(f"{key}.loss.gamma: has no effect without `residual: across`")
    for side, wanted in SIDES.items():
        start = method.get("warm_start", {}).get(side, "none")
        known = [n for n, d in definitions.items() if d["objective"] == wanted]
        if start not in ("none", *known) and not start.endswith(".safetensors"):
            raise ConfigError(
                f"{key}.warm_start.{side}: {start!r} is not one of none, {', '.join(known)}, and no path of a .safetensors file"
            )


def _check_training(config: Mapping[str, Any]) -> None:
    pretrain = config["pretrain"]
    if pretrain["contrastive"]["accumulate"] > 1:
        raise ConfigError(
            "pretrain.contrastive.accumulate: must be 1; a contrastive loss compares the patients of one batch, so parts"
            " of a batch one after the other are not the same as the whole batch (use more GPUs, or a larger cine_drop)"
        )
    # A key only to say why it must not be.
    if pretrain["augment"].pop("time_flip", False):
        raise ConfigError(
            "pretrain.augment.time_flip: must be false; a heartbeat runs in one direction, and reversed in time neither the"
            " ECG nor the phase of a frame means anything"
        )
    for name in ("mae", "cine_mae", "contrastive", "finetune"):
        section = pretrain[name]
        if section["batch"] % (pretrain["gpus"] * section["accumulate"]):
            raise ConfigError(
                f"pretrain.{name}.batch: {section['batch']} is not a multiple of {pretrain['gpus']} GPUs times"
                f" {section['accumulate']} parts"
            )
    fractions = pretrain["finetune"]["label_fractions"]
    if 1.0 not in fractions:
        raise ConfigError(
            f"pretrain.finetune.label_fractions: {fractions} lacks 1.0, which the others are compared with"
        )


def _check_sizes(config: Mapping[str, Any]) -> None:
    cmr, encoder = config["cmr"], config["pretrain"]["encoder"]
    frames, tubelet = cmr["frames"], encoder["tubelet"]
    if frames % tubelet:
        raise ConfigError(f"cmr.frames: {frames} is not a multiple of pretrain.encoder.tubelet, {tubelet}")
    own = {f"methods.{name}.": m.get("contrastive", {}) for name, m in config["pretrain"]["methods"].items()}
    for where, section in {"": config["pretrain"]["contrastive"], **own}.items():
        bins = section.get("bins", 0)
        if frames // tubelet < bins:
            raise ConfigError(
                f"pretrain.{where}contrastive.bins: {bins} is not at most {frames // tubelet}, the temporal slots of {frames}"
                f" frames in tubelets of {tubelet} (with fewer slots than bins the local loss has nothing to compare)"
            )
    if encoder["size"] != "tiny" and cmr["size"] % encoder["patch"]:
        raise ConfigError(f"cmr.size: {cmr['size']} is not a multiple of pretrain.encoder.patch, {encoder['patch']}")
    for method in config["methods"]:
        if encoder["size"] == "tiny" and warm_start(config, method, "cmr") in config["pretrain"]["methods"]:
            raise ConfigError(
                f"pretrain.methods.{method}.warm_start.cmr: must be none or a file for pretrain.encoder.size tiny, whose"
                " cine encoder has no patches to hide"
            )


def _check_evaluation(config: Mapping[str, Any]) -> None:
    evaluate, definitions = config["evaluate"], config["pretrain"]["methods"]
    if 1.0 not in evaluate["label_fractions"]:
        raise ConfigError(
            f"evaluate.label_fractions: {evaluate['label_fractions']} lacks 1.0, which is what is compared"
        )
    for i, pair in enumerate(evaluate["compare"]):
        for method in pair:
            if method not in definitions:
                raise ConfigError(f"evaluate.compare[{i}]: {method!r} is not one of {', '.join(definitions)}")


def _with_defaults(validator_class: Any) -> Any:
    """A validator that also fills in the `default` of absent properties (jsonschema's documented recipe)."""
    check_properties = validator_class.VALIDATORS["properties"]

    def set_defaults(validator: Any, properties: Any, instance: Any, schema: Any) -> Any:
        if isinstance(instance, dict):
            for name, subschema in properties.items():
                if "default" in subschema:
                    instance.setdefault(name, subschema["default"])
        yield from check_properties(validator, properties, instance, schema)

    return validators.extend(validator_class, {"properties": set_defaults})


_Validator = _with_defaults(Draft202012Validator)
