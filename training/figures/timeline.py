"""The picture of a timeline: class probabilities, relevance and segments over time, above a film strip."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from tgdfer.training.figures.saving import save_figure

# The best curves have colours and the others are grey, because seven colours at once are hard to read.
COLOURED_CURVES = 3
# With more frames, curves have no marker at each frame.
MARKED_FRAMES = 64
# Also used by `annotated_video.py`.
RELEVANCE_COLOUR = "#f2b134"


def plot_timeline(
    timeline: Mapping[str, Any],
    frames: np.ndarray,
    path: str | Path,
    title: str = "",
    film_seconds: Sequence[float] | None = None,
    truth: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Draws class probabilities and relevance of each frame over time, segments above and a film strip below.

    Args:
        timeline: Output of `EmotionTimelinePipeline`: `label`, `candidates` if it is "unsure", `scores` (label to
            probability of the clip), `timestamps` (T seconds, or None), `frame_scores` (label to T probabilities),
            `frame_relevance` (T shares) and optionally `segments`.
        frames: (T, H, W, 3) uint8 RGB frames of the film strip, or fewer than T with `film_seconds`.
        path: Picture to write. The ending of its name is its format.
        title: Name of the clip.
        film_seconds: Times of `frames` in seconds, if they are not the frames of the timeline.
        truth: True segments, drawn below the predicted ones.
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
    curves.set_title(f"{title}   {_answer(timeline)}".strip(), loc="left")
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


def _answer(timeline: Mapping[str, Any]) -> str:
    candidates = timeline.get("candidates", [timeline["label"]])
    if len(candidates) > 1:
        return f"{timeline['label']} ({' or '.join(candidates)})"
    return f"{timeline['label']} ({timeline['scores'][timeline['label']]:.0%})"


def _draw_film(axes: Axes, frames: np.ndarray, seconds: np.ndarray, shares: np.ndarray) -> None:
    """Draws the frames side by side; the more relevant a frame is, the thicker is its border."""
    for frame, left, right, share in zip(frames, *_places(seconds), shares, strict=True):
        axes.imshow(frame, extent=(left, right, 0, 1), aspect="auto", interpolation="antialiased")
        axes.add_patch(
            Rectangle(
                (left, 0), right - left, 1, fill=False, edgecolor=RELEVANCE_COLOUR, linewidth=4 * share, clip_on=False
            )
        )


def _places(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and right ends (T,) of each frame: almost halfway to its neighbours, with a small gap between them."""
    steps = np.diff(seconds)
    usual = float(np.median(steps)) if len(steps) else 1.0
    # A gap of frames that were not analysed stays empty.
    before, after = (np.minimum(sides, 1.5 * usual) for sides in (np.r_[usual, steps], np.r_[steps, usual]))
    return seconds - 0.46 * before, seconds + 0.46 * after


def _colours(timeline: Mapping[str, Any]) -> dict[str, str]:
    """Colours of classes by name: in a long video the classes of segments, longest first; else the most probable."""
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
    """Draws a band for each segment at a given height (0 to 1) of the axes."""
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
    """Draws bars of relevance, on a second y axis."""
    shares = axes.twinx()
    left, right = _places(seconds)
    shares.bar(left, relevance, width=right - left, align="edge", color=RELEVANCE_COLOUR, alpha=0.35, linewidth=0)
    shares.set(ylim=(0, max(1.15 * relevance.max(), 2.5 / len(relevance))), ylabel="relevance (bars)")
    shares.yaxis.set_major_formatter(PercentFormatter(1))
    shares.spines["top"].set_visible(False)
    # The curves are drawn above the bars.
    axes.set_zorder(shares.get_zorder() + 1)
    axes.patch.set_visible(False)


def _draw_curves(axes: Axes, seconds: np.ndarray, timeline: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draws a curve for each class: thick for the candidates of a short clip, grey for classes without a colour."""
    candidates, scores = timeline.get("candidates", [timeline["label"]]), timeline["scores"]
    few = len(seconds) <= MARKED_FRAMES
    greys = [name for name in sorted(scores, key=scores.get) if name not in colours]
    for name in [*greys, *reversed(list(colours))]:
        thick = few and name in candidates
        axes.plot(
            seconds,
            timeline["frame_scores"][name],
            color=colours.get(name, "silver"),
            linewidth=2.6 if thick else 1.4 if name in colours else 0.9,
            marker="o" if thick else None,
            markersize=4,
            label=f"{name} ({scores[name]:.0%})" if name in colours else None,
        )
    axes.set(ylim=(0, 1), ylabel="probability of the frame")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", alpha=0.25)
    axes.spines["top"].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], names[::-1], loc="lower right", bbox_to_anchor=(1, 1), ncols=max(1, len(colours)), frameon=False
    )
