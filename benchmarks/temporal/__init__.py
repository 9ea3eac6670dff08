"""Temporal sensitivity: pairs of clips that show the same frames in another order."""
