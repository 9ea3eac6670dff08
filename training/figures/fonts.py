"""The font of pictures and annotated videos, and how wide text is in it."""

from functools import cache
from pathlib import Path

import matplotlib
from PIL import ImageFont

# Text of so many times the size is measured without rounding to whole pixels.
_FINE = 8
# matplotlib and Pillow fit letters to pixels, which makes small text up to 3 % wider.
_WIDER = 1.04


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The default font of matplotlib, which covers the alphabets of Europe, Arabic and many signs.

    Args:
        size: Height of the font in pixels.
    """
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def text_width(text: str, size: int) -> float:
    """Greatest width that a line of text may have in a picture, in the unit of `size`: pixels or points."""
    return _WIDER * max(font(size).getlength(text), font(_FINE * size).getlength(text) / _FINE)


def wrapped(text: str, size: int, width: float) -> list[str]:
    """Breaks text into lines that are not wider than `width`, at spaces and, in words that are too wide, anywhere.

    Args:
        text: One paragraph.
        size: Height of the font.
        width: Greatest width of a line in the unit of `size`. A line has one character at least.
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
    """Text that is not wider than `width`; an ellipsis stands for what is left out."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}…", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
