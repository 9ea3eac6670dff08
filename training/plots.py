"""Pictures: the confusion matrix of an evaluation, and the timeline of a clip above its frames."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from tgdfer.training.errors import UserError

# The best curves are drawn in colour, the others in grey: seven colours at once are read by nobody.
COLOURED_CURVES = 3
RELEVANCE_COLOUR = "#f2b134"


def plot_confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str], path: str | Path) -> None:
    """Draws how often each label (rows) was taken for each (columns); colour is the share of the row.

    Args:
        matrix: (K, K) counts, rows are true labels.
        labels: K names.
        path: picture to write.
    """
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.8 + 0.62 * len(labels)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black" if count else "lightgrey"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    figure.colorbar(image, shrink=0.8, format=PercentFormatter(1), label="share of the true label")
    save_figure(figure, path)


def plot_timeline(timeline: Mapping[str, Any], frames: np.ndarray, path: str | Path, title: str = "") -> None:
    """Draws what each frame says for the classes, and how much it counts, above a film strip of the frames.

    Args:
        timeline: `label`, `scores` (label: probability of the clip), `timestamps` (T seconds, or None), `frame_scores`
            (label: T probabilities) and `frame_relevance` (T shares), as `EmotionTimelinePipeline` gives them.
        frames: (T, H, W, 3) uint8.
        path: picture to write.
        title: name of the clip.
    """
    timed = timeline["timestamps"] is not None
    seconds = np.asarray(timeline["timestamps"] if timed else range(len(frames)), dtype=float)
    relevance = np.asarray(timeline["frame_relevance"], dtype=float)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
    aspect = frames.shape[1] / frames.shape[2]
    width, margin = 12.0, 1.5
    strip = (width - margin) / len(seconds) * aspect
    figure = Figure(figsize=(width, 3.4 + min(strip, 3.0)), layout="constrained")
    curves, film = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, min(strip, 3.0)])

    _draw_relevance(curves, seconds, relevance, step)
    _draw_curves(curves, seconds, timeline)
    curves.set_title(
        f"{title}   {timeline['label']} ({timeline['scores'][timeline['label']]:.0%})".strip(), loc="left"
    )

    for frame, time, share in zip(frames, seconds, relevance / max(relevance.max(), 1e-9), strict=True):
        left, right = time - 0.46 * step, time + 0.46 * step
        film.imshow(frame, extent=(left, right, 0, 1), aspect="auto", interpolation="antialiased")
        film.add_patch(
            Rectangle(
                (left, 0), right - left, 1, fill=False, edgecolor=RELEVANCE_COLOUR, linewidth=4 * share, clip_on=False
            )
        )
    film.set(
        ylim=(0, 1),
        yticks=[],
        xlim=(seconds[0] - step / 2, seconds[-1] + step / 2),
        xlabel="seconds" if timed else "frame",
    )
    film.spines[:].set_visible(False)
    save_figure(figure, path)


def _draw_relevance(axes: Axes, seconds: np.ndarray, relevance: np.ndarray, step: float) -> None:
    """Bars of relevance, on an axis of their own."""
    shares = axes.twinx()
    shares.bar(seconds, relevance, width=0.92 * step, color=RELEVANCE_COLOUR, alpha=0.35, linewidth=0)
    shares.set(ylim=(0, max(1.15 * relevance.max(), 2.5 / len(relevance))), ylabel="relevance (bars)")
    shares.yaxis.set_major_formatter(PercentFormatter(1))
    shares.spines["top"].set_visible(False)
    # The curves are read against the bars, so they are drawn above them.
    axes.set_zorder(shares.get_zorder() + 1)
    axes.patch.set_visible(False)


def _draw_curves(axes: Axes, seconds: np.ndarray, timeline: Mapping[str, Any]) -> None:
    """A curve for each class: the predicted one thick, the next most likely in colour, the others grey."""
    label, scores = timeline["label"], timeline["scores"]
    ranked = sorted(scores, key=scores.get, reverse=True)
    for place, name in reversed(list(enumerate(ranked))):
        coloured = place < COLOURED_CURVES
        axes.plot(
            seconds,
            timeline["frame_scores"][name],
            color=f"C{place}" if coloured else "silver",
            linewidth=2.6 if name == label else 1.4 if coloured else 0.9,
            marker="o" if name == label else None,
            markersize=4,
            label=f"{name} ({scores[name]:.0%})" if coloured else None,
        )
    axes.set(ylim=(0, 1), ylabel="what the frame says")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", alpha=0.25)
    axes.spines["top"].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], names[::-1], loc="lower right", bbox_to_anchor=(1, 1), ncols=COLOURED_CURVES, frameon=False
    )


def require_picture_format(path: str | Path) -> None:
    """Checks that the ending of a name says a format that pictures are written in.

    Raises:
        UserError: if not.
    """
    formats = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in formats:
        raise UserError(f"{path} is not the name of a picture: end it in .png, or in another of {', '.join(formats)}.")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Writes a picture whole or not at all; makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")  # the same ending, which says the format
    figure.savefig(temporary, dpi=110)
    os.replace(temporary, path)
