"""Training, evaluation and prediction: what the commands of `tgdfer` do."""
