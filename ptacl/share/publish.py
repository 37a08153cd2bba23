"""`ptacl publish`: looks through what is to leave the machine for people, and copies it when there is nobody to be found."""

import contextlib
import csv
import getpass
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq

from ptacl.artifacts import read_tensors
from ptacl.errors import ArtifactError, ConfigError
from ptacl.package.files import ABOUT, CARD, KIND, VERSION, WEIGHTS, read_about
from ptacl.share.counts import LEAST, STEP

# What a column is called that counts people or visits, and a heading of one.
COUNTS = {
    "n",
    "gallery",
    "pairs",
    "visits",
    "people",
    "patients",
    "participants",
    "subjects",
    "count",
    "queries",
    "usable",
}
# Columns of whole numbers that count nobody.
NO_COUNTS = {"k", "seeds", "ecg_bin", "cmr_bin"}
TEXTS = {".html", ".csv", ".md", ".txt", ".yaml"}
_IMAGES = re.compile(
    r"<(?:img|image|canvas|video|object|embed|iframe)\b|data:(?:image|video|application)/|background-image",
    re.IGNORECASE,
)
_METADATA = re.compile(r"<metadata\b|<rdf:|<!--|name=[\"']?(?:author|generator|creator)\b", re.IGNORECASE)
_PATHS = re.compile(
    r"(?<![\w./:])(?:/(?:home|Users|root|mnt|data|scratch|work|tmp|opt|srv|var)/[\w.-]|[A-Za-z]:\\[\w.-])"
)
_UKB_ID = re.compile(r"(?<![\d.])[1-6]\d{6}(?![\d.])")
_COUNT_IN_TEXT = re.compile(r"(?:\bn = |\bn=|: )(\d[\d,]*)(?: excluded)?\s*$")
# Words that are ids to nobody.
_PLAIN = re.compile(r"[a-z]+|\d{1,3}", re.IGNORECASE)


@dataclass(frozen=True)
class Finding:
    """Something that must not leave: where it stands and what it is, without saying it."""

    place: str
    what: str


def ids_of(results: Path) -> set[str]:
    """The ids of everybody a study found. Raises ConfigError where it has not found anybody."""
    found: set[str] = set()
    for name in ("subjects", "excluded"):
        path = results / "cohort" / f"{name}.parquet"
        if not path.is_file():
            raise ConfigError(
                f"{results}: no study: whose ids to look for is not known. Name it by --configfile or --results"
            )
        found |= set(pq.read_table(path, columns=["subject_id"], partitioning=None)["subject_id"].to_pylist())
    return found


def publish(source: Path, target: Path, ids: Iterable[str]) -> list[Finding]:
    """Copies the folder `source` to the new folder `target` if nothing is found in it; returns what was found.

    ids: of everybody whose name must not appear. Raises ConfigError where there is nothing to copy, or `target` is not empty.
    """
    if not source.is_dir():
        raise ConfigError(f"{source}: not there; `snakemake report` makes it")
    found = check_folder(source, ids)
    if not found:
        _copy(source, target)
    return found


def publish_model(package: Path, target: Path, ids: Iterable[str]) -> list[Finding]:
    """The same for a package. Whether a model may leave stays a decision under the data agreement."""
    read_about(package)
    found = [*check_folder(package, ids, binary={WEIGHTS}), *_check_package(package)]
    if not found:
        _copy(package, target)
    return found


def check_folder(folder: Path, ids: Iterable[str], binary: Iterable[str] = ()) -> list[Finding]:
    """Everything below `folder` that must not leave. binary: names of files that need not be text."""
    names = _Names(ids)
    found: list[Finding] = []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found.append(Finding(place, "a link, which may lead anywhere"))
        if names.inside(place):
            found.append(Finding(names.masked(place), "a file name with a participant's id"))
        if path.is_dir() or path.is_symlink():
            continue
        data = path.read_bytes()
        if path.name in binary:
            if names.inside(data.decode("latin-1")):
                found.append(Finding(place, "a participant's id"))
            continue
        if path.suffix.lower() not in TEXTS:
            found.append(Finding(place, "neither a page, a table nor a text: images and other files may show a person"))
            continue
        text = data.decode("utf-8", "replace")
        found += (
            Finding(f"{place}, line {i}", what)
            for i, line in enumerate(text.splitlines(), 1)
            for what in _in_line(line, names)
        )
        checks = {".html": _in_page, ".csv": _in_table}
        found += (Finding(f"{place}, {where}", what) for where, what in checks.get(path.suffix.lower(), _nothing)(text))
    return found


