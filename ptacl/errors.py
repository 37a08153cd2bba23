"""One exception per cause. Messages name no subject, since they may reach a log."""


class PtaclError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(PtaclError):
    """A study's configuration is wrong: the message names the key, the value and what is allowed."""


class ArtifactError(PtaclError):
    """A file under `results/` is missing, of another kind or of another schema version."""


class RecordError(PtaclError):
    """One raw record can't be used.

    `code` is a short machine-readable reason (`truncated`, `missing_leads`, ...), which becomes the
    row's `reason`; `detail` says in words what was expected and what was found.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class UnreadableEcg(RecordError):
    """An ECG file that no reader understands, or that breaks off."""


class UnreadableCine(RecordError):
    """A cine file or folder that no reader understands, or that breaks off."""


class UnusableEcg(RecordError):
    """An ECG that was read, and that the quality rules refuse."""


class UnusableCine(RecordError):
    """A cine that was read, and that the quality rules refuse."""
