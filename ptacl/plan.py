"""What a study costs before it is started: jobs, core hours, GPU hours and disk of every stage, from measured rates."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ptacl.check import ECG_BYTES
from ptacl.config import finetuned_methods, needed_models, probed_methods, uses_gpu
from ptacl.errors import ConfigError
from ptacl.report.shown import LARGEST, MOST_FRAMES, shown_method
from ptacl.stages import UNTRAINED, stage_settings

# Core seconds of a job before its first recording: Snakemake, Python, imports.
PER_JOB_S = {"torch": 4.0, "plain": 1.5}
# Core milliseconds a recording, from the study of docs/study.md and sixty cines of the full size: 550 files of 208 x 210
# pixels in one zip, of which three slices are read (benchmarks/RESULTS.md).
SYNTHETIC_MS = {"small": 75.0, "full": 660.0}
SYNTHETIC_BYTES = {"small": 1.9e6, "full": 25e6}
ECG_MS, CMR_MS, FULL_CMR_MS = 11.0, 25.0, 200.0
VIEW_BYTES = 128**2  # ptacl.cmr.view, whose readers a plan need not load
COHORT_MS = PAIRS_MS = 0.1
# Of a training step beside the network's arithmetic: reading, cutting, augmenting, by row.
STEP_MS = {"mae": 0.35, "cine_mae": 0.35, "contrastive": 1.0, "supervised": 0.6}
# The arithmetic of small networks on one core, GFLOP a second in fp32.
CORE_GFLOPS = 75.0
# Passing a recording through a trained encoder is a third of a training step of it; embed looks at each cine twice.
FORWARD_SHARE, EMBED_SHARE = 1 / 3, 0.6
EVALUATE_MS, FINETUNED_MS, REFERENCES_MS, COMPARE_MS, REPORT_MS = 0.8, 0.03, 1.7, 0.04, 0.9
GALLERY_MS, QUALITY_MS, QUALITY_BYTES = 0.3, 5.0, 18e3
ECG_PAGE_BYTES = 1e5
PACKAGE_MS = 0.3
# What a GPU sustains where nobody says: a tenth of an H100's peak in bf16.
GPU_TFLOPS = 100.0
# Shares of the visits found that are usable pairs, and of these the training split.
USABLE, TRAIN, TAUGHT = 0.97, 0.6, 0.7
LEAST_STEPS = 300  # of a fine-tuning on few labels
VISITS_PER_PERSON = 1.04  # of the synthetic cohort


@dataclass
class Stage:
    """One kind of job: how many, what one takes on average and at most, and what all leave on the disk."""

    rule: str
    jobs: int
    core_s: float = 0.0
    gpu_s: float = 0.0
    longest_s: float = 0.0
    disk: float = 0.0

    @classmethod
    def of(cls, rule: str, jobs: int, each_s: float, disk: float = 0.0) -> "Stage":
        """Jobs that are all alike and run on one core."""
        return cls(rule, jobs, jobs * each_s, 0.0, each_s, disk)


def plan_study(config: dict[str, Any], visits: int, gpu_tflops: float = GPU_TFLOPS) -> list[Stage]:
    """The rules of the workflow's default target with what they cost, for a checked config.

    visits: people times the visits at which they have both recordings. Without a GPU (`pretrain.device`) all hours are
    core hours. Counting the arithmetic of the networks takes seconds.
    """
    shards, seeds = config["cohort"]["shards"], len(config["seeds"])
    in_shard, pairs = visits / shards, USABLE * visits
    synthetic, per_job = config["synthetic"], PER_JOB_S["plain"]
    full = synthetic is None or synthetic["size"] == "full"
    cmr = config["cmr"]
    cine_bytes = cmr["slices"] * cmr["frames"] * cmr["size"] ** 2 + VIEW_BYTES
    stages = []
    if synthetic:
        ms, size = SYNTHETIC_MS[synthetic["size"]], SYNTHETIC_BYTES[synthetic["size"]]
        stages.append(Stage.of("synthetic", 1, per_job + visits * ms / 1000, visits * size))
    stages += [
        Stage.of("cohort", 1, per_job + visits * COHORT_MS / 1000),
        Stage.of("ecg_shard", shards, per_job + in_shard * ECG_MS / 1000, visits * ECG_BYTES),
        Stage.of(
            "cmr_shard", shards, per_job + in_shard * (FULL_CMR_MS if full else CMR_MS) / 1000, visits * cine_bytes
        ),
        Stage.of("pairs", 1, per_job + visits * PAIRS_MS / 1000),
    ]
    trainings = _Trainings(config, pairs, gpu_tflops)
    methods = probed_methods(config)
    finetuned = finetuned_methods(config) if "finetune" in config["evaluate"]["protocols"] else []
    # One that is only ever fine-tuned needs no model where nothing is.
    models = needed_models(config | {"methods": [m for m in config["methods"] if m in {*methods, *finetuned}]})
    fractions = len(config["pretrain"]["finetune"]["label_fractions"])
    stages.append(trainings.pretrain(models))
    if finetuned:
        stages.append(trainings.finetune(finetuned))
    stages.append(trainings.embed([m for m in methods if m in models]))
    scored = per_job + pairs * EVALUATE_MS / 1000
    stages.append(Stage.of("evaluate_method", seeds * len(methods), scored, 2e6 * seeds * len(methods)))
    if finetuned:
        each = per_job + fractions * pairs * FINETUNED_MS / 1000
        stages.append(Stage.of("evaluate_finetuned", seeds * len(finetuned), each))
    runs = seeds * (len(methods) + len(finetuned))
    packed = seeds * len([m for m in methods if m in models])
    return [
        *stages,
        Stage.of("package_method", packed, PER_JOB_S["torch"] + pairs * PACKAGE_MS / 1000, packed * pairs * 600),
        Stage.of("evaluate_references", 1, per_job + pairs * REFERENCES_MS / 1000),
        Stage.of("compare", 1, per_job + runs * pairs * COMPARE_MS / 1000),
        Stage.of("quality_shard", shards, per_job + in_shard * QUALITY_MS / 1000, visits * QUALITY_BYTES),
        Stage.of("quality", 1, per_job),
        *(
            [Stage.of("gallery", 1, per_job + pairs * GALLERY_MS / 1000, _gallery_bytes(config))]
            if shown_method(config)
            else []
        ),
        Stage.of("report", 1, per_job + pairs * REPORT_MS / 1000, 3e6),
    ]


def _gallery_bytes(config: Mapping[str, Any]) -> float:
    """Of the page: six cines and an ECG for every query, a pixel taking about a byte, a third more in base64."""
    cmr = config["cmr"]
    cine = cmr["slices"] * min(cmr["frames"], MOST_FRAMES) * min(cmr["size"], LARGEST) ** 2
    return config["report"]["queries"] * (6 * 4 / 3 * cine + ECG_PAGE_BYTES)


class _Trainings:
    """Costs of what trains and what reads trained models."""

    def __init__(self, config: Mapping[str, Any], pairs: float, gpu_tflops: float) -> None:
        self.config, self.pairs, self.seeds = config, pairs, len(config["seeds"])
        self.gpus, self.gpu_tflops = config["pretrain"]["gpus"] if uses_gpu(config) else 0, gpu_tflops
        self.counted: dict[str, float] = {}

    def gflop(self, method: str, stage: str = "pretrain") -> float:
        """GFLOP of one row, forward and backward, counted on the method's own networks."""
        settings = stage_settings(self.config, stage, method)
        # Kinds of losses hardly differ in arithmetic.
        key = repr({**settings, "method": settings["method"]["objective"]})
        if key not in self.counted:
            self.counted[key] = gflop_per_row(settings, self.config["cmr"])
        return self.counted[key]

    def stage(self, rule: str, jobs: list[tuple[float, float, float]], disk: float) -> Stage:
        """jobs: rows passed, GFLOP and other core milliseconds of each; run for every seed."""
        stage = Stage(rule, self.seeds * len(jobs), disk=disk)
        for rows, gflop, step_ms in jobs:
            arithmetic_s = rows * gflop / (CORE_GFLOPS if not self.gpus else 1000 * self.gpu_tflops)
            if self.gpus and arithmetic_s:
                stage.gpu_s += self.seeds * arithmetic_s
                # A GPU's threads read and wait for as long as it trains.
                longest = PER_JOB_S["torch"] + arithmetic_s / self.gpus
                stage.core_s += self.seeds * 4 * self.gpus * longest
            else:
                longest = PER_JOB_S["torch"] + arithmetic_s + rows * step_ms / 1000
                stage.core_s += self.seeds * longest
            stage.longest_s = max(stage.longest_s, longest)
        return stage

    def pretrain(self, models: list[str]) -> Stage:
        definitions, jobs = self.config["pretrain"]["methods"], []
        for m in models:
            objective = definitions[m]["objective"]
            if objective in UNTRAINED:
                jobs.append((0.0, 0.0, 0.0))
                continue
            section = stage_settings(self.config, "pretrain", m)[objective]
            jobs.append((section["epochs"] * TAUGHT * self.pairs, self.gflop(m), STEP_MS[objective]))
        return self.stage("pretrain_method", jobs, 0.0)

    def finetune(self, methods: list[str]) -> Stage:
        section, jobs = self.config["pretrain"]["finetune"], []
        for m in methods:
            for f in section["label_fractions"]:
                rows = max(section["epochs"] * f * TRAIN * self.pairs, LEAST_STEPS * section["batch"])
                # Everybody is predicted in the end.
                jobs.append((rows + FORWARD_SHARE * self.pairs, self.gflop(m, "finetune"), STEP_MS["supervised"]))
        return self.stage("finetune_method", jobs, 0.0)

    def embed(self, methods: list[str]) -> Stage:
        definitions, jobs = self.config["pretrain"]["methods"], []
        for m in methods:
            untrained = definitions[m]["objective"] in UNTRAINED
            gflop = 0.0 if untrained else self.gflop(m)
            jobs.append((EMBED_SHARE * self.pairs, gflop, 2 * STEP_MS["contrastive"]))
        return self.stage("embed_method", jobs, self.seeds * len(methods) * self.pairs * 20e3)


