"""Pictures: the confusion matrix of an evaluation, and the timeline of a clip above its frames."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter

from tgdfer.training.errors import UserError

# The best curves are drawn in colour, the others in grey: seven colours at once are read by nobody.
COLOURED_CURVES = 3
# Curves of more frames are read as lines, without a mark at each.
MARKED_FRAMES = 64
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


def plot_timeline(
    timeline: Mapping[str, Any],
    frames: np.ndarray,
    path: str | Path,
    title: str = "",
    film_seconds: Sequence[float] | None = None,
    truth: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draws what each frame says for the classes, and how much it counts, above a film strip; over it the segments.

    Args:
        timeline: `label`, `scores` (label: probability of the clip), `timestamps` (T seconds, or None), `frame_scores`
            (label: T probabilities), `frame_relevance` (T shares) and, if there are any, `segments`, as
            `EmotionTimelinePipeline` gives them.
        frames: (T, H, W, 3) uint8; of a long video fewer.
        path: picture to write.
        title: name of the clip.
        film_seconds: when the frames are shown, where they are not those of the timeline.
        truth: true segments, drawn below those that were found.
    """
    timed = timeline["timestamps"] is not None
    relevance = np.asarray(timeline["frame_relevance"], dtype=float)
    seconds = np.asarray(timeline["timestamps"] if timed else range(len(relevance)), dtype=float)
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
    aspect = frames.shape[1] / frames.shape[2]
    width, margin = 12.0, 1.5
    strip = (width - margin) / len(frames) * aspect
    figure = Figure(figsize=(width, 3.4 + min(strip, 3.0)), layout="constrained")
    curves, film = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, min(strip, 3.0)])

    _draw_relevance(curves, seconds, relevance)
    colours = _colours(timeline)
    _draw_curves(curves, seconds, timeline, colours)
    _draw_segments(curves, timeline.get("segments", []), colours, 0.97)
    _draw_segments(curves, truth, colours, 0.93)
    curves.set_title(
        f"{title}   {timeline['label']} ({timeline['scores'][timeline['label']]:.0%})".strip(), loc="left"
    )
    shown = seconds if film_seconds is None else np.asarray(film_seconds, dtype=float)
    shares = np.interp(shown, seconds, relevance / max(relevance.max(), 1e-9))
    _draw_film(film, frames, shown, shares if film_seconds is None else np.zeros(len(shown)))
    film.set(
        ylim=(0, 1),
        yticks=[],
        xlim=(seconds[0] - step / 2, seconds[-1] + step / 2),
        xlabel="seconds" if timed else "frame",
    )
    film.spines[:].set_visible(False)
    save_figure(figure, path)


def _draw_film(axes: Axes, frames: np.ndarray, seconds: np.ndarray, shares: np.ndarray) -> None:
    """The frames side by side, each in a frame as thick as it is relevant."""
    for frame, left, right, share in zip(frames, *_places(seconds), shares, strict=True):
        axes.imshow(frame, extent=(left, right, 0, 1), aspect="auto", interpolation="antialiased")
        axes.add_patch(
            Rectangle(
                (left, 0), right - left, 1, fill=False, edgecolor=RELEVANCE_COLOUR, linewidth=4 * share, clip_on=False
            )
        )


def _places(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each of T frames begins and ends (T,): half the way to those beside it, and a little apart from them."""
    steps = np.diff(seconds)
    usual = float(np.median(steps)) if len(steps) else 1.0
    # Of frames that are left out nobody knows anything.
    before, after = (np.minimum(sides, 1.5 * usual) for sides in (np.r_[usual, steps], np.r_[steps, usual]))
    return seconds - 0.46 * before, seconds + 0.46 * after


def _colours(timeline: Mapping[str, Any]) -> dict[str, str]:
    """Classes in colour: those of the segments, the longest first, of a long video; else the most probable."""
    segments, scores = timeline.get("segments", []), timeline["scores"]
    total = {name: sum(one["end"] - one["start"] for one in segments if one["label"] == name) for name in scores}
    if len(segments) > COLOURED_CURVES:
        ranked = [name for name in sorted(total, key=lambda name: -total[name]) if total[name] > 0]
    else:
        ranked = sorted(scores, key=scores.get, reverse=True)[:COLOURED_CURVES]
    return {name: f"C{place}" for place, name in enumerate(ranked)}


def _draw_segments(
    axes: Axes, segments: Sequence[Mapping[str, Any]], colours: Mapping[str, str], height: float
) -> None:
    """A band for each segment, at a height along the top."""
    for segment in segments:
        axes.add_patch(
            Rectangle(
                (segment["start"], height),
                segment["end"] - segment["start"],
                0.03,
                color=colours.get(segment["label"], "grey"),
                linewidth=0,
            )
        )


def _draw_relevance(axes: Axes, seconds: np.ndarray, relevance: np.ndarray) -> None:
    """Bars of relevance, on an axis of their own."""
    shares = axes.twinx()
    left, right = _places(seconds)
    shares.bar(left, relevance, width=right - left, align="edge", color=RELEVANCE_COLOUR, alpha=0.35, linewidth=0)
    shares.set(ylim=(0, max(1.15 * relevance.max(), 2.5 / len(relevance))), ylabel="relevance (bars)")
    shares.yaxis.set_major_formatter(PercentFormatter(1))
    shares.spines["top"].set_visible(False)
    # The curves are read against the bars, so they are drawn above them.
    axes.set_zorder(shares.get_zorder() + 1)
    axes.patch.set_visible(False)


def _draw_curves(axes: Axes, seconds: np.ndarray, timeline: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """A curve for each class: of a clip the predicted one thick, those without a colour grey."""
    label, scores = timeline["label"], timeline["scores"]
    few = len(seconds) <= MARKED_FRAMES
    greys = [name for name in sorted(scores, key=scores.get) if name not in colours]
    for name in [*greys, *reversed(list(colours))]:
        thick = few and name == label
        axes.plot(
            seconds,
            timeline["frame_scores"][name],
            color=colours.get(name, "silver"),
            linewidth=2.6 if thick else 1.4 if name in colours else 0.9,
            marker="o" if thick else None,
            markersize=4,
            label=f"{name} ({scores[name]:.0%})" if name in colours else None,
        )
    axes.set(ylim=(0, 1), ylabel="what the frame says")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", alpha=0.25)
    axes.spines["top"].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], names[::-1], loc="lower right", bbox_to_anchor=(1, 1), ncols=max(1, len(colours)), frameon=False
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
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names of files and labels are no formulas, whatever their dollars
    figure.savefig(temporary, dpi=110)
    os.replace(temporary, path)
