"""A stand-in for the `conda` command as far as Snakemake uses it, on py-rattler.

Real are the reading of environment files, solving, priority of channels, linking, explicit lists. Not real: conda's own
solver and activation; sections for pip are refused. Channels are folders below $CONDA_STAND_IN_CHANNELS.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import yaml
from rattler import Channel, ChannelConfig, ChannelPriority, Platform, VirtualPackage, install, solve
from rattler.match_spec import MatchSpec

HERE = Path(__file__).resolve().parent
VERSION = "24.7.1"  # the oldest that Snakemake accepts


async def create(prefix: Path, names: list[str], specs: list[str]) -> None:
    """Solves and links."""
    root = Path(os.environ["CONDA_STAND_IN_CHANNELS"]).resolve()
    config = ChannelConfig(channel_alias=f"file://{root}/")
    for spec in specs:
        MatchSpec(spec, strict=False)
    records = await solve(
        sources=[Channel(n, config) for n in names if n != "nodefaults"], specs=specs,
        virtual_packages=VirtualPackage.detect(), platforms=[str(Platform.current()), "noarch"],
        channel_priority=ChannelPriority.Strict,
    )  # fmt: skip
    await install(records=records, target_prefix=prefix, show_progress=False, execute_link_scripts=False)


def explicit(prefix: Path) -> list[str]:
    """Addresses of the packages of an environment."""
    return [json.loads(p.read_text())["url"] for p in sorted((prefix / "conda-meta").glob("*.json"))]


def main(argv: list[str]) -> int:
    """One command."""
    if argv == ["--version"]:
        print(f"conda {VERSION}")
        return 0
    if argv[:1] == ["info"]:
        about = {
            "conda_prefix": str(HERE),
            "platform": str(Platform.current()),
            "conda_version": VERSION,
            "envs_dirs": [],
        }
        print(json.dumps(about))
        return 0
    if argv[:1] == ["config"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
        return 0
    if argv[:1] == ["clean"]:
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("--file")
    parser.add_argument("--prefix", type=Path)
    for flag in ("--quiet", "--yes", "--no-default-packages", "--explicit"):
        parser.add_argument(flag, action="store_true")
    if argv[:2] == ["env", "create"]:
        arguments = parser.parse_args(argv[2:])
        wanted = yaml.safe_load(Path(arguments.file).read_text())
        if any(not isinstance(d, str) for d in wanted["dependencies"]):
            print("the stand-in for conda knows no pip section", file=sys.stderr)
            return 1
        asyncio.run(create(arguments.prefix, wanted.get("channels", []), wanted["dependencies"]))
        return 0
    if argv[:2] == ["env", "export"]:
        print("dependencies:\n" + "".join(f"  - {u}\n" for u in explicit(parser.parse_args(argv[2:]).prefix)))
        return 0
    if argv[:1] == ["list"]:
        print("@EXPLICIT\n" + "\n".join(explicit(parser.parse_args(argv[1:]).prefix)))
        return 0
    print("the stand-in for conda does not know: " + " ".join(argv), file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        code = main(sys.argv[1:])
    except Exception as e:  # of the solver or the linker, shown as conda would
        print(f"{type(e).__name__}: {e}", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # py-rattler may crash while the interpreter shuts down, its work done
