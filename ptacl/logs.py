"""A stage's log: all that a job prints goes to one file, and nothing that looks like a participant id gets in."""

import contextlib
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from ptacl.errors import PtaclError

# UK Biobank ids have seven digits; longer runs (byte counts, nanoseconds) are left alone.
_ID = re.compile(r"(?<!\d)\d{7}(?!\d)")


def mask_ids(text: str) -> str:
    """Replaces every stand-alone number of seven digits."""
    return _ID.sub("<id>", text)


class _MaskedFile:
    """Writes whole lines to a file, masked: an id split over two writes is still seen."""

    def __init__(self, path: Path) -> None:
        # A name that is not UTF-8 must not make the log itself fail, and print unmasked.
        self._file = path.open("w", buffering=1, encoding="utf-8", errors="backslashreplace")
        self._line = ""

    def write(self, text: str) -> int:
        # A progress bar redraws its line with a carriage return: in a file each state is a line of its own.
        *lines, self._line = (self._line + text.replace("\r", "\n")).split("\n")
        for line in lines:
            if line.strip():
                self._file.write(mask_ids(line) + "\n")
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.write("\n")
        self._file.close()

    def isatty(self) -> bool:
        return False


@contextlib.contextmanager
def stage_log(path: str | Path) -> Iterator[None]:
    """Sends stdout, stderr and logging of the block to `path`, masked.

    A PtaclError ends the process with exit code 1 and its one line, anything else with a masked traceback.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = _MaskedFile(path)
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):  # type: ignore[type-var]
        logging.basicConfig(stream=log, level=logging.INFO, format="%(levelname)s %(message)s", force=True)
        try:
            yield
        except PtaclError as e:
            log.write(f"ERROR {e}\n")
            sys.exit(1)
        except Exception:
            log.write(traceback.format_exc())
            sys.exit(1)
        finally:
            log.close()
