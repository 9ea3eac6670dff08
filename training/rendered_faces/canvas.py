"""Drawing on a canvas in the coordinates of the face.

Points are in 112ths of the width of the canvas, with the origin in its middle. A canvas is square: (S, S, 3) colours,
or (S, S) shades. Colours are numbers or (3,) RGB.
"""

import cv2
import numpy as np

# OpenCV draws at integer coordinates, which are sixteenths of a pixel here.
_SUBPIXEL = 4
_CIRCLE = np.array([(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 24, endpoint=False)])


def fill(canvas: np.ndarray, points: np.ndarray, color) -> None:
    """Fills an outline (N, 2)."""
    cv2.fillPoly(canvas, [_pixels(points, len(canvas))], _scalar(color), cv2.LINE_AA, _SUBPIXEL)


def ellipse(canvas: np.ndarray, center: np.ndarray, radii, color) -> None:
    """Fills an ellipse with a centre (2,) and two radii."""
    fill(canvas, center + _CIRCLE * radii, color)


def stroke(canvas: np.ndarray, points: np.ndarray, color, width: float, closed: bool = False) -> None:
    """Draws a line through points (N, 2)."""
    _polylines(canvas, [_pixels(points, len(canvas))], color, width, closed)


def strokes(canvas: np.ndarray, lines: np.ndarray, color, width: float) -> None:
    """Draws many lines (M, N, 2) at once."""
    _polylines(canvas, list(_pixels(lines, len(canvas))), color, width, False)


def soften(canvas: np.ndarray, points: np.ndarray, width: float) -> None:
    """Blurs the part of the canvas around points (N, 2), because edges on a face are never sharp."""
    low, high = _pixels(np.stack([points.min(0) - 2, points.max(0) + 2]), len(canvas)) >> _SUBPIXEL
    low, high = np.clip(low, 0, len(canvas)), np.clip(high, 0, len(canvas))
    part = canvas[low[1] : high[1], low[0] : high[0]]
    if part.size:
        part[:] = cv2.GaussianBlur(part, (0, 0), width * len(canvas) / 112)


def _polylines(canvas: np.ndarray, lines: list[np.ndarray], color, width: float, closed: bool) -> None:
    thickness = max(1, round(width * len(canvas) / 112))
    cv2.polylines(canvas, lines, closed, _scalar(color), thickness, cv2.LINE_AA, _SUBPIXEL)


def _pixels(points: np.ndarray, size: int) -> np.ndarray:
    """Converts points to the integer coordinates of OpenCV."""
    return np.rint((points / 112 + 0.5) * (size << _SUBPIXEL)).astype(np.int32)


def _scalar(color) -> tuple[float, ...]:
    """Converts a colour to the type that OpenCV expects."""
    return tuple(np.atleast_1d(np.asarray(color, float)).tolist())
