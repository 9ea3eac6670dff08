"""Metrics: plain functions, and one module for each of them that users load with `evaluate.load`."""

from tgdfer.training.metrics.functions import (
    THRESHOLDS,
    clip_figures,
    localisation_figures,
    mean_average_precision,
    recognition_figures,
)

__all__ = [
    "THRESHOLDS",
    "clip_figures",
    "localisation_figures",
    "mean_average_precision",
    "recognition_figures",
]
