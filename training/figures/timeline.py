"""The picture of a video: for each person the probabilities, the relevance, the segments and thumbnails over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from tgdfer.training.figures.photograph import draw_photograph
from tgdfer.training.figures.presence import length_of
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.figures.timeline_row import GREY, Row

# More people would make a picture that fits no screen.
MOST_PEOPLE = 6
# With more sampled frames, curves and segments are averages over short spans of time.
MOST_POINTS = 400
# Spans in seconds over which long recordings are averaged, and about how many of them a picture shows.
_SPANS, _SHOWN = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600), 150
# Distances of the ticks of long recordings in seconds.
_TICKS = (10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200)
# More cuts are drawn as ticks below the segments, because lines across the picture would hide the curves.
_MOST_LINES = 60
# Inches.
_WIDTH, _LEFT, _TOP, _BOTTOM, _GAP = 12.0, 0.75, 0.5, 0.62, 0.24


def plot_timeline(
    result: Mapping[str, Any], path: str | Path, title: str = "", truth: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Draws one picture of a video with all its people: curves, relevance, segments and thumbnails over time.

    The six people who are present for most of the time are drawn, and the picture says how many are left out.
    Recordings of more than 400 sampled frames are averaged over spans that the picture names. A photograph is drawn as
    bars.

    Args:
        result: Output of `EmotionTimelinePipeline`. Thumbnails are drawn where its people have them.
        path: Picture to write. The ending of its name is its format.
        title: Name of the video.
        truth: True segments (`label`, `start` and `end`), drawn below those of the first person.

    Raises:
        OSError: If the file cannot be written.
    """
    save_figure(draw_timeline(result, title, truth), path)


def draw_timeline(result: Mapping[str, Any], title: str = "", truth: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draws the figure of `plot_timeline`."""
    if max(len(person["frame_relevance"]) for person in result["people"]) <= 1:
        return draw_photograph(result, title)
    people = result["people"][:MOST_PEOPLE]
    length, timed, span = length_of(result), result["timestamps"] is not None, _span(result)
    rows = [
        Row(result, person, _WIDTH - _LEFT, span, truth if number == 0 else ()) for number, person in enumerate(people)
    ]
    right = max(row.legend_width for row in rows) + 0.1
    height = _TOP + sum(row.height for row in rows) + _GAP * (len(rows) - 1) + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    figure.text(0.1 / _WIDTH, 1 - 0.3 / height, _heading(result, title), va="baseline", fontsize=12, weight="bold")
    limits = (0.0, length) if timed else (-0.5, length - 0.5)
    top = height - _TOP
    for row in rows:
        row.draw(figure, _LEFT, top, _WIDTH - _LEFT - right, limits)
        _draw_cuts(row.axes, result["cuts"])
        top -= row.height + _GAP
    _label_time(rows[-1].axes[-1], length, timed)
    note = _note(result, span)
    if note:
        figure.text(1 - 0.1 / _WIDTH, 0.1 / height, note, ha="right", fontsize=8.5, color=GREY)
    return figure


def _span(result: Mapping[str, Any]) -> float:
    """Seconds over which curves are averaged; 0 where each frame is drawn."""
    every = result["timestamps"]
    if every is None or len(every) <= MOST_POINTS:
        return 0.0
    return float(next((span for span in _SPANS if span >= length_of(result) / _SHOWN), _SPANS[-1]))


def _heading(result: Mapping[str, Any], title: str) -> str:
    """Name of the video, and how many people it has."""
    count = len(result["people"])
    parts = [title] if title else []
    if result["people"][0]["person"] is not None:
        parts.append(f"{count} people" if count > 1 else "1 person")
    return "   ".join(parts)


def _note(result: Mapping[str, Any], span: float) -> str:
    """What the picture leaves out or averages, and what its lines mean."""
    left_out, cuts, notes = len(result["people"]) - MOST_PEOPLE, len(result["cuts"]), []
    if left_out > 0:
        notes.append(f"{left_out} more {'people' if left_out > 1 else 'person'}, present for less time, not drawn")
    if span:
        notes.append(f"averages over {_clock(span, span)}{' s' if span < 120 else ''}")
    if cuts:
        notes.append(
            f"{'dotted lines' if cuts <= _MOST_LINES else 'ticks below the segments'}: {cuts} cut{'s' * (cuts > 1)}"
        )
    return " · ".join(notes)


def _draw_cuts(row: Sequence[Axes], cuts: Sequence[float]) -> None:
    """Marks cuts: thin lines, or ticks below the lowest axes where there are many."""
    if len(cuts) > _MOST_LINES:
        ends = row[-1].get_xaxis_transform()
        row[-1].plot(
            cuts, np.full(len(cuts), -0.12), "|", transform=ends, color=GREY, markersize=3, mew=0.4, clip_on=False
        )
        return
    for axes in row:
        for cut in cuts:
            axes.axvline(cut, color="black", linewidth=0.7, linestyle=(0, (1, 2)), zorder=5)


def _label_time(axes: Axes, length: float, timed: bool) -> None:
    """Writes the time below the lowest axes: seconds, or minutes and seconds in long recordings."""
    axes.tick_params(labelbottom=True, bottom=True)
    if not timed:
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.set_xlabel("frame")
    elif length <= 120:
        axes.xaxis.set_major_locator(MaxNLocator(12))
        axes.set_xlabel("seconds")
    else:
        axes.xaxis.set_major_locator(MultipleLocator(next((t for t in _TICKS if t >= length / 12), _TICKS[-1])))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: _clock(second, length)))
        axes.set_xlabel("minutes:seconds" if length < 3600 else "hours:minutes:seconds")


def _clock(second: float, length: float) -> str:
    """A time as seconds, m:ss or h:mm:ss, depending on the length of the video."""
    minutes, seconds = divmod(round(second), 60)
    if length < 120:
        return f"{second:g}"
    hours, minutes = divmod(minutes, 60) if length >= 3600 else (0, minutes)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if length >= 3600 else f"{minutes}:{seconds:02d}"
