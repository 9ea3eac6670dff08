"""The panel below an annotated video: the segments and the relevance of each person over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tgdfer.training.colours import class_colours, text_colour, to_bytes
from tgdfer.training.figures.fonts import font, shortened, text_width
from tgdfer.training.figures.presence import frame_seconds, stretches

_BACKGROUND, _TEXT, _RELEVANCE, _CURSOR = (24, 24, 24), (225, 225, 225), (150, 160, 175), 255


@dataclass
class Panel:
    """A panel that is drawn once. Only the mark of the current time moves.

    Attributes:
        picture (`np.ndarray` of shape `(h, w, 3)`): uint8 RGB. The height is even. It is 0 if no person is drawn.
        left (`int`): Position of second 0 in pixels.
        unit (`float`): Pixels per second.
    """

    picture: np.ndarray
    left: int
    unit: float
    _marked: int = -1

    def mark(self, canvas: np.ndarray, second: float) -> None:
        """Moves the white line to a time.

        Args:
            canvas (`np.ndarray` of shape `(h, w, 3)`): Copy of `picture` into which the line is drawn.
            second (`float`): Current time.
        """
        if not canvas.shape[0]:
            return
        line_width = max(2, canvas.shape[1] // 500)
        column = int(np.clip(self.left + second * self.unit, 0, canvas.shape[1] - line_width))
        if self._marked >= 0:
            old = slice(self._marked, self._marked + line_width)
            canvas[:, old] = self.picture[:, old]
        canvas[:, column : column + line_width] = _CURSOR
        self._marked = column


def draw_panel(result: Mapping[str, Any], width: int, max_height: int, length: float, size: int) -> Panel:
    """Draws a row for each person, with the number, the relevance as an area, and the segments as coloured boxes.

    If there are many people, the rows are lower. People for whom there is no room are counted in the last row.

    Args:
        result (`Mapping[str, Any]`): Output of `EmotionTimelinePipeline`.
        width (`int`): Width of the panel in pixels.
        max_height (`int`): Maximum height of the panel in pixels.
        length (`float`): Duration of the video in seconds.
        size (`int`): Height of the font in pixels.
    """
    people, min_row, default_row = result["people"], round(1.4 * size), round(2.4 * size)
    numbered = any(person["person"] is not None for person in people)
    left = round(max(text_width(str(person["person"]), size) for person in people) + 0.8 * size) if numbered else 0
    panel = Panel(np.zeros((0, width, 3), np.uint8), left, (width - 1 - left) / max(length, 1e-9))
    names = _legend(people, panel, width, size)
    line = round(1.5 * size)
    legend = line if names and max_height >= line + min_row else 0
    room = max(0, max_height - legend)
    shown = min(len(people), room // min_row)
    more = 0
    if shown < len(people) and room >= 2 * min_row:
        more, shown = line, min(shown, (room - line) // min_row)
    height = min(default_row, (room - more) // shown) if shown else 0
    total = (shown * height + more + legend + 1) // 2 * 2
    if not total:
        return panel
    image = Image.new("RGB", (width, min(total, max_height // 2 * 2)), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    for row, person in enumerate(people[:shown]):
        _draw_row(pen, panel, result, person, row * height, height, size)
    if more:
        count = len(people) - shown
        text = shortened(f"{count} more {'people' if count > 1 else 'person'}", size, width - size)
        pen.text((size // 2, shown * height + size // 6), text, fill=_TEXT, font=font(size))
    if legend:
        _draw_legend(pen, names, shown * height + more, size)
    panel.picture = np.asarray(image)
    return panel


def _draw_row(
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    result: Mapping[str, Any],
    person: Mapping[str, Any],
    top: int,
    height: int,
    size: int,
) -> None:
    """Draws the row of a person between `top` and `top + height`."""
    if person["person"] is not None:
        middle = top + height / 2
        pen.text((panel.left / 2, middle), str(person["person"]), fill=(255, 255, 255), font=font(size), anchor="mm")
    band = max(2, min(height - 2, round(1.4 * size)))
    base = top + height - 1 - band
    if height - band > size // 2:
        _draw_relevance(pen, panel, result, person, top + 2, base)
    for segment in person["segments"]:
        colour = class_colours([segment["label"]])[segment["label"]]
        left, right = (round(panel.left + segment[end] * panel.unit) for end in ("start", "end"))
        pen.rectangle((left, base, max(left, right - 2), base + band - 2), fill=to_bytes(colour))
        if _fits(segment, panel, size):
            centre = ((left + right) / 2, base + (band - 2) / 2)
            pen.text(centre, segment["label"], fill=text_colour(colour), font=font(size), anchor="mm")


def _draw_relevance(
    pen: ImageDraw.ImageDraw,
    panel: Panel,
    result: Mapping[str, Any],
    person: Mapping[str, Any],
    top: int,
    base: int,
) -> None:
    """Draws the relevance of each frame as a bar. There are no bars when the person is absent."""
    seconds, relevance = frame_seconds(person), np.asarray(person["frame_relevance"], dtype=float)
    shares = relevance / max(float(relevance.max()), 1e-9)
    for stretch in stretches(result, person):
        within = seconds[stretch.first : stretch.last + 1]
        borders = panel.left + panel.unit * np.r_[stretch.start, (within[1:] + within[:-1]) / 2, stretch.end]
        for left, right, share in zip(borders, borders[1:], shares[stretch.first :], strict=False):
            pen.rectangle((left, base - 1 - share * (base - 1 - top), max(left, right - 1), base - 1), fill=_RELEVANCE)


def _legend(people: Sequence[Mapping[str, Any]], panel: Panel, width: int, size: int) -> dict[str, str]:
    """Chooses the labels of the legend, which are those that do not fit into any box, in order of total duration.

    Returns:
        The text of each label. Labels for which there is no room are omitted.
    """
    total: dict[str, float] = {}
    written = set()
    for segment in (segment for person in people for segment in person["segments"]):
        total[segment["label"]] = total.get(segment["label"], 0.0) + segment["end"] - segment["start"]
        if _fits(segment, panel, size):
            written.add(segment["label"])
    names: dict[str, str] = {}
    free = width - size
    for name in sorted(total.keys() - written, key=lambda name: -total[name]):
        text = shortened(name, size, width / 3)
        free -= round(text_width(text, size) + 2.2 * size)
        if free < 0:
            break
        names[name] = text
    return names


def _fits(segment: Mapping[str, Any], panel: Panel, size: int) -> bool:
    """Returns whether the label of a segment fits into its box."""
    return text_width(segment["label"], size) + 6 < (segment["end"] - segment["start"]) * panel.unit


def _draw_legend(pen: ImageDraw.ImageDraw, names: Mapping[str, str], top: int, size: int) -> None:
    """Draws a coloured square and the name of each class in one line."""
    left, colours = size // 2, class_colours(names)
    for name, text in names.items():
        pen.rectangle((left, top + size // 3, left + size, top + size // 3 + size), fill=to_bytes(colours[name]))
        pen.text((left + round(1.3 * size), top + size // 6), text, fill=_TEXT, font=font(size))
        left += round(text_width(text, size) + 2.2 * size)
