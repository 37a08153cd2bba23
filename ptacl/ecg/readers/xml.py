"""An ECG's XML, parsed as bytes and within bounds: no entity, no external DTD, no endless file."""

from pathlib import Path

import numpy as np
from lxml import etree

from ptacl.errors import UnreadableEcg

# libxml2 refuses a text of ten million bytes; a UK Biobank file has one million in all.
MAX_BYTES = 10_000_000


def parse_xml(path: Path) -> etree._Element:
    """The root element of a file. Bytes go to the parser as they are, since encoding labels differ (`ISO8859-1`).

    Raises UnreadableEcg: empty_file, too_large, hostile_xml (an entity is declared), truncated, bad_xml, not_an_ecg.
    """
    size = path.stat().st_size
    if size == 0:
        raise UnreadableEcg("empty_file")
    if size > MAX_BYTES:
        raise UnreadableEcg("too_large", f"more than {MAX_BYTES // 10**6} MB of XML")
    data = path.read_bytes()
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            data = data.decode("utf-16", "ignore").encode()
        if b"<!ENTITY" in data:
            raise UnreadableEcg("hostile_xml", "an XML entity is declared") from None
        tag = next((t for t in (b"CardiologyXML", b"RestingECG") if b"<" + t in data), None)
        whole = tag is not None and b"</" + tag + b">" in data[-200:]
        code = "not_an_ecg" if tag is None else "bad_xml" if whole else "truncated"
        raise UnreadableEcg(code, "the XML does not parse") from None
    dtd = root.getroottree().docinfo.internalDTD
    if dtd is not None and any(True for _ in dtd.iterentities()):
        raise UnreadableEcg("hostile_xml", "an XML entity is declared")
    return root


def number(text: str | None) -> float:
    """A finite decimal number, else NaN."""
    text = (text or "").strip()
    if not text or len(text) > 32 or set(text) - set("0123456789+-.eE"):
        return float("nan")
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if np.isfinite(value) else float("nan")


def measured(found: dict[str, float]) -> dict[str, float]:
    """A device's intervals, rates and counts, of which zero and less stand for `not measured`, as NaN; axes as they are."""
    return {k: v if v > 0 or k.endswith("_deg") else float("nan") for k, v in found.items()}


def text_of(block: etree._Element, name: str) -> str | None:
    """The text of the first element called `name` anywhere below `block`."""
    element = block.find(f".//{name}")
    return element.text if element is not None else None
