"""Losses of neighbouring methods, which a training run may add to the loss of the network."""
