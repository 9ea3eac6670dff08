"""Updates of the weights: the training loop and the options of the optimiser."""
