"""A small results folder with plausible random numbers, written by the artifacts' contract."""

import copy
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from playwright.sync_api import Browser, Page, sync_playwright

from ptacl.artifacts import write_json, write_table, write_tensors
from ptacl.cmr import stage as cmr_stage
from ptacl.config import finetuned_methods
from ptacl.ecg import stage as ecg_stage
from ptacl.evaluation import tables as scores
from ptacl.report.stage import build_report
from ptacl.store import pairs as store_pairs
from ptacl.store.schema import VERSION

REPOSITORY = Path(__file__).resolve().parents[2]
FIRST_ID = 9_000_001
TARGETS = {"LVEDV": (150, 32), "LVM": (95, 24), "LVEF": (59, 6), "es_ms": (330, 25)}
METRICS = {
    "r2": 0.4, "pearson_r": 0.63, "mae": 12.0, "calibration_slope": 0.9, "bias": 0.3, "loa_lo": -20.0, "loa_hi": 20.0,
}  # fmt: skip
NUISANCES = (("age", "r2"), ("heart_rate_bpm", "r2"), ("log_noise_ratio", "r2"), ("sex", "auroc"), ("centre", "auroc"))
REFERENCES = ("chance", "sex", "covariates", "median_beat", "ceiling_meas", "ceiling_meas_covariates")
Study = tuple[Path, dict[str, Any]]


def default_config(folder: Path) -> dict[str, Any]:
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    config["results"] = str(folder)
    config["cohort"] |= {"shards": 2, "root": str(folder / "synthetic")}
    config["evaluate"] |= {"targets": ["LVEDV", "LVM", "LVEF"], "extra_targets": ["es_ms"], "bootstraps": 100}
    config["report"]["examples"] = 2
    return config


def write_study(
    results: Path, change: Callable[[dict[str, Any]], None] | None = None, *, phenotypes: bool = True,
    splits: tuple[int, int, int, int] = (70, 12, 18, 20),
) -> Study:  # fmt: skip
    """Writes a study; `splits` says how many pairs each part has, `change` edits the config before."""
    config = copy.deepcopy(default_config(results))
    if change:
        change(config)
    _Writer(results, config, splits, phenotypes).everything()
    return results, config


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """`write_study` below `tmp_path`."""
    return lambda *args, **options: write_study(tmp_path / "results", *args, **options)


def _both(config: dict[str, Any]) -> None:
    config["seeds"], config["evaluate"]["protocols"] = [0, 1], ["probe", "finetune"]