def gflop_per_row(settings: Mapping[str, Any], cmr: Mapping[str, Any]) -> float:
    """GFLOP of one row of a training, forward and backward, counted by torch on one invented pair.

    settings: of the stages pretrain or finetune, for a method that is trained. cmr: the config's.
    """
    # A planner that is only asked for the jobs of a cohort needs no torch.
    import torch

    from ptacl.model.build import Regressor, ecg_encoder
    from ptacl.store.dataset import Batch
    from ptacl.store.timing import Timing
    from ptacl.training.augment import Augmentation
    from ptacl.training.objectives import SupervisedObjective
    from ptacl.training.speed import flops_per_row
    from ptacl.training.stage import Inputs, build_objective

    if "finetune" in settings:
        model = Regressor(ecg_encoder(settings["encoder"]), len(settings["targets"]))
        labels, augmentation = torch.zeros(1, len(settings["targets"])), Augmentation(**settings["augment"])
        objective: Any = SupervisedObjective(model, labels, settings["scale"], augmentation)
    else:
        objective, _ = build_objective(settings, Inputs(*[Path()] * 4))
    one = torch.ones(1)
    peaks = torch.arange(100.0, 5000.0, 450.0)[None]
    timing = Timing(peaks, 0 * one, one.bool(), 180 * one, 0.35 * one)
    shape = (1, cmr["slices"], cmr["frames"], cmr["size"], cmr["size"])
    sides: dict[str, Any] = {
        "ecg": torch.randint(-300, 300, (1, 12, 5000), dtype=torch.int16),
        "cine": torch.randint(0, 255, shape, dtype=torch.uint8),
    }
    shown: dict[str, Any] = {k: v if k in objective.sides else None for k, v in sides.items()}
    return flops_per_row(objective, Batch(torch.zeros(1, dtype=torch.long), **shown, timing=timing)) / 1e9


