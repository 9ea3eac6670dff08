"""Metrics, as plain functions and as modules for `evaluate.load`."""

from tgdfer.training.metrics.functions import (
    THRESHOLDS,
    class_figures,
    clip_figures,
    expected_calibration_error,
    localisation_figures,
    mean_average_precision,
    recognition_figures,
    risk_coverage_area,
    risk_coverage_curve,
)

__all__ = [
    "THRESHOLDS",
    "class_figures",
    "clip_figures",
    "expected_calibration_error",
    "localisation_figures",
    "mean_average_precision",
    "recognition_figures",
    "risk_coverage_area",
    "risk_coverage_curve",
]
