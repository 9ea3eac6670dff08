"""Figures: confusion matrix, risk against coverage, the timeline of a clip, and videos with predictions drawn in."""

from tgdfer.training.figures.annotated_video import annotate
from tgdfer.training.figures.confusion_matrix import plot_confusion_matrix
from tgdfer.training.figures.risk_coverage import plot_risk_coverage
from tgdfer.training.figures.saving import require_picture_format, save_figure
from tgdfer.training.figures.timeline import plot_timeline

__all__ = [
    "annotate",
    "plot_confusion_matrix",
    "plot_risk_coverage",
    "plot_timeline",
    "require_picture_format",
    "save_figure",
]
