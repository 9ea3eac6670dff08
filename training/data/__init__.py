"""Data sets of labelled clips: reading them, their labels and splits, and making batches for training."""
