"""Recipes: options of a training run for a data set and for a backbone, each with its source.

A recipe has two files, `data_sets/NAME.yaml` and `backbones/NAME.yaml`. No option is in files of both kinds.
"""
