"""A conda channel made of this Python environment, so that environment files can be solved and linked without a network.

Every installed distribution becomes a package of the same name and version with the dependencies that it declares; its
payload are symbolic links to the installed files. An environment solved from the channel sees what its file asks for, and
nothing else. Usage: channel.py FOLDER
"""

import asyncio
import hashlib
import importlib.metadata as metadata
import io
import json
import re
import sys
import sysconfig
import tarfile
from pathlib import Path, PurePosixPath

from packaging.markers import default_environment
from packaging.requirements import Requirement
from rattler import Platform
from rattler.index import index_fs

SHORT = f"{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"lib/python{SHORT}/site-packages"
NAMES = {"torch": "pytorch", "isal": "python-isal"}
# On conda-forge these choose the build of pytorch.
VARIANTS = ("pytorch-cpu", "pytorch-gpu")


def conda_name(name: str) -> str:
    """A distribution's name on conda-forge."""
    canonical = re.sub(r"[-_.]+", "-", name).lower()
    return NAMES.get(canonical, canonical)


def write_package(folder: Path, name: str, version: str, depends: list[str], links: dict, files: dict) -> None:
    """links: path in the environment to what it points to; files: to its text."""
    members, paths = [], []
    for path, text in sorted(files.items()):
        info = tarfile.TarInfo(path)
        info.size, info.mode = len(text.encode()), 0o644
        members.append((info, text.encode()))
        digest = hashlib.sha256(text.encode()).hexdigest()
        paths.append({"_path": path, "path_type": "hardlink", "sha256": digest, "size_in_bytes": info.size})
    for path, target in sorted(links.items()):
        info = tarfile.TarInfo(path)
        info.type, info.linkname = tarfile.SYMTYPE, target
        members.append((info, b""))
        digest = hashlib.sha256(b"").hexdigest()
        paths.append({"_path": path, "path_type": "softlink", "sha256": digest, "size_in_bytes": 0})
    index = {
        "name": name, "version": version, "build": "local_0", "build_number": 0, "depends": depends, "arch": "x86_64",
        "platform": "linux", "subdir": str(Platform.current()),
    }  # fmt: skip
    about = {
        "info/index.json": json.dumps(index),
        "info/files": "".join(p["_path"] + "\n" for p in paths),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
    }
    with tarfile.open(folder / f"{name}-{version}-local_0.tar.bz2", "w:bz2", compresslevel=1) as tar:
        for path, text in about.items():
            info = tarfile.TarInfo(path)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if data else None)


def depends_of(distribution: metadata.Distribution, installed: set[str]) -> list[str]:
    """What a distribution declares to need here, as conda says it."""
    environment = default_environment() | {"extra": ""}
    found = [f"python {SHORT}.*"]
    for text in distribution.requires or []:
        requirement = Requirement(text)
        wanted = not requirement.marker or requirement.marker.evaluate(environment)
        if wanted and conda_name(requirement.name) in installed:
            found.append(f"{conda_name(requirement.name)} {requirement.specifier}".strip())
    return found


def build(channel: Path) -> None:
    """Writes the channel."""
    folder = channel / str(Platform.current())
    folder.mkdir(parents=True)
    (channel / "noarch").mkdir()
    version = ".".join(map(str, sys.version_info[:3]))
    python = Path(sys.base_prefix) / "bin" / f"python{SHORT}"
    links = {"bin/python": str(python), "bin/python3": "python", f"bin/python{SHORT}": "python"}
    about = f"home = {python.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    write_package(folder, "python", version, [], links, {"pyvenv.cfg": about, f"{SITE}/README": "of a test\n"})
    site = Path(sysconfig.get_path("purelib"))
    found = {conda_name(d.metadata["Name"]): d for d in metadata.distributions(path=[str(site)])}
    for name, distribution in found.items():
        links = {}
        # File by file, since conda cannot link a link to a folder.
        for entry in distribution.files or []:
            path = PurePosixPath(str(entry))
            if path.parts[0] != ".." and "__pycache__" not in path.parts and (site / path).is_file():
                links[f"{SITE}/{path}"] = str(site / path)
        # This project itself is what the environments must do without.
        if links and name != "ptacl":
            own = distribution.version.split("+")[0]
            write_package(folder, name, own, depends_of(distribution, set(found)), links, {})
    torch = found["pytorch"].version.split("+")[0]
    for name in VARIANTS:
        write_package(folder, name, torch, [f"pytorch {torch}"], {}, {f"share/{name}": ""})
    asyncio.run(index_fs(channel, force=True))


if __name__ == "__main__":
    build(Path(sys.argv[1]))
