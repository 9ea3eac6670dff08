"""The figure of the label distribution: the number of clips of each class in each split."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tgdfer.training.colours import class_colours
from tgdfer.training.figures.saving import save_figure


def plot_label_distribution(
    counts: Mapping[str, Mapping[str, int]],
    path: str | Path,
    published: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Draws the number of clips of each class, with a panel for each split. The most frequent class is at the top.

    Args:
        counts (`Mapping[str, Mapping[str, int]]`): Number of clips by split and class.
        path (`str` or `Path`): File to write. The suffix determines the format.
        published (`Mapping[str, Mapping[str, int]]`, *optional*): Published number of clips by split and class, which
            is marked by a line across the bar.
    """
    labels = {label for of_split in counts.values() for label in of_split}
    total = {label: sum(of_split.get(label, 0) for of_split in counts.values()) for label in labels}
    order = sorted(labels, key=lambda label: (total[label], label))
    colours = class_colours(order)
    figure = Figure(figsize=(1.6 + 3.4 * len(counts), 1.2 + 0.34 * len(order)), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    places = np.arange(len(order))
    for axes, (split, of_split) in zip(panels, counts.items(), strict=True):
        values = [of_split.get(label, 0) for label in order]
        known = (published or {}).get(split, {})
        axes.barh(places, values, 0.72, color=[colours[label] for label in order])
        for place, label, value in zip(places, order, values, strict=True):
            share = f" ({value / max(1, sum(values)):.0%})" if value else ""
            axes.annotate(
                f"{value:,}{share}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
            if label in known:
                axes.plot([known[label]] * 2, [place - 0.45, place + 0.45], color="black", linewidth=1.2)
        limit = max([*values, *known.values(), 1])
        axes.set(xlim=(0, 1.38 * limit), title=f"{split}: {sum(values):,}", xlabel="clips")
        axes.set_yticks(places, order)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.spines[["top", "right"]].set_visible(False)
    if published:
        figure.supxlabel("black lines: published numbers", fontsize=8)
    save_figure(figure, path)
