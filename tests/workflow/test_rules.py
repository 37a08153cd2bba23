"""What every rule says of itself."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("log", "benchmark", "conda", "threads", "resources", "params", "message", "script")


def rules() -> dict[str, str]:
    """The text of every rule that runs something, by name."""
    found = {}
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        parts = re.split(r"^ *(?:rule|checkpoint) (\w+):$", path.read_text(), flags=re.MULTILINE)
        found |= {name: text for name, text in zip(parts[1::2], parts[2::2], strict=True) if "script:" in text}
    return found


@pytest.mark.parametrize("name", rules())
def test_a_rule_says_what_it_needs_and_what_it_does(name: str) -> None:
    text = rules()[name]
    keys = set(re.findall(r"^ +(\w+):", text, re.MULTILINE))
    assert set(NEEDED) <= keys
    resources = text.split("resources:")[1]
    assert re.search(r"mem_mb=memory\(", resources) and re.search(r"runtime=", resources)
    assert "partition" not in text and "account" not in text
