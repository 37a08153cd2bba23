"""CardioSoft XML in every way formats go wrong."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lxml import etree

from ptacl.synthetic.cardiosoft import write_xml
from ptacl.synthetic.latents import draw_subject
from ptacl.synthetic.trace import simulate_trace
from tests.faults.fault import Fault

SUBJECT = draw_subject(2026, 3)
TRACE = simulate_trace(SUBJECT, np.random.default_rng(1))
SOUND = write_xml("9000001", SUBJECT, TRACE, np.random.default_rng(2), frozenset())


def write(folder: Path, data: bytes, name: str = "ecg.xml") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def text(change: Callable[[str], str], encoding: str = "latin-1") -> Callable[[Path], Path]:
    """The sound file with its text changed."""
    return lambda folder: write(folder, change(SOUND.decode("latin-1")).encode(encoding))


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path], Path]:
    """The sound file with its bytes changed."""
    return lambda folder: write(folder, change(SOUND))


def tree(change: Callable[[etree._Element], object]) -> Callable[[Path], Path]:
    """The sound file with its elements changed."""

    def make(folder: Path) -> Path:
        root = etree.fromstring(SOUND)
        change(root)
        return write(folder, etree.tostring(root, encoding="ISO-8859-1", xml_declaration=True))

    return make


def lead(root: etree._Element, name: str) -> etree._Element:
    return root.find(f"StripData/WaveformData[@lead='{name}']")


def counts(name: str, change: Callable[[list[str]], list[str]], separator: str = ",") -> Callable[[Path], Path]:
    """The sound file with one lead's samples changed."""

    def edit(root: etree._Element) -> None:
        element = lead(root, name)
        element.text = separator.join(change(element.text.replace("\n", "").replace("\t", "").split(",")))

    return tree(edit)


def all_counts(change: Callable[[list[str]], list[str]]) -> Callable[[Path], Path]:
    def edit(root: etree._Element) -> None:
        for element in root.iterfind("StripData/WaveformData"):
            element.text = ",".join(change("".join(element.text.split()).split(",")))

    return tree(edit)


def without(*names: str) -> Callable[[Path], Path]:
    return tree(absent(*names))


def replaced(values: dict[int, str]) -> Callable[[list[str]], list[str]]:
    return lambda numbers: [values.get(i, x) for i, x in enumerate(numbers)]


def set_text(path: str, value: str | None) -> Callable[[Path], Path]:
    def edit(root: etree._Element) -> None:
        element = root.find(path)
        if value is None:
            element.getparent().remove(element)
        else:
            element.text = value

    return tree(edit)


def shuffled(root: etree._Element) -> None:
    strip = root.find("StripData")
    waves = strip.findall("WaveformData")
    for w in waves:
        strip.remove(w)
    random.Random(0).shuffle(waves)
    strip.extend(waves)


def duplicate(root: etree._Element, change: str | None = None) -> None:
    copy = etree.fromstring(etree.tostring(lead(root, "V2")))
    if change:
        copy.text = change
    root.find("StripData").append(copy)


def nested(root: etree._Element) -> None:
    strip = root.find("StripData")
    inner = etree.Element("Strip")
    inner.extend(list(strip))
    strip.append(inner)


def swap(root: etree._Element, a: str, b: str) -> None:
    one, two = lead(root, a), lead(root, b)
    one.text, two.text = two.text, one.text


def full_disclosure(root: etree._Element) -> None:
    block = root.find("FullDisclosure")
    etree.SubElement(block, "FullDisclosureData").text = ",".join(["-12"] * 162_000)


