"""Labels for frames of a video: text that is drawn once, kept, and copied into many frames."""

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from tgdfer.training.figures.colours import text_colour, to_bytes
from tgdfer.training.figures.fonts import font, text_width, wrapped

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
        lines = wrapped(text, size, width - before - 2 * pad)
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


def place_for(
    label: tuple[int, int],
    box: tuple[int, int, int, int],
    room: tuple[int, int],
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Left and top of a label: above its box, else below, else inside, where it hides no label that is there already.

    Args:
        label: Height and width of the label.
        box: Left, top, right and bottom of the face.
        room: Height and width of the picture.
        taken: Left, top, right and bottom of the labels that are there.
    """
    height, width = label
    left = int(np.clip(box[0], 0, max(0, room[1] - width)))
    places = [
        (left, top) for top in (box[1] - height, box[3], box[1], box[3] - height) if 0 <= top <= room[0] - height
    ] or [(left, int(np.clip(box[1], 0, max(0, room[0] - height))))]
    for left, top in places:
        if not any(_overlap((left, top, left + width, top + height), other) for other in taken):
            return left, top
    return places[0]


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
