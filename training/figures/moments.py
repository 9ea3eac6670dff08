"""The figure of a search: for each phrase, a strip of pictures of its best moments."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from tgdfer.training.figures.fonts import shortened
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.figures.timeline_row import GREY

# Side of a picture in pixels, and the margin around the box of a face as a share of its size.
SIDE, MARGIN = 160, 0.3
# Inches.
_FACE, _GAP, _TITLE, _LINE, _TOP, _BOTTOM, _EMPTY = 1.35, 0.12, 0.3, 0.15, 0.1, 0.3, 0.25
# Font sizes in points, and the minimum number of columns.
_SIZE, _TITLE_SIZE, _COLUMNS = 8, 11, 4


@dataclass(frozen=True)
class MomentPicture:
    """The picture of a moment.

    Attributes:
        picture (`np.ndarray` of shape `(S, S, 3)`, *optional*): uint8 RGB. None is drawn as a grey square.
        lines (`Sequence[str]`): Lines of text below it.
    """

    picture: np.ndarray | None
    lines: Sequence[str]


@dataclass(frozen=True)
class Strip:
    """The pictures of a phrase.

    Attributes:
        phrase (`str`): The phrase.
        pictures (`Sequence[MomentPicture]`): The moments, best first.
        note (`str`, *optional*, defaults to `""`): Text in place of the pictures if there are none.
    """

    phrase: str
    pictures: Sequence[MomentPicture]
    note: str = ""

    @property
    def height(self) -> float:
        """Height in inches."""
        lines = max((len(one.lines) for one in self.pictures), default=0)
        return _TITLE + (_FACE + lines * _LINE + _GAP if self.pictures else _EMPTY)


def plot_strips(strips: Sequence[Strip], path: str | Path, footnote: str = "") -> None:
    """Draws a strip of pictures for each phrase to a file.

    Args:
        strips (`Sequence[Strip]`): At least one strip.
        path (`str` or `Path`): File to write. The suffix determines the format.
        footnote (`str`, *optional*, defaults to `""`): Text at the bottom.

    Raises:
        OSError: If the file cannot be written.
    """
    save_figure(draw_strips(strips, footnote), path)


def draw_strips(strips: Sequence[Strip], footnote: str = "") -> Figure:
    """Draws the figure of `plot_strips`."""
    columns = max(_COLUMNS, *(len(strip.pictures) for strip in strips))
    width = columns * (_FACE + _GAP) + _GAP
    height = _TOP + sum(strip.height for strip in strips) + _BOTTOM
    figure = Figure(figsize=(width, height))
    top = height - _TOP
    for strip in strips:
        title = shortened(strip.phrase, _TITLE_SIZE, 72 * (width - 2 * _GAP))
        figure.text(_GAP / width, (top - 0.2) / height, title, va="baseline", fontsize=_TITLE_SIZE, weight="bold")
        if not strip.pictures:
            figure.text(_GAP / width, (top - _TITLE - 0.1) / height, strip.note, fontsize=_SIZE, color=GREY)
        for column, one in enumerate(strip.pictures):
            _draw_picture(figure, one, column, top - _TITLE)
        top -= strip.height
    figure.text(_GAP / width, 0.1 / height, footnote, fontsize=7, color=GREY)
    return figure


def _draw_picture(figure: Figure, one: MomentPicture, column: int, top: float) -> None:
    """Draws a picture and the lines below it. `top` is in inches."""
    width, height = figure.get_size_inches()
    left = _GAP + column * (_FACE + _GAP)
    axes = figure.add_axes((left / width, (top - _FACE) / height, _FACE / width, _FACE / height))
    shown = np.full((2, 2, 3), 225, np.uint8) if one.picture is None else one.picture
    axes.imshow(shown, interpolation="antialiased")
    axes.axis("off")
    for number, text in enumerate(one.lines, 1):
        line = shortened(text, _SIZE, 72 * _FACE)
        figure.text(left / width, (top - _FACE - number * _LINE) / height, line, va="baseline", fontsize=_SIZE)


def face_picture(picture: np.ndarray, box: Sequence[float] | None) -> np.ndarray:
    """Cuts the square around a face out of a picture (H, W, 3), or its central square: (`SIDE`, `SIDE`, 3)."""
    height, width = picture.shape[:2]
    if box is None:
        side, centre = min(height, width), ((width - 1) / 2, (height - 1) / 2)
    else:
        side = max(2, int((1 + 2 * MARGIN) * max(box[2] - box[0], box[3] - box[1])))
        centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    square = cv2.getRectSubPix(picture, (side, side), centre)
    return cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
