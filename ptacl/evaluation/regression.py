"""Scores of predicted phenotypes: everybody and subgroups, low values told apart, what is gained over covariates."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ptacl.evaluation.ridge import probe
from ptacl.evaluation.rows import EVERYBODY, Rows, Targets
from ptacl.evaluation.statistics import Estimate, Resampling, auroc, discrimination, partial_r2, regression_metrics
from ptacl.evaluation.tables import PREDICTIONS, Row, block

NUISANCE = "nuisance"


@dataclass(frozen=True)
class Fit:
    """Where predictions come from. protocol: probe | finetune | nuisance; inputs: what they are made from."""

    method: str
    protocol: str
    inputs: str
    label_fraction: float = 1.0


class Scorer:
    """Scores predictions on the rows of one split, all in the same bootstrap draws."""

    def __init__(self, rows: Rows, settings: Mapping[str, Any], resampling: Resampling, scored: np.ndarray) -> None:
        self.rows, self.settings, self.resampling, self.scored = rows, settings, resampling, scored
        self.targets: Targets = rows.targets(settings)
        self.groups = {name: mask[scored] for name, mask in rows.subgroups().items()}

    def scores(self, fit: Fit, predicted: np.ndarray) -> list[Row]:
        """Score rows of predictions [rows of the study, targets]. Subgroups where all labels were used."""
        names = list(self.groups) if fit.label_fraction == 1.0 else [EVERYBODY]
        groups = np.stack([self.groups[g] for g in names], axis=1)
        found: list[Row] = []
        for j, target in enumerate(self.targets.names):
            truth, p = self.targets.values[self.scored, j], predicted[self.scored, j]
            known = np.isfinite(truth) & np.isfinite(p)
            if not known.any():
                continue
            for name, group, metrics in zip(
                names, groups.T, regression_metrics(truth, p, groups, self.resampling), strict=True
            ):
                n = int((known & group).sum())
                found += [_row(fit, target, m, name, e, n) for m, e in metrics.items()]
            found += self._below(fit, target, truth, p, known)
        for target in self.targets.missing:
            nothing = Estimate(None, None, None, "no value of this phenotype in the cohort")
            found.append(_row(fit, target, "r2", EVERYBODY, nothing, 0))
        return found

    def _below(self, fit: Fit, target: str, truth: np.ndarray, p: np.ndarray, known: np.ndarray) -> list[Row]:
        """How well values below a limit of the settings are told apart, by the predicted value itself."""
        if target not in self.settings["below"]:
            return []
        limit = self.settings["below"][target]
        low = truth < limit
        found = discrimination(low, -p, known, self.resampling)
        name, n = f"{target}_below_{limit:g}", int(known.sum())
        return [_row(fit, name, m, EVERYBODY, e, n) for m, e in found.items()]

    def gains(self, fit: Fit, predicted: np.ndarray, without: np.ndarray) -> list[Row]:
        """Partial R² of predictions over those made `without` something, both [rows of the study, targets]."""
        found = []
        for j, target in enumerate(self.targets.names):
            truth, a, b = (x[self.scored, j] for x in (self.targets.values, predicted, without))
            n = int((np.isfinite(truth) & np.isfinite(a) & np.isfinite(b)).sum())
            if n:
                found.append(_row(fit, target, "partial_r2", EVERYBODY, partial_r2(truth, a, b, self.resampling), n))
        return found

    def predictions(self, fit: Fit, predicted: np.ndarray) -> list[pa.Table]:
        """Every prediction of the scored rows whose truth is known, as blocks of tables.PREDICTIONS."""
        found = []
        for j, target in enumerate(self.targets.names):
            truth, p = self.targets.values[self.scored, j], predicted[self.scored, j]
            known = np.flatnonzero(np.isfinite(truth) & np.isfinite(p))
            keys = [self.rows.keys[i] for i in self.scored[known].tolist()]
            found.append(
                block(
                    PREDICTIONS, len(known), **asdict(fit), subject_id=[s for s, _ in keys], visit=[v for _, v in keys],
                    phenotype=target, truth=truth[known], prediction=p[known],
                )
            )  # fmt: skip
        return found

    def nuisances(self, method: str, inputs: str, features: np.ndarray) -> list[Row]:
        """How well frozen features [rows, D] tell what is no phenotype: a representation may lean on it."""
        fit, rows, train = Fit(method, NUISANCE, inputs), self.rows, self.rows.split == "train"
        noise = rows.of_ecg("noise_ratio")
        with np.errstate(divide="ignore", invalid="ignore"):
            amounts = {
                "age": rows.column("age"),
                "heart_rate_bpm": rows.of_ecg("heart_rate_bpm"),
                "log_noise_ratio": np.where(noise > 0, np.log(noise), np.nan),
            }
        centre = rows.column("centre")
        centres = np.unique(centre[np.isfinite(centre)])
        sex = rows.column("sex")
        kinds = {
            "sex": sex[:, None],
            "centre": np.where(np.isfinite(centre)[:, None], centre[:, None] == centres, np.nan).astype(float),
        }
        values = np.hstack([np.stack(list(amounts.values()), 1), *kinds.values()])
        predicted = probe(features, values, rows.subjects, train)[self.scored]
        values, everybody, found = values[self.scored], np.ones((len(self.scored), 1), bool), []
        for j, name in enumerate(amounts):
            known = np.isfinite(values[:, j]) & np.isfinite(predicted[:, j])
            (metrics,) = regression_metrics(values[:, j], predicted[:, j], everybody, self.resampling)
            found.append(_row(fit, name, "r2", EVERYBODY, metrics["r2"], int(known.sum())))
        for name, first, count in (("sex", len(amounts), 1), ("centre", len(amounts) + 1, len(centres))):
            found.append(
                self._told_apart(fit, name, values[:, first : first + count], predicted[:, first : first + count])
            )
        return found

    def _told_apart(self, fit: Fit, name: str, truth: np.ndarray, predicted: np.ndarray) -> Row:
        """Mean over classes [rows, classes] of the area under the curve of one class against the others."""
        known = np.isfinite(truth).all(1) & np.isfinite(predicted).all(1)
        if truth.shape[1] == 0 or not known.any():
            nothing = Estimate(None, None, None, "not known in this cohort")
            return _row(fit, name, "auroc", EVERYBODY, nothing, 0)

        def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
            areas = np.stack(
                [auroc(t == 1, p, weights) for t, p in zip(truth[known].T, predicted[known].T, strict=True)]
            )
            there = np.isfinite(areas)  # a class may have nobody among the scored, or in a draw
            with np.errstate(invalid="ignore"):
                return {"auroc": np.where(there, areas, 0).sum(0) / there.sum(0)}

        e = self.resampling.estimates(known, mean)["auroc"]
        return _row(fit, name, "auroc", EVERYBODY, e, int(known.sum()))


def _row(fit: Fit, phenotype: str, metric: str, subgroup: str, e: Estimate, n: int) -> Row:
    return {**asdict(fit), "phenotype": phenotype, "metric": metric, "subgroup": subgroup, **asdict(e), "n": n}
