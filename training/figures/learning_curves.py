"""The learning curves of a training run: losses, validation figures, learning rates and gradients over the steps."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tgdfer.training.figures.saving import save_figure

_TITLES = {"war": "WAR", "uar": "UAR", "f1": "F1", "map": "mAP"}


def plot_learning_curves(
    steps: Sequence[Mapping[str, Any]],
    epochs: Sequence[Mapping[str, Any]],
    steps_per_epoch: int,
    path: str | Path,
    best_epoch: int = 0,
) -> None:
    """Draws the learning curves of a run. All panels have the epochs as their axis.

    Args:
        steps (`Sequence[Mapping[str, Any]]`): Rows of `steps.jsonl`.
        epochs (`Sequence[Mapping[str, Any]]`): Rows of `log.jsonl`.
        steps_per_epoch (`int`): Number of updates in an epoch.
        path (`str` or `Path`): File to write. The suffix determines the format.
        best_epoch (`int`, *optional*, defaults to 0): Epoch of the best model, which is marked, counted from 1. 0 if
            there is none yet.
    """
    # A layout that is computed from the texts would take longer than the drawing.
    figure = Figure(figsize=(11.0, 6.2))
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.08, top=0.94, wspace=0.16, hspace=0.2)
    (loss, terms, validation), (rates, gradient, speed) = figure.subplots(2, 3, sharex=True)
    at = [row["step"] / steps_per_epoch for row in steps]
    ends = [row["epoch"] for row in epochs]

    _draw(loss, at, [row["loss"] for row in steps], "training", alpha=0.35, color="C0")
    _draw(loss, ends, [row["loss"] for row in epochs], "training, epoch", color="C0", marker=".")
    _draw(loss, ends, [row["validation_loss"] for row in epochs], "validation", color="C1", marker=".")
    for name in _keys(steps, "terms"):
        _draw(terms, at, [row["terms"].get(name) for row in steps], name)
    for name, title in _TITLES.items():
        _draw(validation, ends, [row.get(name) for row in epochs], title, marker=".")
    for name, line in zip(_keys(steps, "lr"), cycle(("-", "--", ":"))):  # Groups often have the same rate.
        _draw(rates, at, [row["lr"].get(name) for row in steps], name, linestyle=line)
    _draw(gradient, at, [row["grad_norm"] for row in steps])
    _draw(speed, at, [row["clips_per_second"] for row in steps])

    titles = ("loss", "terms of the loss", "validation", "learning rate", "gradient norm", "clips per second")
    for axes, title in zip(figure.axes, titles, strict=True):
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        if best_epoch and axes in (loss, validation):
            axes.axvline(best_epoch, color="grey", linestyle=":", linewidth=1, label=f"best epoch: {best_epoch}")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False, fontsize=8)
    validation.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    rates.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    speed.set_ylim(bottom=0)
    speed.set_xlim(0, 1.03 * max([1.0, *at, *ends]))  # Around a single epoch, matplotlib would show parts of epochs.
    for axes in (rates, gradient, speed):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save_figure(figure, path)


def _keys(steps: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    """Returns the keys of a field in all rows, in the order of their first appearance."""
    return list(dict.fromkeys(key for row in steps for key in row[field]))


def _draw(
    axes: Axes, at: Sequence[float], values: Sequence[float | None], label: str | None = None, **style: Any
) -> None:
    """Draws a curve, with a gap for values that are missing. Nothing is drawn if all are."""
    numbers = np.array([np.nan if value is None else value for value in values], float)
    if np.isfinite(numbers).any():
        axes.plot(at, numbers, label=label, linewidth=1.2, **style)
