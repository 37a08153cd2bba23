"""One way in which a file can be odd or damaged, and what must become of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """`make` writes the file or folder below the given one and returns its path.

    reason: why it is refused, None where it is read. flags: all that a reading must note. tolerance: by how much the result
    may differ from the sound file's (ECG: counts of 5 µV; cine: grey levels of 4095), None where it is another signal.
    """

    what: str
    make: Callable[[Path], Path]
    reason: str | None = None
    flags: frozenset[str] = field(default_factory=frozenset)
    tolerance: float | None = 0.0
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """For people: what the study's tables will say."""
        if self.reason:
            return f"excluded: `{self.reason}`"
        noted = ", ".join(f"`{flag}`" for flag in sorted(self.flags))
        return f"read, flagged {noted}" if noted else "read"
