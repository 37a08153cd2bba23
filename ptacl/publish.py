"""`ptacl publish`: looks through what is to leave the machine for people, and copies it when there is nobody to be found."""

import contextlib
import csv
import getpass
import html
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from ptacl.artifacts import read_tensors
from ptacl.counts import LEAST, STEP
from ptacl.errors import ArtifactError, ConfigError
from ptacl.package.files import ABOUT, CARD, KIND, VERSION, WEIGHTS, read_about

# What the stage `report` leaves there: a page, and tables with some of these columns.
PAGE, TABLES = "report/index.html", "tables"
TABLE_NAMES = {
    f"{name}.csv" for name in (
        "regression_probe", "regression_finetune", "nuisances", "retrieval", "differences_probe", "differences_finetune",
        "differences_retrieval",
    )
}  # fmt: skip
COLUMNS = {
    "method", "baseline", "protocol", "inputs", "task", "direction", "phenotype", "metric", "k", "kind", "value", "lo", "hi", "p",
    "p_holm", "ceiling", "chance", "oracle", "gallery", "label_fraction", "subgroup", "n", "note", "seeds", "seed_sd",
}  # fmt: skip
# Headings of what counts people or visits, and columns of whole numbers that count nobody.
COUNTED = {
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
NO_COUNTS = {"k", "seeds"}
TEXTS = {".html", ".csv", ".md", ".yaml"}
_IMAGES = re.compile(
    r"<(?:img|image|canvas|video|object|embed|iframe)\b|data:(?:image|video|application)/|background-image",
    re.IGNORECASE,
)
_METADATA = re.compile(r"<metadata\b|<rdf:|<!--|name=[\"']?(?:author|generator|creator)\b", re.IGNORECASE)
# A path of two folders or more, a drive, or a share; not a closing tag, an address or a fraction.
_PATHS = re.compile(r"(?<![\w./:<}])/[A-Za-z][\w.-]*/[\w.-]|(?<!\w)[A-Za-z]:\\\w|\\\\\w+\\\w|(?<!\w)~/\w")
_UKB_ID = re.compile(r"(?<![A-Za-z0-9.])[1-6]\d{6}(?![A-Za-z0-9])")
_COUNT_IN_TEXT = re.compile(r"(?:\bn ?= ?|: )(\d[\d,]*)(?: excluded)?\s*$")
_FEW_IN_PROSE = re.compile(
    r"(?<![\w.,])[1-4] (?:people|persons|patients|participants|subjects|visits|women|men|of \d+)\b|\bn ?= ?[1-4](?![\d,.])",
    re.IGNORECASE,
)
# Words that are ids to nobody: letters alone, and numbers that pages are full of.
_PLAIN = re.compile(r"[a-z]+|\d{1,5}", re.IGNORECASE)


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
    names = {PAGE, *(f"{TABLES}/{name}" for name in TABLE_NAMES)}
    found = check_folder(source, ids, names)
    if not found:
        _copy(source, target)
    return found


def publish_model(package: Path, target: Path, ids: Iterable[str]) -> list[Finding]:
    """The same for a package. Whether a model may leave stays a decision under the data agreement."""
    about = read_about(package)
    found = check_folder(package, ids, {WEIGHTS, ABOUT, CARD})
    found += _check_weights(package, about)
    if not found:
        _copy(package, target)
    return found


def check_folder(folder: Path, ids: Iterable[str], names: Iterable[str]) -> list[Finding]:
    """Everything below `folder` that must not leave. names: paths of the files that belong there."""
    people, names, found = _People(ids), set(names), []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        shown = people.masked(place)
        if shown != place:
            found.append(Finding(shown, "a file name with a participant's id"))
        if path.is_symlink():
            found.append(Finding(shown, "a link, which may lead anywhere"))
        elif path.is_file():
            what = (
                []
                if place in names
                else [("", "a file that does not belong here: images and other files may show a person")]
            )
            what += _in_weights(path, people) if path.name == WEIGHTS else _in_text(path, people)
            found += [Finding(f"{shown}, {where}" if where else shown, w) for where, w in what]
    return found


def _in_text(path: Path, people: "_People") -> list[tuple[str, str]]:
    """Where something stands in a file that is to be text, and what."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text or path.suffix.lower() not in TEXTS:
        return [("", "no text")]
    found = [(f"line {i}", what) for i, line in enumerate(text.splitlines(), 1) for what in _in_line(line, people)]
    if path.suffix.lower() == ".html":
        found += _in_page(text)
    elif path.suffix.lower() == ".csv":
        found += _in_table(text)
    return found


def _in_weights(path: Path, people: "_People") -> list[tuple[str, str]]:
    """Ids among the names of tensors and in the metadata: within numbers any short text stands somewhere."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            header = " ".join([*file.keys(), *map(str, (file.metadata() or {}).items())])
    except (OSError, SafetensorError):
        return [("", "no readable weights of a package")]
    return [("", "a participant's id")] if people.inside(header) else []


class _People:
    """Ids to look for, as they are written, between anything but letters and digits."""

    def __init__(self, ids: Iterable[str]) -> None:
        told = sorted((re.escape(i) for i in ids if not _PLAIN.fullmatch(i)), key=len, reverse=True)
        self._known = {i.lower() for i in ids if re.fullmatch(r"[A-Za-z0-9]+", i) and not _PLAIN.fullmatch(i)}
        odd = [i for i in told if not re.fullmatch(r"[A-Za-z0-9]+", i)]
        self._odd = re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(odd)})(?![A-Za-z0-9])", re.IGNORECASE) if odd else None

    def inside(self, text: str) -> bool:
        text = html.unescape(text)
        words = re.findall(r"[A-Za-z0-9]+", text)
        return bool(
            _UKB_ID.search(text)
            or any(w.lower() in self._known for w in words)
            or (self._odd and self._odd.search(text))
        )

    def masked(self, text: str) -> str:
        """A path with every part that holds an id replaced."""
        return "/".join("<id>" if self.inside(part) else part for part in text.split("/"))


