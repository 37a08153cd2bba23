"""Training: augmentation, objectives, a resumable loop, checkpoints."""
