"""The risk-coverage curve: the share of wrong answers if a model only answers when it is confident."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tgdfer.training.figures.saving import save_figure
from tgdfer.training.metrics import risk_coverage_curve


def plot_risk_coverage(
    confidences: Sequence[float], correct: Sequence[bool], path: str | Path, unsure_below: float | None = None
) -> None:
    """Draws the risk-coverage curve of a model.

    Args:
        confidences (`Sequence[float]` of shape `(N,)`): Probability of the predicted label of each clip.
        correct (`Sequence[bool]` of shape `(N,)`): Whether that label is the true one.
        path (`str` or `Path`): File to write. The suffix determines the format.
        unsure_below (`float`, *optional*): Confidence below which the model is unsure. It is marked on the curve.
    """
    thresholds, coverage, risk = risk_coverage_curve(confidences, correct)
    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(coverage, risk, color="C0")
    axes.axhline(risk[-1], color="grey", linestyle=":", linewidth=1, label="all clips answered")
    kept = np.flatnonzero(thresholds >= (np.inf if unsure_below is None else unsure_below))
    if len(kept):
        index = kept[-1]
        name = f"sure: {coverage[index]:.0%} of the clips, {risk[index]:.0%} wrong"
        axes.plot(coverage[index], risk[index], "o", color="C1", label=name)
    axes.set(xlim=(0, 1.02), xlabel="coverage: clips that get a label", ylabel="risk: wrong labels")
    axes.set_ylim(0, max(0.05, 1.1 * float(risk.max())))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    save_figure(figure, path)
