"""A synthetic cohort: latent physiology that drives the ECG and the moving heart, written as UK Biobank files."""
