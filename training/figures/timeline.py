"""The figure of a video: probabilities, relevance, segments and thumbnails of each person over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from tgdfer.training.figures.photograph import draw_photograph
from tgdfer.training.figures.presence import video_duration
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.figures.timeline_row import GREY, Row

# Maximum number of people in a figure.
MAX_PEOPLE = 6
# If there are more sampled frames, curves and segments are averaged over short spans of time.
MAX_POINTS = 400
# Possible lengths of these spans in seconds, and the approximate number of spans in a figure.
_SPANS, _SHOWN = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600), 150
# Possible distances of ticks in long recordings, in seconds.
_TICKS = (10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200)
# If there are more cuts, they are drawn as ticks below the segments, because lines would hide the curves.
_MAX_CUT_LINES = 60
# Inches.
_WIDTH, _LEFT, _TOP, _BOTTOM, _GAP = 12.0, 0.75, 0.5, 0.62, 0.24


def plot_timeline(
    result: Mapping[str, Any], path: str | Path, title: str = "", truth: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Draws one figure of a video with its people: curves, relevance, segments and thumbnails over time.

    Only the six most prominent people are drawn. The figure says how many are omitted. A recording of more than 400
    sampled frames is averaged over spans, whose length is in the figure. A photograph is drawn as bars.

    Args:
        result (`Mapping[str, Any]`): Output of `EmotionTimelinePipeline`. Thumbnails are drawn if its people have
            them.
        path (`str` or `Path`): File to write. The suffix determines the format.
        title (`str`, *optional*, defaults to `""`): Name of the video.
        truth (`Sequence[Mapping[str, Any]]`, *optional*, defaults to `()`): True segments (`label`, `start` and
            `end`), which are drawn below those of the first person.

    Raises:
        OSError: If the file cannot be written.
    """
    save_figure(draw_timeline(result, title, truth), path)


def draw_timeline(result: Mapping[str, Any], title: str = "", truth: Sequence[Mapping[str, Any]] = ()) -> Figure:
    """Draws the figure of `plot_timeline`."""
    if max(len(person["frame_relevance"]) for person in result["people"]) <= 1:
        return draw_photograph(result, title)
    people = result["people"][:MAX_PEOPLE]
    length, span = video_duration(result), _span(result)
    rows = [
        Row(result, person, _WIDTH - _LEFT, span, truth if number == 0 else ()) for number, person in enumerate(people)
    ]
    right = max(row.legend_width for row in rows) + 0.1
    height = _TOP + sum(row.height for row in rows) + _GAP * (len(rows) - 1) + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height))
    figure.text(0.1 / _WIDTH, 1 - 0.3 / height, _heading(result, title), va="baseline", fontsize=12, weight="bold")
    limits = (0.0, length)
    top = height - _TOP
    for row in rows:
        row.draw(figure, _LEFT, top, _WIDTH - _LEFT - right, limits)
        _draw_cuts(row.axes, result["cuts"])
        top -= row.height + _GAP
    _label_time(rows[-1].axes[-1], length)
    note = _note(result, span)
    if note:
        figure.text(1 - 0.1 / _WIDTH, 0.1 / height, note, ha="right", fontsize=8.5, color=GREY)
    return figure


def _span(result: Mapping[str, Any]) -> float:
    """Returns the length in seconds of the spans over which curves are averaged. 0 if every frame is drawn."""
    if len(result["timestamps"]) <= MAX_POINTS:
        return 0.0
    return float(next((span for span in _SPANS if span >= video_duration(result) / _SHOWN), _SPANS[-1]))


def _heading(result: Mapping[str, Any], title: str) -> str:
    """Returns the name of the video and the number of people."""
    count = len(result["people"])
    parts = [title] if title else []
    if result["people"][0]["person"] is not None:
        parts.append(f"{count} people" if count > 1 else "1 person")
    return "   ".join(parts)


def _note(result: Mapping[str, Any], span: float) -> str:
    """Returns a note about what the figure omits and averages, and about the meaning of its lines."""
    left_out, cuts, notes = len(result["people"]) - MAX_PEOPLE, len(result["cuts"]), []
    if left_out > 0:
        notes.append(f"{left_out} less prominent {'people' if left_out > 1 else 'person'} not drawn")
    if span:
        notes.append(f"averages over {_format_time(span, span)}{' s' if span < 120 else ''}")
    if cuts:
        notes.append(
            f"{'dotted lines' if cuts <= _MAX_CUT_LINES else 'ticks below the segments'}: {cuts} cut{'s' * (cuts > 1)}"
        )
    return " · ".join(notes)


def _draw_cuts(row: Sequence[Axes], cuts: Sequence[float]) -> None:
    """Marks cuts as thin lines or, if there are many, as ticks below the lowest axes."""
    if len(cuts) > _MAX_CUT_LINES:
        ends = row[-1].get_xaxis_transform()
        row[-1].plot(
            cuts, np.full(len(cuts), -0.12), "|", transform=ends, color=GREY, markersize=3, mew=0.4, clip_on=False
        )
        return
    for axes in row:
        for cut in cuts:
            axes.axvline(cut, color="black", linewidth=0.7, linestyle=(0, (1, 2)), zorder=5)


def _label_time(axes: Axes, length: float) -> None:
    """Labels the time axis in seconds, or in minutes and seconds for long recordings."""
    axes.tick_params(labelbottom=True, bottom=True)
    if length <= 120:
        axes.xaxis.set_major_locator(MaxNLocator(12))
        axes.set_xlabel("seconds")
    else:
        axes.xaxis.set_major_locator(MultipleLocator(next((t for t in _TICKS if t >= length / 12), _TICKS[-1])))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: _format_time(second, length)))
        axes.set_xlabel("minutes:seconds" if length < 3600 else "hours:minutes:seconds")


def _format_time(second: float, length: float) -> str:
    """Formats a time as seconds, m:ss or h:mm:ss, depending on the duration of the video."""
    minutes, seconds = divmod(round(second), 60)
    if length < 120:
        return f"{second:g}"
    hours, minutes = divmod(minutes, 60) if length >= 3600 else (0, minutes)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if length >= 3600 else f"{minutes}:{seconds:02d}"
