"""Kinds and versions of the tables and tensors that the store reads and writes."""

COHORT_SUBJECTS, COHORT_EXCLUDED = "cohort_subjects", "cohort_excluded"
ECG_TABLE, ECG_TENSORS = "ecg_table", "ecg_tensors"
CMR_TABLE, CMR_TENSORS, CMR_VIEWS = "cmr_table", "cmr_tensors", "cmr_views"
PAIRS, EXCLUDED = "pairs", "excluded"
TENSORS_DIGEST = "ptacl.tensors"

VERSION = {
    COHORT_SUBJECTS: 2, COHORT_EXCLUDED: 1, ECG_TABLE: 2, ECG_TENSORS: 1, CMR_TABLE: 2, CMR_TENSORS: 1, CMR_VIEWS: 1, PAIRS: 1,
    EXCLUDED: 1,
}  # fmt: skip
