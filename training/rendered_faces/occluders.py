"""Shapes of the hands and objects that hide part of a face, made of rounded strokes and outlines."""

import numpy as np

from tgdfer.training.rendered_faces.setting import Occluder
from tgdfer.training.rendered_faces.shapes import smooth

# A part is an outline (width 0) or a stroke. It has points, width, material ("skin", "nail" or "object") and a light
# level around 1.
Part = tuple[np.ndarray, float, str, float]

# Position of the palm, direction of the fingers (degrees from upwards towards the middle of the face), and the offset
# from which the hand enters, for a hand on the right of the picture.
_HANDS = {
    "hand on the chin": ((17.0, 61.0), 24.0, (14.0, 90.0)),
    "hand on the cheek": ((37.0, 34.0), 12.0, (60.0, 75.0)),
    "hand on the brow": ((49.0, -24.0), 76.0, (85.0, 25.0)),
}
_OBJECTS = {"cup": ((2.0, 35.0), 4.0), "phone": ((40.0, 14.0), -10.0), "microphone": ((5.0, 37.0), 18.0)}


def occluder_parts(occluder: Occluder, seconds: float) -> list[Part]:
    """Returns the parts of an occluder at a time of the clip, from back to front.

    Args:
        occluder (`Occluder`): A hand or an object.
        seconds (`float`): Time in the clip.

    Returns:
        Parts with points (N, 2) in the plane of the face, in 112ths of the frame. There are none while the occluder is
        out of sight.
    """
    presence = occluder.presence(seconds)
    if presence <= 0:
        return []
    if occluder.kind in _HANDS:
        palm, turn, entry = _HANDS[occluder.kind]
        parts = _hand(curled=0.8 if occluder.kind == "hand on the chin" else 1.0)
    else:
        palm, turn = _OBJECTS[occluder.kind]
        entry = (35.0, 95.0)
        parts = {"cup": _cup, "phone": _phone, "microphone": _microphone}[occluder.kind]()
    away = 1 - presence**2 * (3 - 2 * presence)
    angle = -np.radians(turn + occluder.angle)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    position = np.array(palm) + away * np.array(entry)
    mirror = np.array([occluder.side, 1.0])
    return [
        (
            (points * occluder.size @ rotation + position) * mirror + occluder.place,
            width * occluder.size,
            material,
            light,
        )
        for points, width, material, light in parts
    ]


def _finger(points: list[tuple[float, float]], width: float) -> list[Part]:
    """Returns the parts of a finger from the knuckle to the tip: dark edge, flesh, light side and nail."""
    line = smooth(np.array(points))
    tip, along = line[-1], line[-1] - line[-4]
    nail = tip + np.outer([-0.35, 0.3], along / max(1e-6, float(np.hypot(*along))) * 2.2)
    return [
        (line, width + 1.2, "skin", 0.66),
        (line, width, "skin", 0.92),
        (line + [0.5, -0.3], 0.5 * width, "skin", 1.04),
        (nail, 0.5 * width, "nail", 1.0),
    ]


def _hand(curled: float) -> list[Part]:
    """Returns the parts of a hand seen from the back: fingers up, palm at the origin, thumb on the right."""
    parts: list[Part] = [
        (np.array([(2.0, 8.0), (5.0, 80.0)]), 17.0, "skin", 0.66),
        (np.array([(2.0, 8.0), (5.0, 80.0)]), 15.6, "skin", 0.9),
    ]
    parts += _finger([(8.0, 6.0), (14.0, -1.0), (16.5, -9.0 * curled)], 6.6)
    palm = np.array([(-10.5, -9.0), (0, -12.5), (9.5, -10.0), (11.0, 2.0), (8.0, 13.0), (-4.0, 13.0), (-10.0, 4.0)])
    parts += [(smooth(palm, closed=True), 0.0, "skin", 0.92), (smooth(0.55 * palm, closed=True), 0.0, "skin", 0.99)]
    for x, length in ((-8.2, 17.0), (7.6, 21.0), (-2.9, 22.0), (2.4, 24.0)):
        tip = -9.0 - length * curled
        parts += _finger([(0.85 * x, -6.0), (1.02 * x, 0.5 * (tip - 9)), (1.06 * x, tip)], 5.6)
    return parts


def _grip(x: float, top: float, step: float) -> list[Part]:
    """Returns the parts of four fingers around an object, one below the other."""
    parts: list[Part] = []
    for i in range(4):
        y = top + step * i
        parts += _finger([(x + 13.0, y + 2.5), (x + 7.0, y - 0.4), (x, y)], 5.4)
    return parts


def _cup() -> list[Part]:
    outline = np.array([(-13.5, -12), (13.5, -12), (11, 20), (-11, 20)], float)
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    rim = np.stack([13.5 * np.cos(angle), 2.6 * np.sin(angle) - 12], 1)
    return [
        (outline, 0.0, "object", 1.0),
        (np.array([(-7.5, -8), (-6.5, 18)]), 4.0, "object", 1.2),
        (np.array([(9.5, -8), (7.5, 18)]), 4.5, "object", 0.75),
        (rim, 0.0, "object", 0.55),
        (np.array([(18.0, 12.0), (30.0, 70.0)]), 15.0, "skin", 0.88),
        *_grip(0.0, -1.0, 5.6),
    ]


def _phone() -> list[Part]:
    outline = np.array([(-8, -24), (8, -24), (8, 24), (-8, 24)], float)
    return [
        (outline, 3.0, "object", 0.3),
        (outline, 0.0, "object", 0.3),
        (0.88 * outline, 0.0, "object", 0.42),
        (np.array([(9.0, 14.0), (14.0, 80.0)]), 15.0, "skin", 0.88),
        *_grip(-4.0, -8.0, 5.8),
    ]


def _microphone() -> list[Part]:
    angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ball = np.stack([np.cos(angle), np.sin(angle)], 1)
    return [
        (np.array([(0.0, 6.0), (0.0, 60.0)]), 7.0, "object", 0.35),
        (8.0 * ball, 0.0, "object", 0.5),
        (5.0 * ball + [-1.5, -1.5], 0.0, "object", 0.75),
        (np.array([(14.0, 26.0), (22.0, 80.0)]), 15.0, "skin", 0.88),
        *_grip(-4.0, 12.0, 5.6),
    ]
