"""One ECG in, answers out: a trained model with its preprocessing, probes and calibration as a folder that stands for itself."""
