"""The colour of each class. It is the same in all figures and annotated videos."""

import colorsys
import zlib
from collections.abc import Iterable
from functools import cache

from PIL import ImageColor

# These colours were found by a search around hues that suit the emotions. It maximised the minimum distance between
# two colours (OKLab) under normal vision and simulated protanopia, deuteranopia and tritanopia (Machado et al., 2009).
# The contrast to white and to black is at least 2.3.
_FIXED = {
    "anger": "#c52a20",
    "disgust": "#5d9c00",
    "fear": "#930ca6",
    "happiness": "#c2ab00",
    "sadness": "#2345f7",
    "surprise": "#07bebf",
    "contempt": "#8b2800",
    "neutral": "#8f8f8f",
    "unsure": "#595959",
    "anxiety": "#bf94ff",
    "helplessness": "#4782fe",
    "disappointment": "#9e5d9a",
}
# Relative luminance of the colours of other labels. Their contrast to white and to black is equal.
_LUMINANCE = 0.18


def class_colours(labels: Iterable[str]) -> dict[str, str]:
    """Returns the colour of each class.

    The colour depends only on the label, so it is the same in all figures. Emotions of common data sets, "neutral" and
    "unsure" have fixed colours. The hue of other labels is a hash of the name.

    Args:
        labels (`Iterable[str]`): Names of classes.

    Returns:
        The colour of each label, as `#rrggbb`.
    """
    return {label: _FIXED.get(label.casefold()) or _hashed(label.casefold()) for label in labels}


def text_colour(background: str) -> str:
    """Returns black or white, whichever has the higher contrast (WCAG 2) to a background colour."""
    red, green, blue = to_bytes(background)
    luminance = _luminance((red / 255, green / 255, blue / 255))
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "#000000"


def to_bytes(colour: str) -> tuple[int, int, int]:
    """Returns red, green and blue (0 to 255) of a matplotlib colour."""
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


@cache
def _hashed(label: str) -> str:
    """Returns a colour whose hue is a hash of the label, at a luminance that is readable on white and on black."""
    code = zlib.crc32(label.encode())
    hue, saturation = (code & 0xFFFF) / 0x10000, 0.55 + 0.35 * (code >> 16 & 0xFF) / 0xFF
    low, high = 0.0, 1.0
    for _ in range(16):
        middle = (low + high) / 2
        brighter = _luminance(colorsys.hls_to_rgb(hue, middle, saturation)) < _LUMINANCE
        low, high = (middle, high) if brighter else (low, middle)
    return "#" + bytes(round(255 * part) for part in colorsys.hls_to_rgb(hue, low, saturation)).hex()


def _luminance(colour: tuple[float, float, float]) -> float:
    """Returns the relative luminance (WCAG 2) of an sRGB colour, 0 to 1."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
