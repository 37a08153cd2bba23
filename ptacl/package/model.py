"""A package loaded: files to embeddings, and to phenotypes with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ptacl.artifacts import read_tensors
from ptacl.ecg.clean import CleanEcg, clean_ecg
from ptacl.ecg.readers import read_ecg
from ptacl.errors import ArtifactError, RecordError
from ptacl.evaluation.embed import ecg_feature, ecg_projection
from ptacl.model.build import ecg_encoder, load_into, projection_head
from ptacl.model.ecg import CROP
from ptacl.package.calibration import Typical
from ptacl.package.files import KIND, VERSION, WEIGHTS, read_about
from ptacl.package.gallery import Gallery
from ptacl.store.dataset import MV_PER_COUNT
from ptacl.training.augment import WINDOWS
from ptacl.training.processes import pick_device

BATCH = 128
READERS = 4


@dataclass(frozen=True)
class Interval:
    """One predicted phenotype. lo, hi: the 90 % conformal interval, None where the calibration split was too small.

    range_lo, range_hi: between which 98 % of the training values lie, None with fewer than 500; outside: whether the value
    lies beyond.
    """

    value: float
    lo: float | None
    hi: float | None
    unit: str
    range_lo: float | None
    range_hi: float | None
    outside: bool


@dataclass(frozen=True)
class Reading:
    """One file. reason, detail: why it was refused, None where it was not; then there is no embedding.

    feature: float32 [D], what the probes read; projection: float32 [128] of unit length, None where the method has none.
    """

    file: str
    reason: str | None = None
    detail: str | None = None
    flags: tuple[str, ...] = ()
    heart_rate_bpm: float | None = None
    feature: np.ndarray | None = None
    projection: np.ndarray | None = None


@dataclass(frozen=True)
class Answer:
    """What a package says of one file. warnings: in words, what to mind about it."""

    file: str
    reason: str | None
    detail: str | None
    flags: tuple[str, ...]
    heart_rate_bpm: float | None
    phenotypes: Mapping[str, Interval] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    neighbours: Mapping[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Package:
    """A model to ask. about: what package.yaml says; weight [D, K], intercept [K]: the probes, of about["phenotypes"] in order."""

    about: Mapping[str, Any]
    encoder: nn.Module
    head: nn.Module | None
    weight: np.ndarray
    intercept: np.ndarray
    typical: Typical
    device: torch.device

    def read(self, files: Sequence[str | Path], progress: bool = False) -> Iterator[Reading]:
        """Every file in order, embedded or refused with its reason. progress: whether to show a bar on stderr."""
        names = [str(f) for f in files]
        with ThreadPoolExecutor(READERS) as pool, tqdm(total=len(names), disable=not progress, unit="ECG") as bar:
            for first in range(0, len(names), BATCH):
                part = names[first : first + BATCH]
                found = list(pool.map(self._clean, part))
                usable = [ecg for ecg in found if isinstance(ecg, CleanEcg)]
                embedded = iter(self.embed(np.stack([e.counts for e in usable])) if usable else [])
                for name, ecg in zip(part, found, strict=True):
                    if isinstance(ecg, RecordError):
                        yield Reading(name, ecg.code, ecg.detail)
                        continue
                    rate = float(ecg.heart_rate_bpm) if np.isfinite(ecg.heart_rate_bpm) else None
                    feature, projection = next(embedded)
                    yield Reading(name, None, None, tuple(sorted(ecg.flags)), rate, feature, projection)
                bar.update(len(part))

    def embed(self, counts: np.ndarray) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Feature [D] and projection [128] of each cleaned strip, int16 [n, 12, 5000] at 500 Hz, 5 µV per count."""
        strips = torch.from_numpy(counts).to(self.device)
        with torch.no_grad():
            cut = [strips[:, :, s : s + CROP].float() * (MV_PER_COUNT / self.about["scale_mv"]) for s in WINDOWS]
            windows = [self.encoder(x).mean(1) for x in cut]
            features = ecg_feature(windows).float().cpu().numpy()
            projected = None if self.head is None else ecg_projection(windows, self.head).float().cpu().numpy()
        return [(f, None if projected is None else projected[i]) for i, f in enumerate(features)]

    def predict(
        self, files: Sequence[str | Path], gallery: Gallery | None = None, progress: bool = False
    ) -> list[Answer]:
        """Phenotypes of every file, in order; with a gallery, also the phenotypes of the patients nearest to it."""
        return [self.answer(r, gallery) for r in self.read(files, progress)]

    def answer(self, reading: Reading, gallery: Gallery | None = None) -> Answer:
        """The phenotypes of one embedded file; none where it was refused."""
        r = reading
        if r.feature is None:
            return Answer(r.file, r.reason, r.detail, r.flags, r.heart_rate_bpm)
        values = r.feature.astype(np.float64) @ self.weight + self.intercept
        found = {}
        for p, value in zip(self.about["phenotypes"], values.tolist(), strict=True):
            half, (low, high) = p["half_width"], p["range"] or (None, None)
            lo, hi = (None, None) if half is None else (value - half, value + half)
            outside = low is not None and high is not None and not low <= value <= high
            found[p["name"]] = Interval(value, lo, hi, p["unit"], low, high, outside)
        warnings = [f"{name} lies outside the range seen in training" for name, x in found.items() if x.outside]
        limit = self.about["typical_distance"]
        if limit is not None and self.typical.distance(r.feature[None])[0] > limit:
            warnings.insert(
                0,
                "farther from the ECGs that the model learnt from than 99 of 100 of its study: don't rely on the values",
            )
        near = None
        if gallery is not None:
            vector = r.feature if r.projection is None else r.projection
            near = gallery.nearest(vector)
        return Answer(r.file, None, None, r.flags, r.heart_rate_bpm, found, tuple(warnings), near)

    def _clean(self, file: str) -> CleanEcg | RecordError:
        try:
            return clean_ecg(read_ecg(file), self.about["ecg"], self.about["source"])
        except RecordError as e:
            return e
        except Exception as e:  # one odd file must not cost the others
            return RecordError("internal_error", type(e).__name__)


def load_package(folder: str | Path, device: str = "cpu") -> Package:
    """Loads what the stage `package` left in a folder, wherever it lies now.

    device: cpu, cuda, or auto. Raises ArtifactError where something is missing or does not fit.
    """
    folder = Path(folder)
    about = read_about(folder)
    tensors = read_tensors(folder / WEIGHTS, kind=KIND, version=VERSION)
    where = pick_device(device)
    encoder = ecg_encoder(about["encoder"])
    head = projection_head(encoder.dim) if about["projects"] else None
    for module, prefix in ((encoder, "ecg."), (head, "ecg_head.")):
        if module is not None:
            own = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in tensors.items() if k.startswith(prefix)}
            load_into(module, own, folder / WEIGHTS)
            module.to(where).eval()
    weight, intercept, mean, whiten = (
        tensors.get(k) for k in ("probe.weight", "probe.intercept", "typical.mean", "typical.whiten")
    )
    k, d = len(about["phenotypes"]), encoder.dim
    expected = [(d, k), (k,), (d,), (d, d)]
    if [None if x is None else x.shape for x in (weight, intercept, mean, whiten)] != expected:
        raise ArtifactError(f"{folder / WEIGHTS}: the probes don't fit the encoder or the list of phenotypes")
    assert weight is not None and intercept is not None and mean is not None and whiten is not None
    return Package(about, encoder, head, weight, intercept, Typical(mean, whiten), where)
