"""The `ptacl` command."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptacl import __version__
from ptacl.errors import ArtifactError, ConfigError, RecordError, UnreadableCine, UnreadableEcg
from ptacl.logs import mask_ids

USABLE, UNREADABLE, UNUSABLE = 0, 2, 3
_FILES = (
    "@LIST stands for the files named in LIST, one a line. Exit code 0: done; 3: some files were refused, each with its"
    " reason; 2: no such model."
)
CLEAN, FOUND, WRONG_CONFIG = 0, 1, 2
CLOSED = 141  # as a shell says of a program whose output nobody reads any more


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = _parser()[0].parse_args(argv)
    try:
        return _run(arguments)
    except BrokenPipeError:
        # `| head` has seen enough; nothing is left to be written when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except (ArtifactError, ConfigError, OSError) as e:
        # The text of an OSError may hold a path, and that an id.
        text = (
            mask_ids(str(e))
            if isinstance(e, ArtifactError | ConfigError)
            else f"a file or folder can't be read ({type(e).__name__})"
        )
        print(f"ptacl {arguments.command}: {text}", file=sys.stderr)
        return WRONG_CONFIG


def help_of_commands() -> dict[str, str]:
    """What `ptacl COMMAND --help` prints, by command."""
    return {name: command.format_help() for name, command in _parser()[1].items()}


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser of the command line, and those of its commands."""
    parser = argparse.ArgumentParser(prog="ptacl", description=__doc__)
    parser.add_argument("--version", action="version", version=f"ptacl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser(
        "inspect",
        help="what the readers understand of one file",
        description="Prints what the readers understand of one ECG or cine. Exit code 0: usable; 3: read, but not"
        " usable in a study; 2: unreadable.",
    )
    inspect.add_argument(
        "file", type=Path, help="ECG: .xml (CardioSoft, MUSE), .dcm, .hea; cine: .zip, folder, .dcm, .nii, .nii.gz"
    )
    inspect.add_argument("--json", action="store_true", help="print one JSON object")
    check = commands.add_parser(
        "check",
        help="whether a study can start, and what it would lose",
        description="Looks at a study's inputs before any job: paths, columns, counts by format, 20 sampled files read,"
        " the first reasons rows would be lost. Exit code 0: nothing stands in the way; 1: something does; 2: the config"
        " is wrong.",
    )
    _add_configfile(check)
    check.add_argument("--json", action="store_true", help="print one JSON object")
    plan = commands.add_parser(
        "plan",
        help="what a study costs: jobs, core hours, GPU hours, disk",
        description="Estimates, from measured rates, what the default target of a study costs before it is started. Exit"
        " code 0: done; 2: the config is wrong, or doesn't tell how many visits there are.",
    )
    _add_configfile(plan)
    plan.add_argument(
        "--visits",
        type=int,
        metavar="N",
        help="people times visits with both recordings (default: as the cohort stage found)",
    )
    plan.add_argument("--gpu-tflops", type=float, metavar="X", help="what one GPU sustains (default: 100)")
    plan.add_argument("--json", action="store_true", help="print one JSON object")
    verify = commands.add_parser(
        "verify-withdrawals",
        help="whether anybody who has withdrawn is still named in the results",
        description="Searches every table, text file and file name below the results folder for people on the study's"
        " withdrawal lists. Exit code 0: nobody is named; 1: somebody is, or a table can't be read; 2: the config or a"
        " list is wrong.",
    )
    _add_configfile(verify)
    verify.add_argument("--results", type=Path, help="another folder than the config's `results`")
    export = commands.add_parser(
        "export-encoder",
        help="one encoder of a trained model, as a file that stands for itself",
        description="Writes the ECG or the CMR encoder of a trained model with all that is needed to load it again:"
        " ptacl.model.build.load_encoder(FILE), or warm_start: {ecg: FILE} in a study. Exit code 0: written; 2: no such model.",
    )
    export.add_argument("model", type=Path, help="the model's folder, such as results/models/ptacl/seed0")
    export.add_argument("file", type=Path, help="the file to write, ending with .safetensors")
    export.add_argument("--side", choices=["ecg", "cmr"], default="ecg", help="which encoder (default: ecg)")
    publish = commands.add_parser(
        "publish",
        help="copy what may leave the machine, after looking through it for people",
        description="Copies results/shareable/, or with --model a package, to a new folder if nothing is found in it: ids, counts"
        " of fewer than five people, images, embedded metadata, paths of this machine. Whether a model may leave is a decision"
        " under your data agreement. Exit code 0: copied; 1: something was found, and nothing copied; 2: there is nothing to copy.",
    )
    publish.add_argument("folder", type=Path, metavar="DIR", help="a folder that is not there yet, or empty")
    publish.add_argument(
        "--model", type=Path, metavar="PACKAGE", help="a package, such as results/packages/ptacl/seed0"
    )
    _add_configfile(publish)
    publish.add_argument("--results", type=Path, help="another folder than the config's `results`")
    embed = commands.add_parser(
        "embed",
        help="embeddings of ECG files by a packaged model",
        description="Writes one row a file: file, reason (why it was refused, else empty), flags, heart_rate_bpm, ecg_feature,"
        " ecg_proj. " + _FILES,
    )
    embed.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a .parquet file to write")
    predict = commands.add_parser(
        "predict",
        help="phenotypes of ECG files by a packaged model, with intervals",
        description="Prints the phenotypes of every file with conformal intervals, and what to mind. For research: no medical"
        " device. " + _FILES,
    )
    predict.add_argument("--json", action="store_true", help="print one JSON object a line")
    predict.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE",
        help="also the phenotypes of the ten people nearest in a gallery, results/galleries/{method}/seed{seed}.parquet",
    )
    for command in (embed, predict):
        command.add_argument("model", type=Path, help="a package, such as results/packages/ptacl/seed0")
        command.add_argument("files", nargs="+", metavar="FILE", help="ECG files; a folder stands for all in it")
        command.add_argument("--device", default="cpu", choices=["cpu", "cuda", "auto"], help="default: cpu")
    return parser, dict(commands.choices)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "inspect":
        return _inspect(arguments.file, arguments.json)
    if arguments.command in ("embed", "predict"):
        return _ask(arguments)
    if arguments.command == "export-encoder":
        return _export(arguments.model, arguments.file, arguments.side)
    # Here, since it needs what only a machine that runs workflows has.
    from ptacl.config import load_config

    config = load_config(arguments.configfile)
    if arguments.command == "check":
        return _check(config, arguments.json)
    if arguments.command == "plan":
        return _plan(config, arguments)
    if arguments.command == "publish":
        return _publish(config, arguments)
    return _verify(config, arguments.results or Path(config["results"]))


