"""Labels in the frames of a video. The picture of a label is drawn once and copied into many frames."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from tgdfer.training.colours import text_colour, to_bytes
from tgdfer.training.figures.fonts import font, text_width, wrapped

# Left, top, right and bottom in pixels.
Box = tuple[int, int, int, int]
# Background of the number of a person.
NUMBER_COLOUR = "#111111"
_MIN_SIZE = 10


@lru_cache(maxsize=512)
def label_picture(number: int | None, text: str, colour: str, size: int, width: int, height: int) -> np.ndarray:
    """Draws a label: the number of a person on a dark background, and text on a coloured one. Text is never cut off.

    Text that is too wide is wrapped. Text that is too high is drawn smaller, down to 10 pixels.

    Args:
        number (`int`, *optional*): Number of the person, or None.
        text (`str`): Text of the label.
        colour (`str`): Background colour of the text.
        size (`int`): Height of the font in pixels.
        width (`int`): Maximum width of the label in pixels.
        height (`int`): Maximum height of the label in pixels.

    Returns:
        uint8 RGB picture (h, w, 3).
    """
    while True:
        pad, line_height = max(2, size // 4), round(1.3 * size)
        number_width = 0 if number is None else round(text_width(str(number), size)) + 2 * pad
        lines = wrapped(text, size, width - number_width - 2 * pad - 1)
        label_height = line_height * len(lines) + pad
        if label_height <= height or size <= _MIN_SIZE:
            break
        size -= 1
    label_width = round(max(text_width(line, size) for line in lines)) + 1 + 2 * pad + number_width
    image = Image.new("RGB", (label_width, label_height), to_bytes(colour))
    pen = ImageDraw.Draw(image)
    if number is not None:
        pen.rectangle((0, 0, number_width - 1, label_height), fill=to_bytes(NUMBER_COLOUR))
        pen.text((pad, pad // 2), str(number), fill=(255, 255, 255), font=font(size))
    for index, line in enumerate(lines):
        position = (number_width + pad, pad // 2 + index * line_height)
        pen.text(position, line, fill=text_colour(colour), font=font(size))
    return np.asarray(image)


def paste(canvas: np.ndarray, picture: np.ndarray, left: int, top: int) -> None:
    """Copies a picture (h, w, 3) into a canvas. Parts outside the canvas are cut off."""
    picture = picture[: max(0, canvas.shape[0] - top), : max(0, canvas.shape[1] - left)]
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def label_position(label: tuple[int, int], face: Box, room: tuple[int, ...], taken: Sequence[Box]) -> tuple[int, int]:
    """Chooses the position of a label: above the face, below it, or inside, whichever covers the least.

    Args:
        label (`tuple[int, int]`): Height and width of the label.
        face (`Box`): Box of the face. It may be partly outside the picture.
        room (`tuple[int, ...]`): Height and width of the picture.
        taken (`Sequence[Box]`): Boxes of the faces and labels that are already drawn.

    Returns:
        Left and top of the label in pixels.
    """
    height, width = label
    max_top, max_left = max(0, room[0] - height), max(0, room[1] - width)
    others = [box for box in taken if box != face]
    tops = [top for top in (face[1] - height, face[3], face[1], face[3] - height) if 0 <= top <= max_top]
    positions = [
        (min(max(0, left), max_left), top)
        for top in tops or [min(max(0, face[1]), max_top)]
        for left in (face[0], face[2] - width)
    ]
    covered = [
        sum(_overlap((left, top, left + width, top + height), other) for other in others) for left, top in positions
    ]
    return positions[covered.index(min(covered))]


def _overlap(first: Box, second: Box) -> int:
    """Returns the number of pixels that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, width) * max(0, height)
