"""Pictures of where in a face each description is seen: the face with a heat map of the region relevance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tgdfer.training.figures.fonts import shortened, wrapped
from tgdfer.training.figures.saving import save_figure
from tgdfer.training.figures.timeline_row import GREY

# Red covers at most this share of a place.
_OPACITY = 0.75
_RED = (225, 25, 20)
# Inches.
_FACE, _GAP, _TITLE, _TOP, _BOTTOM = 1.7, 0.15, 0.3, 0.55, 0.3
# Height of a line in inches, number of lines below a heat map, and the font size in points.
_LINE, _LINES, _SIZE = 0.15, 4, 8


@dataclass(frozen=True)
class FaceRegions:
    """A face, and where in it each description is seen.

    Attributes:
        title (`str`): Who is shown when, and with which answer.
        face (`np.ndarray` of shape `(H, W, 3)`): The picture that the model sees, uint8 RGB.
        regions (`Mapping[str, np.ndarray]`): For each description, its region relevance (P,) in a square of places,
            row by row.
    """

    title: str
    face: np.ndarray
    regions: Mapping[str, np.ndarray]


def heat_map(face: np.ndarray, relevance: np.ndarray, highest: float) -> np.ndarray:
    """Paints a face red where its region relevance is positive.

    Args:
        face (`np.ndarray` of shape `(H, W, 3)`): uint8 RGB.
        relevance (`np.ndarray` of shape `(P,)`): Values of the places, row by row.
        highest (`float`): Relevance that is painted with full strength.

    Returns:
        `np.ndarray` of shape `(H, W, 3)`: uint8 RGB.
    """
    side = round(len(relevance) ** 0.5)
    places = np.clip(relevance.reshape(side, side) / max(highest, 1e-9), 0, 1).astype(np.float32)
    share = _OPACITY * cv2.resize(places, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    return ((1 - share) * face + share * np.array(_RED)).round().astype(np.uint8)


def plot_regions(faces: Sequence[FaceRegions], path: str | Path, title: str = "") -> None:
    """Draws a row for each face: the face, and a heat map for each of its descriptions.

    Args:
        faces (`Sequence[FaceRegions]`): At least one face.
        path (`str` or `Path`): File to write. The suffix determines the format.
        title (`str`, *optional*, defaults to `""`): Name of the video.

    Raises:
        OSError: If the file cannot be written.
    """
    save_figure(draw_regions(faces, title), path)


def draw_regions(faces: Sequence[FaceRegions], title: str = "") -> Figure:
    """Draws the figure of `plot_regions`. The strongest red of a row stands for the highest relevance in that row."""
    columns = 1 + max(2, *(len(one.regions) for one in faces))
    row = _TITLE + _FACE + _LINES * _LINE + _GAP
    width, height = columns * (_FACE + _GAP) + _GAP, _TOP + len(faces) * row + _BOTTOM
    figure = Figure(figsize=(width, height))
    heading = shortened(title, 12, 72 * (width - 2 * _GAP))
    figure.text(_GAP / width, 1 - 0.3 / height, heading, va="baseline", fontsize=12, weight="bold")
    top = height - _TOP
    for one in faces:
        line = shortened(one.title, 10, 72 * (width - 2 * _GAP))
        figure.text(_GAP / width, (top - 0.17) / height, line, va="baseline", fontsize=10)
        _draw_picture(figure, one.face, 0, top - _TITLE, "")
        highest = max((float(values.max()) for values in one.regions.values()), default=0.0)
        for column, (text, values) in enumerate(one.regions.items(), 1):
            _draw_picture(figure, heat_map(one.face, values, highest), column, top - _TITLE, text)
        top -= row
    note = "Red: the description fits less if this place is hidden. Strongest red: highest value of the row."
    figure.text(_GAP / width, 0.1 / height, note, fontsize=7, color=GREY)
    return figure


def _draw_picture(figure: Figure, picture: np.ndarray, column: int, top: float, text: str) -> Axes:
    """Draws a picture and the text below it. `top` is in inches."""
    width, height = figure.get_size_inches()
    left = _GAP + column * (_FACE + _GAP)
    axes = figure.add_axes((left / width, (top - _FACE) / height, _FACE / width, _FACE / height))
    axes.imshow(picture, interpolation="antialiased")
    axes.axis("off")
    lines = wrapped(text, _SIZE, 72 * _FACE) if text else []
    if len(lines) > _LINES:
        lines[_LINES - 1 :] = [shortened(" ".join(lines[_LINES - 1 :]), _SIZE, 72 * _FACE)]
    for number, line in enumerate(lines, 1):
        figure.text(left / width, (top - _FACE - number * _LINE) / height, line, va="baseline", fontsize=_SIZE)
    return axes
