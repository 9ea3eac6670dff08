"""The font of figures and annotated videos, and measuring, wrapping and shortening text."""

from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

# Text is measured at this multiple of its size, where it is not rounded to whole pixels.
_OVERSAMPLING = 8
# matplotlib and Pillow align letters to pixels, which makes small text up to 3 % wider.
_MARGIN = 1.04


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Returns the default font of matplotlib, which covers the European alphabets, Arabic and many symbols.

    Args:
        size (`int`): Height of the font in pixels.
    """
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def text_width(text: str, size: int) -> float:
    """Returns an upper limit for the width of a line of text, in the unit of `size` (pixels or points)."""
    return _MARGIN * max(font(size).getlength(text), font(_OVERSAMPLING * size).getlength(text) / _OVERSAMPLING)


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Wraps text to lines of a maximum width, at spaces. Words that are too wide are broken anywhere.

    Args:
        text (`str`): One paragraph.
        size (`int`): Height of the font.
        width (`float`): Maximum width of a line, in the unit of `size`. A line has at least one character.
    """
    lines = [""]
    for word in text.split():
        line = f"{lines[-1]} {word}".strip()
        if text_width(line, size) <= width:
            lines[-1] = line
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and text_width(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    return lines


def shortened(text: str, size: int, width: float) -> str:
    """Shortens text to a maximum width. An ellipsis replaces the end."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
