"""Pictures of squares that a made-up detector takes for faces: fast, and known to the pixel."""

import cv2
import numpy as np

from tgdfer.processing.faces_tgdfer import TEMPLATE
from tgdfer.processing.video_processing_tgdfer import TGDFERVideoProcessor

HEIGHT, WIDTH = 120, 160
# Where the landmarks of a drawn face lie in its box.
SHARES = (TEMPLATE - 20) / 72


def drawn(*faces):
    """Picture with squares (x, y, side, shade) that `seen` takes for faces."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for x, y, side, shade in faces:
        picture[y : y + side, x : x + side] = shade
    return picture


def seen(picture):
    """A detector of squares of one shade."""
    rows = []
    for shade in np.unique(picture[picture > 0]):
        y, x = np.nonzero(picture[..., 0] == shade)
        side = x.max() - x.min() + 1
        rows.append(face(x.min(), y.min(), side, side))
    return np.array(rows, dtype=np.float64).reshape(-1, 15)


def face(x, y, width, height, score=0.9):
    return np.array([x, y, width, height, *(SHARES * [width, height] + [x, y]).ravel(), score])


def make(**settings):
    return TGDFERVideoProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, num_frames=8, face_size=48, **settings
    )


def shades(frames):
    """Shade in the middle of each crop."""
    return frames[:, 0, frames.shape[2] // 2, frames.shape[3] // 2].tolist()


TWO = np.stack([drawn((5 + 2 * t, 10, 50, 200), (100, 50, 30, 90)) for t in range(8)])
GONE = np.stack([drawn((40, 30, 40, 200)) if 2 <= t < 6 else drawn() for t in range(8)])


def on_canvas(portrait, height, width, face_height):
    """The portrait on grey, its face so many pixels high."""
    scale = face_height / 212
    small = cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((height, width, 3), 128, np.uint8)
    canvas[20 : 20 + small.shape[0], 30 : 30 + small.shape[1]] = small
    return canvas, (np.array([[227, 193], [308, 195]]) * scale + [30, 20])
