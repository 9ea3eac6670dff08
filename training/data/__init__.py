"""Labelled clips: reading a data set, its labels and splits, and the batches that training sees."""