class _Names:
    """Ids to look for. Those that are ordinary words or numbers of up to three digits can't be told from others."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = {i for i in ids if not _PLAIN.fullmatch(i)}

    def inside(self, text: str) -> bool:
        return (
            bool(_UKB_ID.search(text))
            or any(w in self.ids for w in re.findall(r"[\w-]+", text))
            or any(w in self.ids for w in re.findall(r"[A-Za-z0-9]+", text))
        )

    def masked(self, text: str) -> str:
        return re.sub(r"[A-Za-z0-9-]+", lambda m: "<id>" if self.inside(m[0]) else m[0], text)


def _in_line(line: str, names: _Names) -> Iterator[str]:
    if names.inside(line):
        yield "a participant's id"
    if _IMAGES.search(line):
        yield "an image, which may show a person"
    if _METADATA.search(line):
        yield "embedded metadata or a comment"
    if _PATHS.search(line):
        yield "a path of this machine"
    if any(re.search(rf"(?<!\w){re.escape(w)}(?!\w)", line) for w in _of_this_machine()):
        yield "the name of this machine or of its user"


def _of_this_machine() -> list[str]:
    names = [os.uname().nodename]
    with contextlib.suppress(KeyError, OSError):  # a container may have no name for its user
        names.append(getpass.getuser())
    return [n for n in names if len(n) > 4]


def _nothing(text: str) -> list[tuple[str, str]]:
    return []


def _in_table(text: str) -> Iterator[tuple[str, str]]:
    """Small or unrounded counts in a CSV."""
    rows = list(csv.DictReader(text.splitlines()))
    for i, row in enumerate(rows, 2):
        for column, value in row.items():
            if (column or "").strip().lower() in COUNTS and (what := _what_of(value or "")):
                yield f"line {i}", what


def _what_of(text: str) -> str | None:
    """What is wrong with a count of people as it is written; None where nothing is."""
    digits = text.strip().replace(",", "")
    if not digits.isdigit() or int(digits) == 0:
        return None
    if int(digits) < LEAST:
        return f"a cell of fewer than {LEAST} people"
    return (
        None
        if int(digits) % STEP == 0
        else f"a count that is not rounded to {STEP}: small numbers follow by subtraction"
    )


class _Page(HTMLParser):
    """Cells of tables with their headings, and texts of drawings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[tuple[int, list[str], str]] = []
        self.drawn: list[tuple[int, str]] = []
        self._head: list[str] = []
        self._row: list[str] = []
        self._text: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag == "table":
            self._head = []
        elif tag == "tr":
            self._row = []
        elif tag in ("th", "td", "text"):
            self._text = []

    def handle_endtag(self, tag: str) -> None:
        if self._text is None or tag not in ("th", "td", "text"):
            return
        text, self._text, line = "".join(self._text).strip(), None, self.getpos()[0]
        if tag == "text":
            self.drawn.append((line, text))
            return
        headings = self._head[len(self._row) : len(self._row) + 1] + self._row[:1]
        if tag == "td":
            self.cells.append((line, headings, text))
        elif not self._row or len(self._head) == len(self._row):
            self._head.append(text)
        self._row.append(text)

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)


def _in_page(text: str) -> Iterator[tuple[str, str]]:
    """Small or unrounded counts in the tables and drawings of a page."""
    page = _Page(text)
    for line, headings, cell in page.cells:
        counted = any(w in COUNTS for h in headings for w in re.findall(r"[a-z]+", h.lower()))
        bare = bool(re.fullmatch(r"[1-4]", cell)) and not any(h.lower() in NO_COUNTS for h in headings)
        number = re.fullmatch(r"(\d[\d,]*)( \(\d+ %\))?", cell)
        if number and (counted or bare or number[2]) and (what := _what_of(number[1])):
            yield f"line {line}", what
    for line, drawn in page.drawn:
        if (m := _COUNT_IN_TEXT.search(drawn)) and (what := _what_of(m[1])):
            yield f"line {line}", what


def _check_package(package: Path) -> Iterator[Finding]:
    """Whether a package holds what a package holds, and nothing that has a row for everybody."""
    for path in package.rglob("*"):
        if path.name not in (WEIGHTS, ABOUT, CARD) or path.parent != package:
            yield Finding(path.relative_to(package).as_posix(), "no file of a package")
    about = read_about(package)
    try:
        tensors = read_tensors(package / WEIGHTS, kind=KIND, version=VERSION)
    except ArtifactError:
        yield Finding(WEIGHTS, "no readable weights of a package")
        return
    k = len(about["phenotypes"])
    d = tensors["typical.mean"].shape[0] if "typical.mean" in tensors else 0
    own = {"probe.weight": (d, k), "probe.intercept": (k,), "typical.mean": (d,), "typical.whiten": (d, d)}
    for name, value in tensors.items():
        if not name.startswith(("ecg.", "ecg_head.")) and value.shape != own.get(name):
            yield Finding(WEIGHTS, "a tensor that is no weight of the model: it may hold people's data")
    counts = [
        *about["people"].values(),
        *(n for p in about["phenotypes"] for n in (*p["labels"].values(), p["test"]["n"])),
    ]
    for n in counts:
        if what := _what_of(str(n)):
            yield Finding(ABOUT, what)


def _copy(source: Path, target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: there is something already; name a new folder")
    shutil.copytree(source, target, dirs_exist_ok=True, copy_function=shutil.copyfile)