def clipped(numbers: list[str]) -> list[str]:
    """Saturated: everything above a third of the peak stands at that value."""
    values = np.array(numbers, int)
    limit = max(int(np.abs(values).max()) // 3, 4)
    return list(map(str, np.clip(values, -limit, limit)))


def at_250_hz(folder: Path) -> Path:
    root = etree.fromstring(SOUND)
    for element in root.iterfind("StripData/WaveformData"):
        element.text = ",".join("".join(element.text.split()).split(",")[::2])
    root.find("StripData/SampleRate").text = "250"
    root.find("StripData/ChannelSampleCountTotal").text = "2500"
    return write(folder, etree.tostring(root, encoding="ISO-8859-1", xml_declaration=True))


def half_resolution(folder: Path) -> Path:
    root = etree.fromstring(SOUND)
    for element in root.iterfind("StripData/WaveformData"):
        element.text = ",".join(str(2 * int(x)) for x in "".join(element.text.split()).split(","))
    root.find("StripData/Resolution").text = "2.5"
    return write(folder, etree.tostring(root, encoding="ISO-8859-1", xml_declaration=True))


def too_large(folder: Path) -> Path:
    path = write(folder, SOUND)
    with path.open("r+b") as f:
        f.truncate(11 * 10**6)  # a hole: takes no room on disk
    return path


def median_beat(
    change: Callable[[list[str]], list[str]], *names: str, valid: tuple[int, int] = (0, 599)
) -> Callable[[Path], Path]:
    """The sound file with leads of its median beat changed, all where none is named, and its valid samples stated."""

    def edit(root: etree._Element) -> None:
        block = root.find("RestingECGMeasurements/MedianSamples")
        for element in block.iterfind("WaveformData"):
            if not names or element.get("lead") in names:
                element.text = ",".join(change("".join(element.text.split()).split(",")))
        etree.SubElement(block, "FirstValid").text, etree.SubElement(block, "LastValid").text = map(str, valid)

    return tree(edit)


def each(*edits: Callable[[etree._Element], object]) -> Callable[[Path], Path]:
    """The sound file after several edits."""
    return tree(lambda root: [edit(root) for edit in edits])


def absent(*names: str) -> Callable[[etree._Element], object]:
    return lambda root: [root.find("StripData").remove(lead(root, name)) for name in names]


def flat(name: str) -> Callable[[etree._Element], object]:
    return lambda root: setattr(lead(root, name), "text", ",".join(["0"] * 5000))


def negated(name: str) -> Callable[[etree._Element], object]:
    def edit(root: etree._Element) -> None:
        element = lead(root, name)
        element.text = ",".join(str(-int(x)) for x in "".join(element.text.split()).split(","))

    return edit


def later(ms: int) -> Callable[[str], str]:
    """The device's beat times moved."""
    return lambda t: re.sub(r'(<Time units="ms">)(\d+)', lambda found: f"{found[1]}{int(found[2]) + ms}", t)


_BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
_FILE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
_DTD = '<!DOCTYPE CardiologyXML SYSTEM "http://127.0.0.1:9/cardiology.dtd">'
EMPTY_MEASUREMENTS = r"<(PQInterval|PAxis|QTInterval|RAxis)([^>]*)>[^<]*<"

FAULTS: dict[str, Fault] = {
    "encoding label without a hyphen": Fault("`ISO8859-1` for `ISO-8859-1`", text(lambda t: t.replace("ISO-8859-1", "ISO8859-1"))),
    "Latin-1 characters": Fault("degree and micro signs in a comment", text(lambda t: t.replace("SYNTHETIC", "37° 5 µV"))),
    "UTF-8 with byte-order mark": Fault("saved again by an editor", text(lambda t: "\ufeff" + t.replace("ISO-8859-1", "UTF-8"), "utf-8")),
    "UTF-16": Fault("saved again by another editor", text(lambda t: t.replace("ISO-8859-1", "UTF-16"), "utf-16")),
    "external DTD": Fault("a DTD on a host that does not answer", text(lambda t: t.replace("?>", "?>" + _DTD))),
    "entity bomb": Fault("nested internal entities", text(lambda t: t.replace("?>", "?>" + _BOMB)), "hostile_xml"),
    "external entity": Fault("an entity that names a local file", text(lambda t: t.replace("?>", "?>" + _FILE)), "hostile_xml"),
    "entity bomb in UTF-16": Fault(
        "hidden from a search for bytes",
        text(lambda t: t.replace("ISO-8859-1", "UTF-16").replace("?>", "?>" + _BOMB), "utf-16"), "hostile_xml",
    ),
    "no bytes": Fault("an empty file", raw(lambda d: b""), "empty_file"),
    "cut in the middle": Fault("a broken download", raw(lambda d: d[: len(d) // 2]), "truncated"),
    "cut in the last tag": Fault("the last ten bytes absent", raw(lambda d: d[:-10]), "truncated"),
    "stray bytes": Fault("control characters in the middle", raw(lambda d: d[:5000] + b"\0\1\2" + d[5000:]), "bad_xml"),
    "text, not XML": Fault("a note under an ECG's name", raw(lambda d: b"see mail of Monday"), "not_an_ecg"),
    "another XML": Fault("another root element", text(lambda t: t.replace("CardiologyXML", "Report")), "not_an_ecg"),
    "UTF-16, cut": Fault("half of what that editor saved", lambda f: write(f, SOUND.decode("latin-1").replace("ISO-8859-1", "UTF-16").encode("utf-16")[:100_001]), "truncated"),
    "larger than 10 MB": Fault("an absurd size", too_large, "too_large"),
    "ten thousand nested elements": Fault(
        "deep nesting", text(lambda t: t.replace("<FullDisclosure/>", "<x>" * 10_000 + "</x>" * 10_000)), "bad_xml"
    ),
    "no strip": Fault("no StripData", set_text("StripData", None), "no_strip"),
    "empty strip": Fault("StripData without WaveformData", without(*["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]), "no_strip"),
    "exercise type": Fault("field 6025 under a resting name", text(lambda t: t.replace("RestECG", "ExerciseECG")), "exercise_ecg"),
    "exercise blocks": Fault("a Protocol block", text(lambda t: t.replace("<StripData>", "<Protocol/><StripData>", 1)), "exercise_ecg"),
    "full disclosure": Fault("27 s of rhythm record besides the strip", tree(full_disclosure)),
    "nested strip": Fault("StripData/Strip/WaveformData", tree(nested)),
    "shuffled leads": Fault("leads in another order", tree(shuffled)),
    "upper-case leads": Fault("`AVR` for `aVR`", text(lambda t: re.sub(r'lead="aV(\w)"', r'lead="AV\1"', t))),
    "spaced lead names": Fault("` v1 ` for `V1`", text(lambda t: t.replace('lead="V1"', 'lead=" v1 "'))),
    "one limb lead absent": Fault("aVL absent", without("aVL"), flags=frozenset({"leads_derived"}), tolerance=2),
    "two limb leads left": Fault(
        "only aVR and III of the limb leads", without("I", "II", "aVL", "aVF"), flags=frozenset({"leads_derived"}), tolerance=4
    ),
    "a flat lead left out": Fault(
        "I absent and II flat: I from the other four", each(absent("I"), flat("II")), flags=frozenset({"flat_lead", "leads_derived"}), tolerance=None
    ),
    "one live limb lead left": Fault("I and a flat II of the limb leads", each(absent("III", "aVR", "aVL", "aVF"), flat("II")), "missing_leads"),
    "one limb lead left": Fault("only lead I of the limb leads", without("II", "III", "aVR", "aVL", "aVF"), "missing_leads"),
    "a chest lead absent": Fault("V4 absent", without("V4"), "missing_leads"),
    "a lead twice, alike": Fault("V2 twice with the same samples", tree(duplicate)),
    "a lead twice, unlike": Fault("V2 twice with other samples", tree(lambda r: duplicate(r, "1,2,3")), "duplicate_lead"),
    "blank samples": Fault("two blank tokens", counts("V1", replaced({10: "", 4000: " "})), flags=frozenset({"gaps"}), tolerance=60),
    "many blank samples": Fault(
        "one sample in eight blank", counts("V1", lambda n: ["" if i % 8 == 0 else x for i, x in enumerate(n)]), "bad_values"
    ),
    "a tenth of a lead blank": Fault(
        "one sample in ten of V1, under 1 % of all", counts("V1", lambda n: ["" if i % 10 == 0 else x for i, x in enumerate(n)]), "bad_values"
    ),
    "a long gap": Fault("240 ms of V1 blank", counts("V1", replaced(dict.fromkeys(range(1000, 1120), ""))), "bad_values"),
    "a sentinel": Fault("20 samples of -32768", counts("V1", replaced(dict.fromkeys(range(1000, 1020), "-32768"))), flags=frozenset({"gaps"}), tolerance=10),
    "a sentinel all along": Fault("-32768 for 300 ms", counts("V1", replaced(dict.fromkeys(range(1000, 1150), "-32768"))), "bad_amplitude"),
    "trailing comma": Fault("a comma and a new line at the end", counts("V1", lambda n: [*n, "\n\t"]), flags=frozenset({"trailing_comma"})),
    "a lone minus sign": Fault("`-` for a number", counts("V1", replaced({7: "-"})), "bad_number"),
    "semicolons": Fault("`;` between samples", counts("V1", lambda n: n, ";"), "bad_number"),
    "a lost comma": Fault("two numbers parted by a blank only", counts("V1", replaced({7: "12 34"})), "bad_number"),
    "NaN as text": Fault("`NaN` for a number", counts("V1", replaced({7: "NaN"})), "bad_number"),
    "infinity as text": Fault("`1e999` for a number", counts("V1", replaced({7: "1e999"})), "bad_number"),
    "more than 16 bits": Fault("70000, which would wrap to 4464", counts("V1", replaced({7: "70000"})), "bad_number"),
    "just over 16 bits": Fault("32768", counts("V1", replaced({7: "32768"})), "bad_number"),
    "a comment among samples": Fault(
        "an XML comment that would end the text", text(lambda t: t.replace("</WaveformData>", "<!-- x -->1,2</WaveformData>")), "bad_number"
    ),
    "millivolt per count": Fault("`mVperLsb`", text(lambda t: t.replace('units="uVperLsb">5<', 'units="mVperLsb">0.005<'))),
    "half the resolution": Fault(
        "2.5 µV per count, twice the counts",
        half_resolution,
    ),
    "unknown unit": Fault("furlongs per count", text(lambda t: t.replace("uVperLsb", "furlongs")), "bad_header"),
    "a unit too large": Fault("5 mV per count", text(lambda t: t.replace("uVperLsb", "mVperLsb")), "bad_amplitude"),
    "a unit too small": Fault("5 nV per count", text(lambda t: t.replace('units="uVperLsb">5<', 'units="uVperLsb">0.005<')), "bad_amplitude"),
    "no resolution": Fault("Resolution absent", set_text("StripData/Resolution", None), "bad_header"),
    "resolution zero": Fault("0 µV per count", set_text("StripData/Resolution", "0"), "bad_header"),
    "no sampling rate": Fault("SampleRate absent", set_text("StripData/SampleRate", None), "bad_header"),
    "absurd sampling rate": Fault("10^9 Hz", set_text("StripData/SampleRate", "1e9"), "bad_header"),
    "250 Hz": Fault("half the sampling rate", at_250_hz, tolerance=None),
    "4,990 samples": Fault("a strip a little short", all_counts(lambda n: n[:4990]), flags=frozenset({"length_mismatch", "padded"}), tolerance=None),
    "5,040 samples": Fault("a strip a little long", all_counts(lambda n: n + n[-1:] * 40), flags=frozenset({"length_mismatch", "cropped"})),
    "4,800 samples": Fault("9.6 s", all_counts(lambda n: n[:4800]), "too_short"),
    "6,000 samples": Fault("12 s in UK Biobank", all_counts(lambda n: n + n[:1000]), "wrong_length"),
    "a short lead": Fault("V1 of half the length", counts("V1", lambda n: n[:2500]), "bad_values"),
    "declared length unlike": Fault(
        "ChannelSampleCountTotal says 4000", set_text("StripData/ChannelSampleCountTotal", "4000"), flags=frozenset({"length_mismatch"})
    ),
    "a flat lead": Fault("V3 of zeros", counts("V3", lambda n: ["0"] * len(n)), flags=frozenset({"flat_lead"}), tolerance=None),
    "four flat leads": Fault(
        "V1 to V4 of one value", lambda f: tree(lambda r: [setattr(lead(r, f"V{k}"), "text", ",".join(["7"] * 5000)) for k in (1, 2, 3, 4)])(f),
        "flat_leads",
    ),
    "every sample zero": Fault("all twelve leads of zeros", all_counts(lambda n: ["0"] * len(n)), "flat_leads"),
    "a saturated lead": Fault("V2 cut at a third of its peak", counts("V2", clipped), flags=frozenset({"saturated"}), tolerance=None),
    "dropout": Fault("V5 constant for 300 ms", counts("V5", lambda n: n[:1000] + [n[1000]] * 150 + n[1150:]), flags=frozenset({"dropout"}), tolerance=None),
    "leads swapped": Fault("I and II exchanged", tree(lambda r: swap(r, "I", "II")), "einthoven"),
    "chest for limb lead": Fault("V3 and III exchanged", tree(lambda r: swap(r, "V3", "III")), "einthoven"),
    "chest for limb lead, II absent": Fault("V3 and III exchanged, no II", each(absent("II"), lambda r: swap(r, "V3", "III")), "einthoven"),
    "chest for limb lead, I flat": Fault("V3 and III exchanged, I of zeros", each(flat("I"), lambda r: swap(r, "V3", "III")), "einthoven"),
    "a lead reversed, II absent": Fault("I negated, no II", each(absent("II"), negated("I")), "einthoven"),
    "poor quality": Fault(
        "the device says `Poor data quality`", text(lambda t: t.replace("---", "*** Poor data quality ***")), flags=frozenset({"poor_quality"})
    ),
    "poor quality, dropped": Fault(
        "the same, with `ecg.poor_quality: drop`", text(lambda t: t.replace("---", "POOR DATA QUALITY, interpretation may be affected")),
        "poor_quality", settings={"poor_quality": "drop"},
    ),
    "pacemaker": Fault("PaceMaker says yes", set_text("PatientInfo/PaceMaker", "yes"), flags=frozenset({"pacemaker"})),
    "pacemaker, dropped": Fault(
        "the same, with `ecg.pacemaker: drop`", set_text("PatientInfo/PaceMaker", "yes"), "pacemaker", settings={"pacemaker": "drop"}
    ),
    "device beats late": Fault("the device's beats 250 ms after the R peaks", text(later(250)), flags=frozenset({"beats_shifted"})),
    "measurements of zero": Fault("0 for PQ, QT and axes", text(lambda t: re.sub(EMPTY_MEASUREMENTS, r"<\1\2>0<", t))),
    "empty measurements": Fault("no value for PQ, QT and axes", text(lambda t: re.sub(EMPTY_MEASUREMENTS, r"<\1\2><", t))),
    "measurements in words": Fault("`normal` for a number", text(lambda t: re.sub(EMPTY_MEASUREMENTS, r"<\1\2>normal<", t))),
    "device rate in error": Fault(
        "VentricularRate twice as high", text(lambda t: re.sub(r">\d+</VentricularRate>", ">190</VentricularRate>", t)), flags=frozenset({"rate_disagrees"})
    ),
    "device QT in error": Fault(
        "QTInterval of 900 ms", text(lambda t: re.sub(r">\d+</QTInterval>", ">900</QTInterval>", t)), flags=frozenset({"measurement_implausible"})
    ),
    "no median beat": Fault("MedianSamples absent: ours is taken", set_text("RestingECGMeasurements/MedianSamples", None)),
    "broken median beat": Fault(
        "a word in the median beat: ours is taken", set_text("RestingECGMeasurements/MedianSamples/WaveformData", "1,x"), flags=frozenset({"no_median_beat"})
    ),
    "ragged median beat": Fault("V1 of half the length: ours is taken", median_beat(lambda n: n[:300], "V1"), flags=frozenset({"no_median_beat"})),
    "median beat of zeros": Fault("ours is taken", median_beat(lambda n: ["0"] * len(n)), flags=frozenset({"no_median_beat"})),
    "median beat valid in part": Fault("30000 before FirstValid", median_beat(lambda n: ["30000"] * 60 + n[60:], valid=(60, 599))),
    "median beat valid nowhere": Fault("LastValid before FirstValid: ours is taken", median_beat(lambda n: n, valid=(400, 100)), flags=frozenset({"no_median_beat"})),
}  # fmt: skip
