"""Names for people, and sentences that follow from the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from ptacl.cohort.fields import QUANTITIES

METHODS = {
    "random": "untrained ECG encoder", "mae": "ECG masked autoencoder", "global": "global loss",
    "ptacl": "PTACL (global + local)", "ptacl_shuffled": "control: phases shuffled",
    "ptacl_other": "control: another patient's frames", "cmr": "CMR embedding (upper reference)",
    "ptacl_residual": "PTACL + patient residuals", "ptacl_roll": "PTACL, cines from anywhere in the cycle",
    "scratch": "labels alone", "heart_rate": "same heart rate",
    "chance": "chance (training mean)", "sex": "sex only", "covariates": "covariates",
    "median_beat": "ridge on the median beat", "ceiling_clean": "ceiling: noise-free ECG",
    "ceiling_meas": "ceiling: measured ECG", "ceiling_meas_covariates": "ceiling: ECG + covariates",
}  # fmt: skip
REFERENCES = ("chance", "sex", "covariates", "median_beat")
REASONS = {
    "withdrawn": "withdrew consent", "duplicate": "same person and visit twice",
    "shared_file": "file shared by two ids",
    "invalid_id": "id not valid", "no_ecg": "no ECG", "no_cmr": "no CMR", "ecg_truncated": "ECG file breaks off",
    "ecg_exercise_ecg": "exercise ECG, not resting", "ecg_missing_leads": "ECG leads missing",
    "ecg_flat_leads": "four or more ECG leads flat", "ecg_too_short": "ECG shorter than 9.9 s",
    "ecg_missing_file": "ECG file not there", "cmr_missing_file": "CMR file not there",
    "ecg_bad_amplitude": "ECG in another unit or gain", "ecg_bad_values": "too many ECG samples missing",
    "ecg_einthoven": "ECG limb leads contradict each other", "ecg_wrong_length": "ECG longer than 10 s",
    "cmr_incomplete_cycle": "over a tenth of the heart cycle missing", "cmr_unsupported_zip": "CMR archive packed otherwise",
    "cmr_truncated": "CMR archive breaks off", "cmr_too_few_slices": "too few short-axis slices",
    "cmr_no_cine_series": "no short-axis cine",
}  # fmt: skip
FLAGS = {
    "atrial_fibrillation": "atrial fibrillation", "flat_lead": "a flat lead",
    "trailing_comma": "trailing comma in the file",
    "pacemaker": "pacemaker", "poor_quality": "poor data quality, says the device", "saturated": "saturated samples",
    "dropout": "a stretch without signal", "rate_disagrees": "our rate and the device's differ",
    "leads_derived": "limb leads derived from others", "cropped": "cut to 10 s", "padded": "padded to 10 s",
    "repeated_slice": "a slice acquired twice", "inlinevf_series": "result series in the archive",
    "frames_interpolated": "missing frames interpolated", "slice_gap": "a gap between slices",
    "beats_shifted": "our beats and the device's lie apart", "gaps": "missing samples filled",
    "measurement_implausible": "an implausible measurement by the device", "no_median_beat": "no whole median beat by the device",
    "einthoven": "limb leads slightly off their identities", "rr_disagrees": "header and trigger times give other RR intervals",
    "other_orientation": "another stack at another angle", "length_mismatch": "another length than the file says",
    "slice_dropped": "a slice dropped", "corrupt_file": "a damaged image", "no_timing": "no trigger times",
}  # fmt: skip

CENTRES = {
    "planes": "long-axis planes", "ventricle": "the ventricle", "motion": "motion", "image": "the image's middle",
}  # fmt: skip

MEANS = {
    "mean_of_targets": "mean of the volumes, mass and ejection fractions",
    "mean_of_extra_targets": "mean of the timings",
}
NUISANCES = {"heart_rate_bpm": "Heart rate", "log_noise_ratio": "Noise of the ECG (log)", "sex": "Sex"}
SUBGROUPS = {
    "all": "everybody", "women": "women", "men": "men", "age_under_60": "under 60 years", "age_60_to_69": "60 to 69 years",
    "age_from_70": "from 70 years", "no_atrial_fibrillation": "no atrial fibrillation",
    "atrial_fibrillation": "atrial fibrillation", "first_visit": "first visit", "later_visit": "later visit",
}  # fmt: skip


def label(name: str) -> str:
    """A phenotype, covariate, nuisance, or mean over phenotypes, in words."""
    known = {n: q.label for n, q in QUANTITIES.items()} | MEANS | NUISANCES
    if name in known:
        return known[name]
    if name.endswith("i") and name[:-1] in QUANTITIES:
        return f"{QUANTITIES[name[:-1]].label} over body surface"
    head, below, limit = name.partition("_below_")
    return f"{known.get(head, head)} below {limit}" if below else name


def unit(name: str) -> str:
    """Its unit, empty where it has none."""
    if name.endswith("i") and name[:-1] in QUANTITIES:
        return f"{QUANTITIES[name[:-1]].unit}/m²"
    return QUANTITIES[name].unit if name in QUANTITIES else ""


def method(name: str) -> str:
    """A method or reference row in words."""
    return METHODS.get(name, name.replace("_", " "))


def reason(code: str) -> str:
    """A reason of exclusion in words."""
    return REASONS.get(code, code.replace("_", " "))


def flag(code: str) -> str:
    """A quality flag in words."""
    return FLAGS.get(code, code.replace("_", " "))


def number(value: float | None, digits: int = 2) -> str:
    """A number with a real minus sign; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("-", "\u2212")