def _add_configfile(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="the study's overlays, as for snakemake"
    )


def _export(model: Path, file: Path, side: str) -> int:
    import yaml

    from ptacl.model.build import save_encoder
    from ptacl.training.checkpoint import load_weights

    if file.suffix != ".safetensors":
        raise ConfigError(f"{file.name}: the name of an encoder's file ends with .safetensors")
    weights = load_weights(model / "model.safetensors")
    save_encoder(file, weights, side, yaml.safe_load((model / "config.yaml").read_text()))
    return CLEAN


def _ask(arguments: argparse.Namespace) -> int:
    from ptacl.package.ask import embed_files, listed, predict_files

    files = listed(arguments.files)
    if arguments.command == "embed":
        refused = embed_files(arguments.model, files, arguments.output, arguments.device)
    else:
        refused = predict_files(arguments.model, files, arguments.gallery, arguments.device, arguments.json)
    return UNUSABLE if refused else USABLE


def _check(config: dict[str, Any], as_json: bool) -> int:
    from ptacl.check import as_text, check_study

    found = check_study(config)
    print(mask_ids(json.dumps(asdict(found)) if as_json else as_text(found)))
    return FOUND if found.stops else CLEAN


def _plan(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    from ptacl.plan import GPU_TFLOPS, as_text, plan_study, visits_of

    visits = visits_of(config) if arguments.visits is None else arguments.visits
    tflops = arguments.gpu_tflops or GPU_TFLOPS
    if visits < 1:
        raise ConfigError("--visits: at least one")
    stages = plan_study(config, visits, tflops)
    found = {"visits": visits, "gpu_tflops": tflops, "stages": [asdict(s) for s in stages]}
    print(json.dumps(found) if arguments.json else as_text(stages, visits, config, tflops))
    return CLEAN


def _verify(config: dict[str, Any], results: Path) -> int:
    from ptacl.cohort.verify import verify_withdrawals
    from ptacl.cohort.withdrawals import read_withdrawals

    if not os.path.isdir(results):
        raise ConfigError(f"results: {mask_ids(str(results))} is no folder")
    withdrawn = read_withdrawals(config["cohort"]["withdrawals"], config["cohort"]["source"])
    try:
        found = verify_withdrawals(results, withdrawn, skip="synthetic" if config["synthetic"] else None)
    except ArtifactError as e:
        print(f"ptacl verify-withdrawals: {e}", file=sys.stderr)
        return FOUND
    for path, count in found:
        print(f"{count:>6}  {path}")
    print(
        f"{len(withdrawn):,} people have withdrawn; files below {mask_ids(str(results))} that name any of them: {len(found)}"
    )
    return FOUND if found else CLEAN


def _publish(config: dict[str, Any], arguments: argparse.Namespace) -> int:
    from ptacl.cohort.withdrawals import read_withdrawals
    from ptacl.publish import ids_of, publish, publish_model

    results = arguments.results or Path(config["results"])
    ids = ids_of(results) | set(read_withdrawals(config["cohort"]["withdrawals"], config["cohort"]["source"]))
    if arguments.model is None:
        found = publish(results / "shareable", arguments.folder, ids)
    else:
        found = publish_model(arguments.model, arguments.folder, ids)
    for f in found:
        print(f"{f.place}: {f.what}")
    copied = f"copied to {arguments.folder}" if not found else f"{len(found)} things found: nothing is copied"
    print(mask_ids(copied))
    return FOUND if found else CLEAN


def _inspect(path: Path, as_json: bool) -> int:
    try:
        found = _describe(path)
    except RecordError as e:
        print(f"ptacl inspect: {e}", file=sys.stderr)
        return UNREADABLE
    print(json.dumps(found) if as_json else _as_text(found))
    return USABLE if found["usable"] else UNUSABLE


def _describe(path: Path) -> dict[str, Any]:
    """What the ECG or the cine readers say: the cine's for folders and volumes, else the ECG's."""
    from ptacl.cmr.inspect import describe as describe_cine
    from ptacl.ecg.inspect import describe as describe_ecg

    if os.path.isdir(path) or path.name.lower().endswith((".zip", ".nii", ".nii.gz")):
        return describe_cine(path)
    try:
        return describe_ecg(path)
    except UnreadableEcg as not_an_ecg:
        # A DICOM file or one of an unknown kind may still be a cine; where it is neither, the more telling reason counts.
        try:
            return describe_cine(path)
        except UnreadableCine as not_a_cine:
            telling = not_an_ecg.code == "not_an_ecg" and not_a_cine.code != "not_a_cine"
            raise (not_a_cine if telling else not_an_ecg) from None


def _as_text(found: dict[str, Any]) -> str:
    width = max(map(len, found))
    return "\n".join(
        f"{key:<{width}}  {'none' if key == 'reason' and value is None else _plain(value)}"
        for key, value in found.items()
    )


def _plain(value: Any) -> str:
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return "".join(f"\n    {i:>3}: {_plain(row)}" for i, row in enumerate(value))
        return " ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
