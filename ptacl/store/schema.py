"""Kinds and versions of the tables and tensors that the store reads and writes."""

VERSION = 1
COHORT_SUBJECTS, COHORT_EXCLUDED = "cohort_subjects", "cohort_excluded"
ECG_TABLE, ECG_TENSORS = "ecg_table", "ecg_tensors"
CMR_TABLE, CMR_TENSORS = "cmr_table", "cmr_tensors"
PAIRS, EXCLUDED = "pairs", "excluded"
TENSORS_DIGEST = "ptacl.tensors"
