"""Time and memory of the network, compared with its own CLIP."""
