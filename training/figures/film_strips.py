"""Film strips: a row of frames for each clip, with a bar under each frame that shows how much it counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from tgdfer.training.figures.fonts import shortened
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.figures.timeline_row import GREY

# Maximum number of frames in a row. More frames would be too small to see an expression.
MAX_FRAMES = 16
# Inches. The figure has at least the width of `_FEW` frames, so that titles have room.
_FRAME, _BAR, _TITLE, _GAP, _MARGIN, _TOP, _BOTTOM, _FEW = 0.8, 0.22, 0.26, 0.16, 0.15, 0.5, 0.32, 8


@dataclass(frozen=True)
class FilmStrip:
    """The frames of a clip.

    Attributes:
        title (`str`): What is said about the clip.
        frames (`Sequence[np.ndarray]` of T arrays `(H, W, 3)`): The frames in order, uint8 RGB.
        relevance (`Sequence[float]`): How much each of the T frames counted, at least 0.
        seconds (`Sequence[float]`, *optional*): Times of the T frames.
    """

    title: str
    frames: Sequence[np.ndarray]
    relevance: Sequence[float]
    seconds: Sequence[float] | None = None


def plot_film_strips(strips: Sequence[FilmStrip], path: str | Path, title: str = "", note: str = "") -> None:
    """Draws a row for each clip.

    Args:
        strips (`Sequence[FilmStrip]`): At least one clip.
        path (`str` or `Path`): File to write. The suffix determines the format.
        title (`str`, *optional*, defaults to `""`): Title of the figure.
        note (`str`, *optional*, defaults to `""`): Line below the rows.

    Raises:
        OSError: If the file cannot be written.
    """
    save_figure(draw_film_strips(strips, title, note), path)


def draw_film_strips(strips: Sequence[FilmStrip], title: str = "", note: str = "") -> Figure:
    """Draws the figure of `plot_film_strips`. The highest bar of a row stands for its most relevant frame."""
    shown = [_shown(strip) for strip in strips]
    columns = max(_FEW, *(len(strip.frames) for strip in shown))
    row = _TITLE + _FRAME + _BAR + _GAP
    width, height = 2 * _MARGIN + columns * _FRAME, _TOP + len(shown) * row + _BOTTOM
    figure = Figure(figsize=(width, height))
    room = 72 * (width - 2 * _MARGIN)
    heading = shortened(title, 12, room)
    figure.text(_MARGIN / width, 1 - 0.3 / height, heading, va="baseline", fontsize=12, weight="bold")
    top = height - _TOP
    for strip in shown:
        figure.text(_MARGIN / width, (top - 0.16) / height, shortened(strip.title, 9, room), fontsize=9)
        _draw_frames(figure, strip, top - _TITLE)
        top -= row
    figure.text(_MARGIN / width, 0.1 / height, shortened(note, 7, room), fontsize=7, color=GREY)
    return figure


def _shown(strip: FilmStrip) -> FilmStrip:
    """Returns a strip of at most `MAX_FRAMES` evenly spaced frames, with the most relevant frame among them."""
    number = len(strip.frames)
    if number <= MAX_FRAMES:
        return strip
    kept = np.linspace(0, number - 1, MAX_FRAMES).round().astype(int)
    best = int(np.argmax(strip.relevance))
    kept[np.abs(kept - best).argmin()] = best
    seconds = strip.seconds
    return FilmStrip(
        strip.title,
        [strip.frames[index] for index in kept],
        [strip.relevance[index] for index in kept],
        None if seconds is None else [seconds[index] for index in kept],
    )


def _draw_frames(figure: Figure, strip: FilmStrip, top: float) -> None:
    """Draws the frames, and below them bars with the times. `top` is in inches."""
    width, height = figure.get_size_inches()
    highest = max(max(strip.relevance), 1e-9)
    for column, (frame, relevance) in enumerate(zip(strip.frames, strip.relevance, strict=True)):
        left = _MARGIN + column * _FRAME
        axes = figure.add_axes((left / width, (top - _FRAME) / height, 0.97 * _FRAME / width, _FRAME / height))
        axes.imshow(frame, interpolation="antialiased")
        axes.set_anchor("S")
        axes.axis("off")
        bar = figure.add_axes(
            (left / width, (top - _FRAME - _BAR) / height, 0.97 * _FRAME / width, 0.9 * _BAR / height),
            xlim=(0, 1),
            ylim=(1, 0),
        )
        bar.barh(0.15, relevance / highest, 0.3, color="C1")
        if strip.seconds is not None:
            bar.text(0, 0.95, f"{strip.seconds[column]:.1f} s", fontsize=6, color=GREY, va="bottom")
        bar.axis("off")
