"""Labels for frames of a video: text that is drawn once, kept, and copied into many frames."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from tgdfer.training.figures.colours import text_colour, to_bytes
from tgdfer.training.figures.fonts import font, text_width, wrapped

# Left, top, right and bottom in pixels.
Box = tuple[int, int, int, int]
# The number of a person stands on this colour.
NUMBER_COLOUR = "#111111"
_SMALLEST = 10


@lru_cache(maxsize=512)
def label_picture(number: int | None, text: str, colour: str, size: int, width: int, height: int) -> np.ndarray:
    """Draws a label: the number of a person in a dark box, and text on a coloured one. Nothing is cut off.

    Text that is too wide is broken into lines. Text that is too high is made smaller, down to 10 pixels.

    Args:
        number: Number of the person, or None.
        text: Text of the label.
        colour: Colour behind the text.
        size: Height of the font in pixels.
        width: Greatest width of the label in pixels.
        height: Greatest height of the label in pixels.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    while True:
        pad, line_height = max(2, size // 4), round(1.3 * size)
        before = 0 if number is None else round(text_width(str(number), size)) + 2 * pad
        lines = wrapped(text, size, width - before - 2 * pad - 1)
        high = line_height * len(lines) + pad
        if high <= height or size <= _SMALLEST:
            break
        size -= 1
    wide = round(max(text_width(line, size) for line in lines)) + 1 + 2 * pad + before
    image = Image.new("RGB", (wide, high), to_bytes(colour))
    pen = ImageDraw.Draw(image)
    if number is not None:
        pen.rectangle((0, 0, before - 1, high), fill=to_bytes(NUMBER_COLOUR))
        pen.text((pad, pad // 2), str(number), fill=(255, 255, 255), font=font(size))
    for place, line in enumerate(lines):
        pen.text((before + pad, pad // 2 + place * line_height), line, fill=text_colour(colour), font=font(size))
    return np.asarray(image)


def paste(canvas: np.ndarray, picture: np.ndarray, left: int, top: int) -> None:
    """Copies a picture (h, w, 3) into a canvas; what would be outside is left out."""
    picture = picture[: max(0, canvas.shape[0] - top), : max(0, canvas.shape[1] - left)]
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def place_for(label: tuple[int, int], face: Box, room: tuple[int, ...], taken: Sequence[Box]) -> tuple[int, int]:
    """Left and top of a label: above the face, else below, else inside, where it hides nothing that is there already.

    Args:
        label: Height and width of the label.
        face: Box of the face. It may be outside the picture in part.
        room: Height and width of the picture.
        taken: Boxes of faces and labels that are there.
    """
    height, width = label
    lowest, furthest = max(0, room[0] - height), max(0, room[1] - width)
    others = [box for box in taken if box != face]
    tops = [top for top in (face[1] - height, face[3], face[1], face[3] - height) if 0 <= top <= lowest]
    places = [
        (min(max(0, left), furthest), top)
        for top in tops or [min(max(0, face[1]), lowest)]
        for left in (face[0], face[2] - width)
    ]
    hidden = [
        sum(_overlap((left, top, left + width, top + height), other) for other in others) for left, top in places
    ]
    return places[hidden.index(min(hidden))]


def _overlap(one: Box, other: Box) -> int:
    """Number of pixels that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    return max(0, across) * max(0, min(one[3], other[3]) - max(one[1], other[1]))