def _in_line(line: str, people: _People) -> Iterator[str]:
    if people.inside(line):
        yield "a participant's id"
    if _IMAGES.search(line):
        yield "an image, which may show a person"
    if _METADATA.search(line):
        yield "embedded metadata or a comment"
    if _PATHS.search(line):
        yield "a path of this machine"
    if _FEW_IN_PROSE.search(re.sub(r"<[^>]*>", " ", line)):
        yield f"a number of fewer than {LEAST} people"
    if any(re.search(rf"(?<!\w){re.escape(w)}(?!\w)", line) for w in _of_this_machine()):
        yield "the name of this machine or of its user"


def _of_this_machine() -> list[str]:
    names = [os.uname().nodename]
    with contextlib.suppress(KeyError, OSError):  # a container may have no name for its user
        names.append(getpass.getuser())
    return [n for n in names if len(n) > 4]


def _in_table(text: str) -> list[tuple[str, str]]:
    """Columns of something else than scores, and small or unrounded counts in a CSV."""
    reader = csv.DictReader(text.splitlines())
    if unknown := set(reader.fieldnames or ()) - COLUMNS:
        return [
            ("line 1", f"a column that is none of a table of scores ({len(unknown)} in all): it may hold single people")
        ]
    found = []
    for i, row in enumerate(reader, 2):
        if None in row:
            found.append((f"line {i}", "more cells than columns"))
        found += [
            (f"line {i}", what)
            for c, v in row.items()
            if c in COUNTED and (what := _what_of(v or "", must_be_one=True))
        ]
    return found


def _what_of(text: str, must_be_one: bool = False) -> str | None:
    """What is wrong with a count of people as it is written; None where nothing is."""
    digits = text.strip().replace(",", "")
    if not digits.isdecimal():
        return "no whole number where people are counted" if must_be_one and digits else None
    if int(digits) == 0:
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
        counted = any(w in COUNTED for h in headings for w in re.findall(r"[a-z]+", h.lower()))
        bare = bool(re.fullmatch(r"[1-4]", cell)) and not any(h.lower() in NO_COUNTS for h in headings)
        number = re.fullmatch(r"(\d[\d,]*)( \(\d+ %\))?", cell)
        if number and (counted or bare or number[2]) and (what := _what_of(number[1])):
            yield f"line {line}", what
    for line, drawn in page.drawn:
        if (m := _COUNT_IN_TEXT.search(drawn)) and (what := _what_of(m[1])):
            yield f"line {line}", what


def _check_weights(package: Path, about: Mapping[str, Any]) -> list[Finding]:
    """Whether the tensors are those of the model, and counts are rounded."""
    # Here, since it needs torch.
    from ptacl.package.model import load_package

    found = []
    try:
        load_package(package)
        tensors = read_tensors(package / WEIGHTS, kind=KIND, version=VERSION)
        own = {"probe.weight", "probe.intercept", "typical.mean", "typical.whiten"}
        if any(not name.startswith(("ecg.", "ecg_head.")[: 1 + about["projects"]]) for name in tensors.keys() - own):
            found.append(Finding(WEIGHTS, "a tensor that is no weight of the model: it may hold people's data"))
    except (ArtifactError, KeyError, TypeError, ValueError):
        found.append(Finding(WEIGHTS, "no weights of this model: what they hold is not known"))
    try:
        counts = [*about["people"].values()]
        counts += [n for p in about["phenotypes"] for n in (*p["labels"].values(), p["test"]["n"])]
    except (AttributeError, KeyError, TypeError):
        return [*found, Finding(ABOUT, "damaged")]
    return found + [Finding(ABOUT, what) for n in counts if (what := _what_of(str(n)))]


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: there is something already; name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        made = shutil.copytree(source, Path(beside) / "new", copy_function=shutil.copyfile)
        made.rename(target)
