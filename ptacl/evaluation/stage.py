"""Stage evaluate: scores of one method with one seed, of its fine-tuned model, and of the reference rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.artifacts import read_table
from ptacl.evaluation.alignment import phase_alignment
from ptacl.evaluation.references import FULL, PROBE, beat_components, labelled_rows, references
from ptacl.evaluation.regression import Fit, Scorer
from ptacl.evaluation.retrieval import Gallery, Phenotype, Queries, identification, phenotype, phenotype_similarity
from ptacl.evaluation.ridge import probe, standardised
from ptacl.evaluation.rows import Rows
from ptacl.evaluation.statistics import Draws, Resampling
from ptacl.evaluation.tables import QUERIES, Row, block, write_rows

EMBEDDINGS, EMBEDDINGS_VERSION, PAIRS, PAIRS_VERSION = "embeddings", 2, "pairs", 1
FINETUNED, FINETUNED_VERSION = "finetune_predictions", 1
PROJECTION = 128
TEST = "test"


@dataclass(frozen=True)
class Study:
    """What every job of this stage looks at: the settings, the cohort table, the tables of the ECG shards.

    settings: the config's `evaluate`. split: whose rows are scored; the test split is for the study, the validation split
    for what is decided on the way.
    """

    settings: Mapping[str, Any]
    subjects: Path
    ecg_tables: Sequence[Path]
    split: str = TEST

    def scorer(self, keys: Sequence[tuple[str, int]], split: Sequence[str]) -> Scorer:
        """Scores on the rows of the split."""
        rows = Rows(keys, split, self.subjects, self.ecg_tables)
        scored = rows.of_split(self.split)
        draws = Draws(self.settings["bootstraps"], self.settings["seed"])
        return Scorer(rows, self.settings, Resampling([rows.subjects[i] for i in scored], draws), scored)


class Embeddings:
    """The embeddings of a study; columns are read when they are asked for, since all together are large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        table = self._read(["subject_id", "visit", "split"])
        self.keys = list(zip(table["subject_id"].to_pylist(), table["visit"].to_pylist(), strict=True))
        self.split = table["split"].to_pylist()

    def _read(self, columns: list[str]) -> pa.Table:
        return read_table(self._path, kind=EMBEDDINGS, version=EMBEDDINGS_VERSION, columns=columns)

    def __getitem__(self, column: str) -> np.ndarray:
        """A list column as float32 [n, D], NaN in rows without a value; [n, 0] where no row has one."""
        lists = self._read([column])[column].combine_chunks()
        flat = lists.flatten().to_numpy(zero_copy_only=False)
        known = np.asarray(lists.is_valid())
        if known.all():
            return flat.reshape(len(lists), -1)
        values = np.full((len(lists), len(flat) // max(int(known.sum()), 1)), np.nan, np.float32)
        values[known] = flat.reshape(int(known.sum()), values.shape[1])
        return values


@dataclass
class Results:
    """Rows, or blocks of rows, of everything that a job finds."""

    regression: list[Row]
    retrieval: list[Row]
    predictions: list[pa.Table]
    queries: list[pa.Table]
    alignment: list[Row]

    @classmethod
    def empty(cls) -> "Results":
        return cls([], [], [], [], [])

    def add_retrieval(self, method: str, scorer: Scorer, found: tuple[list[Row], list[Queries]]) -> None:
        """Rows and queries of a method; rows of queries are places within the scored split."""
        table, queries = found
        self.retrieval += [{"method": method, **r} for r in table]
        for q in queries:
            keys = [scorer.rows.keys[i] for i in scorer.scored[q["rows"]].tolist()]
            who = {"subject_id": [s for s, _ in keys], "visit": [v for _, v in keys]}
            self.queries.append(block(QUERIES, len(keys), method=method, **who, **q))

    def write(self, settings: Mapping[str, Any], **paths: Path) -> None:
        """Writes those of the tables that have a path."""
        for kind, path in paths.items():
            write_rows(path, getattr(self, kind), kind, settings)


def evaluate(
    method: str, seed: int, study: Study, embeddings: Path, out: Mapping[str, Path], *, feature: str = "ecg_feature"
) -> None:
    """Probe regression from the embedding, nuisances, retrieval and phase alignment where the method has them.

    `out`: paths of the tables regression, retrieval, predictions, queries, alignment. With feature "cmr_feature" (the
    upper reference) the CMR embedding is what is probed and searched.
    """
    table = Embeddings(embeddings)
    scorer = study.scorer(table.keys, table.split)
    found = Results.empty()
    for fit, predicted in _probes(method, seed, table, scorer, feature, found):
        found.regression += scorer.scores(fit, predicted)
        found.predictions += scorer.predictions(fit, predicted)
    found.regression += scorer.nuisances(method, feature.removesuffix("_feature"), table[feature])
    gallery = Gallery(scorer.resampling)
    phenotypes = _phenotypes(scorer, gallery)
    if feature == "cmr_feature":
        cmr = standardised(table[feature], scorer.rows.split == "train")[scorer.scored]
        found.add_retrieval(method, scorer, phenotype_similarity(cmr, cmr, phenotypes, "cmr_to_cmr", gallery))
    else:
        _retrieve(method, table, scorer, gallery, phenotypes, found)
    found.write(study.settings, **out)


def _probes(
    method: str, seed: int, table: Embeddings, scorer: Scorer, feature: str, found: Results
) -> Iterator[tuple[Fit, np.ndarray]]:
    """Every fit of frozen features with its predictions; what the ECG adds to covariates goes straight to `found`."""
    rows, values, settings = scorer.rows, scorer.targets.values, scorer.settings
    x, side = table[feature], feature.removesuffix("_feature")
    train = labelled_rows(rows, FULL, seed)
    for fraction in settings["label_fractions"]:
        fitted = labelled_rows(rows, fraction, seed)
        yield Fit(method, PROBE, side, fraction), probe(x, values, rows.subjects, fitted)
    if side != "ecg":
        return
    phases = table["ecg_phase_feature"]
    if phases.shape[1]:
        # Beside the mean over time, which those without a usable phase have as well.
        yield Fit(method, PROBE, "ecg_phase"), probe(np.hstack([x, phases]), values, rows.subjects, train)
    covariates = rows.covariates(settings["covariates"])
    if np.isfinite(covariates).any():
        fit = Fit(method, PROBE, "covariates_ecg")
        both = probe(np.hstack([covariates, x]), values, rows.subjects, train)
        found.regression += scorer.gains(fit, both, probe(covariates, values, rows.subjects, train))
        yield fit, both


def _phenotypes(scorer: Scorer, gallery: Gallery) -> list[Phenotype]:
    """What patients may be alike in: the targets and extra targets, with the spread of the training split."""
    wanted = {*scorer.settings["targets"], *scorer.settings["extra_targets"]}
    train = scorer.rows.split == "train"
    found = []
    for name, values in zip(scorer.targets.names, scorer.targets.values.T, strict=True):
        if name in wanted:
            known = values[train & np.isfinite(values)]
            sd = float(np.std(known)) if len(known) > 1 else float("nan")
            found.append(phenotype(name, values[scorer.scored], sd, gallery))
    return found


def _retrieve(
    method: str, table: Embeddings, scorer: Scorer, gallery: Gallery, phenotypes: list[Phenotype], found: Results
) -> None:
    scored = scorer.scored
    ecg, cmr = table["ecg_proj"][scored], table["cmr_proj"][scored]
    if ecg.size and cmr.size and np.isfinite(ecg).all() and np.isfinite(cmr).all():
        for direction, query, other in (("ecg_to_cmr", ecg, cmr), ("cmr_to_ecg", cmr, ecg)):
            found.add_retrieval(method, scorer, identification(query, other, direction, gallery))
            found.add_retrieval(method, scorer, phenotype_similarity(query, other, phenotypes, direction, gallery))
        _align(method, table, scorer, gallery, found)
    else:
        # Raw features share a large mean, which would make all cosines alike.
        ecg = standardised(table["ecg_feature"], scorer.rows.split == "train")[scored]
    found.add_retrieval(method, scorer, phenotype_similarity(ecg, ecg, phenotypes, "ecg_to_ecg", gallery))


def _align(method: str, table: Embeddings, scorer: Scorer, gallery: Gallery, found: Results) -> None:
    """Phase alignment over the first visits with usable phase."""
    scored, rows = scorer.scored, gallery.first_visits
    bins = [table[c][scored] for c in ("ecg_phase", "cmr_phase", "cmr_phase_shifted")]
    rows = rows[np.isfinite(bins[0][rows]).all(1)]
    if not len(rows) or not bins[0].shape[1]:
        return
    ecg, cmr, shifted = (b[rows].reshape(len(rows), -1, PROJECTION) for b in bins)
    table_rows, queries, matrices = phase_alignment(ecg, cmr, shifted, rows, gallery)
    found.add_retrieval(method, scorer, (table_rows, queries))
    found.alignment += [{"method": method, **r} for r in matrices]


def evaluate_references(
    study: Study, pairs: Path, ecg_dir: Path, seeds: Sequence[int], out: Mapping[str, Path]
) -> None:
    """The rows that keep the methods honest, scored on the same rows. `out`: regression, retrieval, predictions, queries."""
    recordings = read_table(pairs, kind=PAIRS, version=PAIRS_VERSION).to_pylist()
    scorer = study.scorer([(r["subject_id"], r["visit"]) for r in recordings], [r["split"] for r in recordings])
    beats = beat_components(recordings, ecg_dir)
    found = Results.empty()
    for fit, predicted in references(scorer.rows, scorer.targets, beats, study.settings, seeds):
        found.regression += scorer.scores(fit, predicted)
        if fit.label_fraction == FULL:
            found.predictions += scorer.predictions(fit, predicted)
    _retrieve_by_references(recordings, beats, scorer, found)
    found.write(study.settings, **out)


def _retrieve_by_references(
    recordings: Sequence[Mapping[str, Any]], beats: np.ndarray, scorer: Scorer, found: Results
) -> None:
    """What is found without a method: patients of the same heart rate, of alike covariates, with alike median beats."""
    gallery, scored, train = Gallery(scorer.resampling), scorer.scored, scorer.rows.split == "train"
    phenotypes = _phenotypes(scorer, gallery)
    if not len(scored):
        return
    # On a small arc of a circle the nearest by cosine is the nearest rate; a rate that is unknown is alike to nobody.
    ecg, cmr = (_on_arc(np.array([rate(r) for r in recordings], float)[scored]) for rate in (_ecg_rate, _cmr_rate))
    for direction, query, other in (("ecg_to_cmr", ecg, cmr), ("cmr_to_ecg", cmr, ecg)):
        found.add_retrieval("heart_rate", scorer, identification(query, other, direction, gallery))
    covariates = scorer.rows.covariates(scorer.settings["covariates"])
    if np.isfinite(covariates).any():
        x = standardised(covariates, train)[scored]
        # By distance, and not by angle: two people of average size are alike, however little they differ from the mean.
        x = np.hstack([x, np.sqrt(np.maximum(_FAR**2 - np.square(x).sum(1, keepdims=True), 0))])
        name = "covariates_to_covariates"
        found.add_retrieval("covariates", scorer, phenotype_similarity(x, x, phenotypes, name, gallery))
    x = standardised(beats, train)[scored]
    found.add_retrieval("median_beat", scorer, phenotype_similarity(x, x, phenotypes, "ecg_to_ecg", gallery))


# Larger than any standardised covariates are long: points of one length, whose cosines order them by distance.
_FAR = 50.0


def _ecg_rate(recording: Mapping[str, Any]) -> float:
    return recording["heart_rate_bpm"] or np.nan


def _cmr_rate(recording: Mapping[str, Any]) -> float:
    return 60000 / recording["rr_ms"] if recording["rr_ms"] else np.nan


def _on_arc(rate_bpm: np.ndarray) -> np.ndarray:
    """Points [n, 2] on a quarter of a circle, by the logarithm of the rate between 20 and 300 per minute."""
    angle = np.log(np.clip(rate_bpm, 20, 300) / 20) / np.log(15) * np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def evaluate_finetuned(method: str, study: Study, predictions: Mapping[float, Path], out: Mapping[str, Path]) -> None:
    """Scores of fine-tuned models by label fraction. `out`: regression, predictions."""
    found = Results.empty()
    for fraction, path in sorted(predictions.items(), reverse=True):
        table = read_table(path, kind=FINETUNED, version=FINETUNED_VERSION)
        if not len(table):
            continue
        columns = (table[c].to_pylist() for c in ("subject_id", "visit", "split", "phenotype", "predicted"))
        by_row: dict[tuple[str, int], dict[str, float]] = {}
        split: dict[tuple[str, int], str] = {}
        for subject, visit, of, name, value in zip(*columns, strict=True):
            by_row.setdefault((subject, visit), {})[name] = value
            split[subject, visit] = of
        scorer = study.scorer(list(by_row), list(split.values()))
        predicted = np.array([[r.get(n, np.nan) for n in scorer.targets.names] for r in by_row.values()])
        fit = Fit(method, "finetune", "ecg", fraction)
        found.regression += scorer.scores(fit, predicted)
        found.predictions += scorer.predictions(fit, predicted)
    found.write(study.settings, **out)