def visits_of(config: Mapping[str, Any]) -> int:
    """How many visits a study has: as found, where its cohort stage has run, or as the synthetic cohort will have.

    Raises ConfigError where neither tells.
    """
    found = Path(config["results"]) / "cohort" / "subjects.parquet"
    if os.path.isfile(found):
        return int(pq.read_metadata(found).num_rows)
    if config["synthetic"]:
        return math.ceil(VISITS_PER_PERSON * config["synthetic"]["subjects"])
    raise ConfigError("the stage cohort has not run yet: say --visits N, as `ptacl check` counts them")


def as_text(stages: list[Stage], visits: int, config: Mapping[str, Any], gpu_tflops: float) -> str:
    """The plan as a table for people."""
    total = Stage(
        "all of it", sum(s.jobs for s in stages), sum(s.core_s for s in stages), sum(s.gpu_s for s in stages),
        max(s.longest_s for s in stages), sum(s.disk for s in stages),
    )  # fmt: skip
    on_gpu = uses_gpu(config)
    lines = [
        f"{visits:,} visits, {len(config['methods'])} methods, seeds {', '.join(map(str, config['seeds']))},"
        f" {config['cohort']['shards']} shards below {config['results']}",
        "",
        f"{'':<20}{'jobs':>7}{'core hours':>12}{'GPU hours':>11}{'longest job':>13}{'disk':>11}",
    ]
    for s in [*stages, total]:
        gpu = f"{s.gpu_s / 3600:>11.2f}" if s.gpu_s else f"{'':>11}"
        minutes = f"{s.longest_s / 60:,.1f} min" if s.longest_s < 7200 else f"{s.longest_s / 3600:,.1f} h"
        disk = f"{s.disk / 1e9:,.2f} GB" if s.disk > 5e6 else ""
        lines.append(f"{s.rule:<20}{s.jobs:>7,}{s.core_s / 3600:>12.2f}{gpu}{minutes:>13}{disk:>11}")
    if on_gpu:
        lines += [
            "",
            f"GPU hours assume {gpu_tflops:g} TFLOP/s sustained (--gpu-tflops); no GPU has been measured. Core hours of a"
            " training count the four threads that read for it.",
        ]
    lines += [
        "",
        "Rates were measured on two shared server cores (benchmarks/RESULTS.md): a factor of two either way is likely elsewhere.",
    ]
    per_shard = visits / config["cohort"]["shards"]
    if not 100 <= per_shard <= 600 and visits > 2000:
        lines.append(
            f"{per_shard:,.0f} visits a shard: about 256 suit a cluster, so cohort.shards: {math.ceil(visits / 256)},"
            " if nothing has run yet."
        )
    return "\n".join(lines)
