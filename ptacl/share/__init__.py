"""What may leave the machine, and the check before it does."""
