"""The figure of a confusion matrix.

Cells contain counts. Their colours show the share of the true label, so classes with many and with few clips can be
compared.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tgdfer.training.figures.saving import save_figure


def plot_confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], path: str | Path) -> None:
    """Draws a confusion matrix: rows are true labels, columns are predicted labels.

    Args:
        matrix (`Sequence[Sequence[int]]` of shape `(K, K)`): Numbers of clips, in the order of `labels`.
        labels (`Sequence[str]`): Names of the K classes.
        path (`str` or `Path`): File to write. The suffix determines the format.
    """
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # The font size is fixed, so the figure grows with the number of classes.
    side = 1.8 + 0.62 * len(labels)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    _write_counts(axes, counts, shares)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, shrink=0.8, format=PercentFormatter(1), label="share of the true label")
    save_figure(figure, path)


def _write_counts(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """Writes each count (K, K) into its cell, in a colour that is readable on the cell. Zeros are pale."""
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black" if count else "lightgrey"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