@pytest.fixture(scope="session")
def default(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study as the configuration in the repository has it, with its report; to read only."""
    return _reported(write_study(tmp_path_factory.mktemp("default") / "results"))


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of two seeds and both protocols, with its report; to read only."""
    return _reported(write_study(tmp_path_factory.mktemp("both") / "results", _both))


def _reported(study: Study) -> Study:
    build_report(*study)
    return study


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; skips where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    # Without these it looks for updates and names on the network.
    quiet = ["background-networking", "component-update", "sync", "quic", "gpu"]
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file; fails when the page logs an error or asks for anything that is not within it."""
    trouble: list[str] = []
    contexts = []

    def open_(path: Path, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: trouble.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: trouble.append(str(e)))
        page.on("request", lambda r: trouble.append(r.url) if not r.url.startswith(("data:", path.as_uri())) else None)
        page.goto(path.as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert trouble == []


class _Writer:
    def __init__(self, results: Path, config: dict[str, Any], splits: tuple[int, ...], phenotypes: bool) -> None:
        self.results, self.config, self.rng = results, config, np.random.default_rng(3)
        self.split = [s for s, n in zip(("train", "val", "calibration", "test"), splits, strict=True) for _ in range(n)]
        self.ids = [str(FIRST_ID + i) for i in range(len(self.split))]
        self.shard = [i % 2 for i in range(len(self.ids))]
        self.row = [i // 2 for i in range(len(self.ids))]
        self.values = {k: self.rng.normal(m, s, len(self.ids)) for k, (m, s) in TARGETS.items()} if phenotypes else {}
        self.test = [i for i, s in enumerate(self.split) if s == "test"]
        self.note = None if len(self.test) >= 20 else f"no interval with {len(self.test)} test subjects"

    def everything(self) -> None:
        self.cohort()
        for shard in (0, 1):
            self.records(shard)
        self.pairs()
        for method in self.config["methods"]:
            for seed in self.config["seeds"]:
                self.scores(method, seed)
                if method != "cmr":
                    self.history(method, seed)
                    self.embeddings(method, seed)
        for method in finetuned_methods(self.config) if "finetune" in self.config["evaluate"]["protocols"] else []:
            for seed in self.config["seeds"]:
                rows = self.regression(method, protocol="finetune")
                self.scored(f"regression/{method}/seed{seed}_finetuned.parquet", "regression", rows)
        self.scored("regression/references.parquet", "regression", [r for m in REFERENCES for r in self.regression(m)])
        self.scored("retrieval/references.parquet", "retrieval", self.identification("heart_rate"))
        self.scored("regression/differences.parquet", "differences", self.differences())

    def embeddings(self, method: str, seed: int) -> None:
        n = len(self.ids)
        columns = {"subject_id": self.ids, "visit": pa.array([2] * n, pa.int8()), "split": self.split}
        vectors = pa.list_(pa.float32())
        features = {"ecg_feature": pa.array(list(self.rng.normal(size=(n, 8))), vectors)}
        for name in ("ecg_proj", "cmr_proj"):
            features[name] = pa.array(
                list(self.rng.normal(size=(n, 8))) if method in ("global", "ptacl") else [None] * n, vectors
            )
        write_table(self.results / f"embeddings/{method}/seed{seed}.parquet", pa.table(columns | features),
                    kind="embeddings", version=2, settings={})  # fmt: skip

    def scored(self, name: str, kind: str, rows: list[dict[str, Any]]) -> None:
        scores.write_rows(self.results / name, rows, kind, {})

    def write(self, name: str, kind: str, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist(rows, schema=schema)
        write_table(
            self.results / name,
            table,
            kind=kind,
            version=VERSION.get(kind, 1),
            settings={},
            extra={"ptacl.tensors": "0"},
        )

    def cohort(self) -> None:
        n = len(self.ids)
        columns: dict[str, Any] = {"subject_id": self.ids, "visit": pa.array([2] * n, pa.int8()), "split": self.split}
        columns |= {"sex": [float(i % 2) for i in range(n)], "age": self.rng.normal(63, 8, n)}
        table, path = pa.table(columns | self.values), self.results / "cohort/subjects.parquet"
        write_table(path, table, kind="cohort_subjects", version=VERSION["cohort_subjects"], settings={})

    def records(self, shard: int) -> None:
        members = [i for i in range(len(self.ids)) if self.shard[i] == shard]
        ecg, cmr = [], []
        for i in members:
            own = {"subject_id": self.ids[i], "visit": 2, "status": "ok", "tensor_row": self.row[i]}
            flags = ["flat_lead"] if i % 9 == 0 else []
            leads = [not flags or lead != 7 for lead in range(12)]
            ecg.append(own | {"flags": flags, "lead_mask": leads, "phase_ok": i % 20 != 0, "r_method": "sleepecg:II",
                              "heart_rate_bpm": 75.0, "noise_ratio": i / 1000, "drift_uv": 500 - i,
                              "einthoven_uv": (7 * i) % 121, "r_agreement": 2 ** ((i % 7) - 3), "beats_matched": 1.0,
                              "rr_irregularity": (11 * i) % 127})  # fmt: skip
            cine = {
                "n_slices": 9,
                "n_frames": 50,
                "ed_frame": 0,
                "es_frame": 8,
                "centre_confidence": (5 * i) % 101 / 101,
            }
            cmr.append(own | cine | {"flags": ["slice_gap"] if i % 7 == 0 else [], "centre_method": "planes"})
        for table, reason in ((ecg, "flat_leads"), (cmr, None)):  # one whose ECG is refused and whose MRI is not there
            row = {"subject_id": str(FIRST_ID + 900 + shard), "visit": 2, "flags": []}
            table.append(row | ({"status": "excluded", "reason": reason} if reason else {"status": "absent"}))
        self.write(f"ecg/{shard:04d}.parquet", "ecg_table", ecg_stage.SCHEMA, ecg)
        self.write(f"cmr/{shard:04d}.parquet", "cmr_table", cmr_stage.SCHEMA, cmr)
        beat = np.zeros(400, np.int16)
        beat[:11] = [0, 40, 120, 240, 120, 20, -60, -20, 0, 0, 0]
        strips = np.tile(np.resize(beat, 5000), (len(members), 12, 1))
        beats = np.zeros((len(members), 12, 600), np.int16)
        views = {"view": self.rng.integers(0, 255, (len(members), 128, 128), np.uint8),
                 "box": np.float32([[0.25, 0.375, 0.5] if i else [0.7, -0.2, 0.6] for i in range(len(members))])}  # fmt: skip
        write_tensors(
            self.results / f"cmr/{shard:04d}_views.safetensors", views, kind="cmr_views", version=1, settings={}
        )
        cines = self.rng.integers(0, 255, (len(members), 3, 20, 16, 16), np.uint8)
        write_tensors(self.results / f"ecg/{shard:04d}.safetensors", {"ecg": strips, "median_beat": beats},
                      kind="ecg_tensors", version=1, settings={})  # fmt: skip
        write_tensors(self.results / f"cmr/{shard:04d}.safetensors", {"cine": cines}, kind="cmr_tensors", version=1,
                      settings={})  # fmt: skip

    def pairs(self) -> None:
        rows = [
            {
                "subject_id": self.ids[i], "visit": 2, "split": self.split[i], "shard": self.shard[i],
                "ecg_row": self.row[i], "cmr_row": self.row[i], "r_peaks": list(range(3, 5000, 400)), "phase_ok": True,
                "heart_rate_bpm": 75.0, "lead_mask": [True] * 12, "rr_ms": 800.0, "phase_0": 0.05 * (i % 3), "ed_frame": 0,
                "es_frame": 8, "ecg_digest": "0", "cmr_digest": "0",
            }
            for i in range(len(self.ids))
        ]  # fmt: skip
        self.write("pairs/pairs.parquet", "pairs", store_pairs._pairs_schema(), rows)
        excluded = {"withdrawn": 3, "no_cmr": 5, "ecg_truncated": 2, "cmr_too_few_slices": 1}
        flow = {"subjects": len(rows) + 11, "excluded": excluded, "pairs": len(rows)}
        write_json(self.results / "pairs/flow.json", flow)

    def history(self, method: str, seed: int) -> None:
        names = {"mae": ["loss"], "global": ["loss", "global"], "ptacl": ["loss", "global", "local"]}.get(method, [])
        curves = [(n, s) for n in names for s in ("train", "val")]
        if "global" in names:
            curves += [(n, "val") for n in ("patient_r10", "phase_acc_own", "phase_acc_other", "frame_cosine")]
        rows = [
            {"epoch": e, "step": 10 * e, "split": s, "name": n, "value": 1 / (e + 1)}
            for n, s in curves
            for e in range(5)
        ]
        columns = [("epoch", pa.int32()), ("step", pa.int64()), ("split", pa.string()), ("name", pa.string())]
        self.write(f"models/{method}/seed{seed}/history.parquet", "history",
                   pa.schema([*columns, ("value", pa.float64())]), rows)  # fmt: skip

    def regression(self, method: str, protocol: str = "probe") -> list[dict[str, Any]]:
        """Everybody and women, all labels and a tenth, the ECG alone and with covariates; nuisances."""
        alone = {"chance": "nothing", "sex": "sex", "covariates": "covariates", "cmr": "cmr"} | dict.fromkeys(
            ("median_beat", "ceiling_meas"), "ecg"
        )
        alone["ceiling_meas_covariates"] = "covariates_ecg"
        inputs = [alone[method]] if method in alone else ["ecg", "ecg_phase", "covariates_ecg"]
        inputs = inputs if protocol == "probe" else ["ecg"]
        places = [(i, 1.0, g) for i in inputs for g in ("all", "women")] + [(inputs[0], 0.1, "all")]
        rows = []
        for name in self.values if self.test else {}:
            for place in places:
                for metric, value in METRICS.items():
                    rows.append(self.score(method, protocol, name, metric, value, *place))
        if rows and protocol == "probe" and method not in REFERENCES:
            rows += [self.score(method, "nuisance", n, m, 0.4, inputs[0], 1.0, "all") for n, m in NUISANCES]
        return rows

    def score(self, method: str, protocol: str, name: str, metric: str, value: float, inputs: str, fraction: float,
              subgroup: str) -> dict[str, Any]:  # fmt: skip
        value += float(self.rng.uniform(-0.1, 0.1))
        bounds = (None, None) if self.note else (value - 0.1, value + 0.1)
        return {
            "method": method, "protocol": protocol, "inputs": inputs, "phenotype": name, "metric": metric, "value": value,
            "lo": bounds[0], "hi": bounds[1], "n": len(self.test), "label_fraction": fraction, "subgroup": subgroup,
            "note": self.note,
        }  # fmt: skip

    def differences(self) -> list[dict[str, Any]]:
        """As found between one pair of the config, by every protocol and input, and as shares of the ceiling."""
        if self.note or not {"ptacl", "global"} <= set(self.config["methods"]):
            return []
        about = {
            "method": "ptacl", "baseline": "global", "task": "regression", "metric": "r2", "kind": "difference",
            "p": 0.02, "p_holm": 0.08, "n": len(self.test), "seeds": 1,
        }  # fmt: skip
        found = []
        for i, (protocol, inputs) in enumerate((("probe", "ecg"), ("probe", "ecg_phase"), ("finetune", "ecg"))):
            own = about | {"protocol": protocol, "inputs": inputs}
            found += [own | {"phenotype": n, "value": 0.05 - i, "lo": 0.01 - i, "hi": 0.09 - i} for n in self.values]
            found.append(own | {"phenotype": "mean_of_targets", "value": 0.04 - i, "lo": 0.02 - i, "hi": 0.06 - i})
        share = about | {"protocol": "probe", "inputs": "ecg", "baseline": "ceiling_meas", "kind": "share", "p": None}
        recall = about | {"task": "identification", "direction": "both", "metric": "recall", "k": 10}
        share |= {"phenotype": "LVM", "value": 0.7, "lo": 0.6, "hi": 0.8}
        return [*found, share, recall | {"value": 0.03, "lo": -0.01, "hi": 0.07}]

    def found(
        self, method: str, task: str, metric: str, value: float, k: int | None = None, **more: Any
    ) -> dict[str, Any]:
        n = len(self.test)
        bounds = {"lo": None, "hi": None} if self.note else {"lo": value * 0.9, "hi": value * 1.1}
        common = {"method": method, "task": task, "metric": metric, "k": k, "value": value, "chance": 0.1,
                  "oracle": 1.0, "gallery": n, "n": n, "direction": "ecg_to_cmr", "note": self.note}  # fmt: skip
        return common | bounds | more

    def identification(self, method: str) -> list[dict[str, Any]]:
        rows = []
        for direction in ("ecg_to_cmr", "cmr_to_ecg") if self.test else ():
            about = {"method": method, "task": "identification", "direction": direction}
            rows += [self.found(**about, metric="recall", value=0.2 + 0.03 * k, k=k) for k in (1, 5, 10)]
            rows += [self.found(**about, metric=m, value=3.0) for m in ("median_rank", "mrr")]
        return rows

    def retrieval(self, method: str) -> list[dict[str, Any]]:
        if method not in ("global", "ptacl") or not self.test:
            return []
        names = {"own": 0.9, "other": 0.8, "gap": 0.1, "shifted": 0.05}
        rows = [self.found(method, "phase", f"phase_accuracy_{name}", v) for name, v in names.items()]
        rows += [r | {"direction": "cmr_to_ecg", "value": 0.3} for r in rows]
        rows += self.identification(method)
        for p in self.values:
            rows += [self.found(method, "phenotype", m, 0.4, 10, phenotype=p) for m in ("precision", "abs_difference")]
        return rows

    def scores(self, method: str, seed: int) -> None:
        predictions = [
            {"method": method, "protocol": "probe", "inputs": "cmr" if method == "cmr" else "ecg", "label_fraction": 1.0,
             "subject_id": self.ids[i], "visit": 2, "phenotype": k, "truth": v[i],
             "prediction": v.mean() + 0.5 * (v[i] - v.mean()) + self.rng.normal()}
            for k, v in self.values.items() for i in self.test
        ]  # fmt: skip
        if method != "cmr":  # worse ones, which the page has no place for
            predictions += [p | {"label_fraction": 0.1, "prediction": 0.0} for p in predictions]
            predictions += [p | {"inputs": "ecg_phase", "prediction": 0.0} for p in predictions]
        place = f"{method}/seed{seed}.parquet"
        self.scored(f"regression/{place}", "regression", self.regression(method))
        self.scored(f"retrieval/{place}", "retrieval", self.retrieval(method))
        self.scored(f"predictions/{place}", "predictions", predictions)
        cells = [{"method": method, "frames": "own", "ecg_bin": i, "cmr_bin": j, "cosine": float(i == j) - seed, "n": 9}
                 for i in range(10) for j in range(10)]  # fmt: skip
        self.scored(f"alignment/{place}", "alignment", cells if method in ("global", "ptacl") and self.test else [])