def with_interval(row: Mapping[str, Any] | None, digits: int = 2) -> str:
    """`0.46 (0.30 to 0.55)`, or the value alone, or a dash."""
    if row is None or row["value"] is None:
        return "–"
    if row["lo"] is None:
        return number(row["value"], digits)
    return f"{number(row['value'], digits)} ({number(row['lo'], digits)} to {number(row['hi'], digits)})"


def answers(
    regression: Sequence[Mapping[str, Any]], retrieval: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]], methods: Sequence[str], seeds: int,
) -> list[str]:  # fmt: skip
    """The findings in plain sentences, whichever way they fall."""
    r2 = {(r["method"], r["phenotype"]): r for r in regression if r["metric"] == "r2"}
    best = next((m for m in ("ptacl", "global", "mae") if m in methods), None)
    sentences = []
    if best:
        for name in ("LVM", "LVEDV", "LVEF"):
            row = r2.get((best, name))
            if row and row["lo"] is not None:
                verdict = "more than nothing" if row["lo"] > 0 else "not surely more than nothing"
                others = ", ".join(
                    f"{method(m)} {number(r2[m, name]['value'])}"
                    for m in ("sex", "covariates", "median_beat", "random", "ceiling_meas")
                    if (m, name) in r2 and r2[m, name]["value"] is not None
                )
                sentences.append(
                    f"{label(name)} from the ECG by {method(best)}: R² {with_interval(row)}, {verdict}."
                    f" For comparison: {others}."
                )
        if not sentences:
            sentences.append("The test split is too small to say how well a phenotype can be read from the ECG.")
    found = {
        (r["method"], r["direction"]): r
        for r in retrieval
        if r["task"] == "identification" and r["metric"] == "recall" and r["k"] == 10
    }
    for m in ("global", "ptacl"):
        row = found.get((m, "ecg_to_cmr"))
        if row and row["value"] is not None and row["lo"] is not None:
            verdict = "above" if row["lo"] > row["chance"] else "not surely above"
            sentences.append(
                f"The own cine is among the first ten of {row['gallery']} for {100 * row['value']:.0f} %"
                " of the test ECGs"
                f" with {method(m)}, {verdict} the {100 * row['chance']:.0f} % of chance."
            )
    against = [
        d
        for d in differences
        if (d["method"], d["baseline"], d["protocol"], d["inputs"]) == ("ptacl", "global", "probe", "ecg")
        and d["lo"] is not None
        and not d["phenotype"].startswith("mean_of_")
    ]
    if against:
        better = [label(d["phenotype"]) for d in against if d["lo"] > 0]
        worse = [label(d["phenotype"]) for d in against if d["hi"] < 0]
        text = f"Against the global loss alone, the local loss changes R² surely for the better in {len(better)}"
        text += f" and for the worse in {len(worse)} of {len(against)} quantities"
        text += f" (better: {', '.join(better)})" if better else ""
        text += f" (worse: {', '.join(worse)})" if worse else ""
        sentences.append(text + "; with so many comparisons one in forty each way is expected by chance.")
    sentences.append(
        "Every number comes from one training seed, so the spread between trainings is unknown."
        if seeds == 1
        else f"Numbers are means over {seeds} training seeds."
    )
    return sentences
