"""The shapes of a face as functions of the person and the action units.

The plane of the face has x to the right and y down, in 112ths of the width of the frame, with the origin between eyes
and mouth: eyes are near (+-17, -11), the mouth near (0, 27) and the chin near (0, 49). Intensities of action units run
from 0 (absent) to 1 (FACS level E).
"""

from functools import lru_cache

import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS
from tgdfer.training.rendered_faces.people import Identity

Shapes = dict[str, np.ndarray]


@lru_cache
def _spline(points: int, closed: bool, steps: int) -> np.ndarray:
    """Returns the matrix that maps control points to points on their Catmull-Rom spline."""
    t = np.arange(steps)[:, None] / steps
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])
    segments = points if closed else points - 1
    matrix = np.zeros((segments * steps + (not closed), points))
    for s in range(segments):
        for k in range(4):
            j = (s + k - 1) % points if closed else np.clip(s + k - 1, 0, points - 1)
            matrix[s * steps : (s + 1) * steps, j] += weights[:, k]
    if not closed:
        matrix[-1, -1] = 1
    return matrix


def smooth(points: np.ndarray, closed: bool = False, steps: int = 5) -> np.ndarray:
    """Returns a smooth curve (N, 2) through control points (P, 2)."""
    return _spline(len(points), closed, steps) @ points


def mirror(half: np.ndarray) -> np.ndarray:
    """Returns the closed outline of a right half, which runs from top to bottom and starts and ends on the axis."""
    return np.vstack([half, (half * [-1, 1])[-2:0:-1]])


def face_shapes(person: Identity, action_units: np.ndarray, other_side: np.ndarray | None = None) -> Shapes:
    """Returns all shapes of a face that action units move.

    Args:
        person (`Identity`): The person.
        action_units (`np.ndarray`): Intensities (A,) in the order of `ACTION_UNITS`, on the left side of the picture.
        other_side (`np.ndarray`, *optional*): Intensities (A,) on the right side, if they differ. Only AU12 and AU14
            may differ.

    Returns:
        Points (N, 2) of each part. Names of paired parts end in `_left` and `_right` (of the picture).
    """
    left = dict(zip(ACTION_UNITS, action_units, strict=True))
    right = left if other_side is None else dict(zip(ACTION_UNITS, other_side, strict=True))
    shapes: Shapes = {"head": _head(person, left), **_mouth(person, left, right), **_nose(person, left)}
    for side, sign, a in (("left", -1, left), ("right", 1, right)):
        # The sides of a face never move exactly equally.
        gain = 1 + sign * person.asymmetry
        shapes["brow_" + side] = _brow(person, a, gain)
        shapes |= {f"{name}_{side}": points for name, points in _eye(person, a).items()}
        for name in [n for n in shapes if n.endswith("_" + side)]:
            shapes[name] = shapes[name] * [sign, 1]
    shapes |= _creases(shapes, person)
    return shapes


def _head(person: Identity, a: dict) -> np.ndarray:
    """Returns the closed outline of the head."""
    w, jaw, chin = person.head_width, person.jaw_width, person.chin_width
    bottom = 47 + 4 * (person.chin_length - 1) * 10 / 3
    half = np.array(
        [(0, -51), (19 * w, -48), (32 * w, -36), (37 * w, -16), (36.5 * w, 3), (33 * w * jaw**0.5, 20)]
        + [(25.5 * w * jaw, bottom - 12.5), (12.5 * chin, bottom - 2), (0, bottom)]
    )
    drop = np.clip((half[:, 1] - 8) / 40, 0, 1)
    half[:, 1] += drop * (8.5 * a["AU26"] - 1.2 * a["AU17"])
    # Raised cheeks widen the face.
    half[5, 0] += 1.3 * a["AU12"] + 0.8 * a["AU20"]
    return smooth(mirror(half), closed=True)


def _brow(person: Identity, a: dict, gain: float) -> np.ndarray:
    """Returns the closed outline of the right brow, from five points between its inner and its outer end."""
    along = np.array([0, 0.25, 0.5, 0.75, 1])
    x = 17 * person.eye_distance + (-10.5 + 22 * along) * person.eye_width
    y = -21.5 + person.eye_level - person.brow_level + person.brow_slope * (0.5 - along) * 2
    y = y - 2.2 * person.brow_arch * np.array([0, 0.55, 1, 0.9, -0.3])
    y -= gain * (5.5 * a["AU01"] + 3 * a["AU01"] * a["AU04"]) * np.array([1, 0.7, 0.25, 0, 0])
    y -= gain * 5.2 * a["AU02"] * np.array([0, 0.3, 0.8, 1, 0.7])
    y += gain * 5 * a["AU04"] * np.array([1, 0.9, 0.65, 0.4, 0.2])
    y += 1.8 * a["AU09"] * np.array([1, 0.7, 0.3, 0, 0]) + 0.6 * a["AU06"] * np.array([0, 0, 0.3, 0.8, 1])
    x = x - (3.4 * a["AU04"] + 0.6 * a["AU09"]) * np.array([1, 0.7, 0.35, 0.1, 0])
    half = person.brow_thickness * np.array([1.5, 1.9, 1.7, 1.15, 0.3])
    upper, lower = np.stack([x, y - half], 1), np.stack([x, y + half], 1)
    return np.vstack([smooth(upper), smooth(lower)[::-1]])


_LID = np.linspace(-1, 1, 17)


def _eye(person: Identity, a: dict) -> Shapes:
    """Returns the right eye: its opening, lids, crease, centre of the iris, socket, bag and crow's feet."""
    center = np.array([17 * person.eye_distance, -11 + person.eye_level])
    width = 8.8 * person.eye_width
    upper = 4.7 * person.eye_height * (1 + 0.48 * a["AU05"] - 0.3 * a["AU07"] - 0.1 * a["AU06"] - 0.12 * a["AU09"])
    lower = 2.9 * (1 - 0.6 * a["AU07"] - 0.6 * a["AU06"] - 0.25 * a["AU09"] - 0.15 * a["AU12"])
    lower = max(lower, 0.2)
    closed = max(a["AU43"], a["AU45"])
    x = width * _LID
    axis = 0.5 - person.eye_slant * _LID
    # The upper lid peaks nearer to the nose than the lower one.
    open_lid = -upper * (1 - np.abs(_LID) ** 2.2) * (1 - 0.12 * _LID)
    low_lid = lower * (1 - np.abs(_LID) ** 2.4) * (1 + 0.1 * _LID)
    top = (1 - closed) * open_lid + closed * low_lid * 0.85
    crease = open_lid * (1.08 + 0.1 * a["AU05"]) - (2.6 - 1.1 * a["AU05"] + 0.4 * closed) * (1 - 0.6 * _LID**2)
    crease += 1.1 * a["AU04"] * (1 - _LID) / 2 + closed * 1.2

    def curve(y: np.ndarray, stretch: float = 1.0) -> np.ndarray:
        return center + np.stack([x * stretch, axis + y], 1)

    lids = {"upper_lid": curve(top), "lower_lid": curve(np.maximum(low_lid, top)), "crease": curve(crease, 1.03)}
    return {
        **lids,
        "slit": np.vstack([lids["upper_lid"], lids["lower_lid"][::-1]]),
        "lid": np.vstack([lids["crease"], lids["upper_lid"][::-1]]),
        "iris": center[None] + [[0, -0.5]],
        "socket": center + np.array([[-10, -6], [0, -9], [11, -5], [10, 5], [0, 7], [-9, 5]]),
        "bag": curve(low_lid + 2.6 - 1.1 * a["AU06"] + (1 - _LID**2) * (1.2 - 0.9 * a["AU06"]), 0.95),
        "crow": center
        + np.array([(width + x, y) for x, y in ((1.5, -2), (6.5, -5.5), (2, 0), (7.5, -0.5), (1.5, 2), (6.5, 4.5))]),
        # Highest point of the cheek.
        "cheek": np.array([[19 + 1.2 * a["AU12"], 9 - 5 * a["AU06"] - 2 * a["AU12"] - 1.5 * a["AU09"]]]),
    }


def _nose(person: Identity, a: dict) -> Shapes:
    """Returns tip, base, wings, nostrils and bridge of the nose."""
    tip = 10 + 3 * (person.nose_length - 1) * 3.3 - 0.8 * a["AU09"]
    wing = 8 * person.nose_width * (1 + 0.12 * a["AU09"] + 0.05 * a["AU10"] + 0.05 * a["AU12"])
    lift = 3.2 * a["AU09"] + 1.2 * a["AU10"]
    wing_right = np.array([(wing - 2.6, tip - 6.5 - lift), (wing, tip - 2.5 - lift), (wing - 0.4, tip + 0.5 - lift)])
    wing_right = smooth(np.vstack([wing_right, [(wing - 3, tip + 1.8 - 0.6 * lift)]]))
    nostril = np.array([(wing - 3.6, tip + 1.6 - 0.55 * lift)])
    bridge = np.array([(4.2, -17), (3.4, -8), (4, 1), (wing - 2.5, tip - 6.5 - lift)])
    return {
        "nose_tip": np.array([(0, tip - 1)]),
        "nose_base": smooth(
            np.array([(-wing + 3, tip + 2), (-2, tip + 3), (0, tip + 3.6), (2, tip + 3), (wing - 3, tip + 2)])
        ),
        "wing_right": wing_right,
        "wing_left": wing_right.copy(),
        "nostril_right": nostril,
        "nostril_left": nostril.copy(),
        "bridge_right": smooth(bridge),
        "bridge_left": smooth(bridge),
    }


_LIP = np.linspace(-1, 1, 25)
_TOWARDS_RIGHT = 0.5 + 0.5 * np.sin(0.5 * np.pi * _LIP)


def _mouth(person: Identity, left: dict, right: dict) -> Shapes:
    """Returns lips, teeth, tongue, corners of the mouth, and the shapes around them."""
    u, bow = _LIP, 1 - np.abs(_LIP) ** 2
    # A movement of one corner fades out towards the other one.
    a = left | {name: left[name] + (right[name] - left[name]) * _TOWARDS_RIGHT for name in ("AU12", "AU14")}
    half, (line, corner) = _mouth_half_width(person, a), _mouth_line(person, a)
    raised = (3 * a["AU10"] + 1.6 * a["AU09"]) * (1 - np.abs(u) ** 3)
    gap = 3.2 * a["AU25"] + 11 * a["AU26"] * min(1.0, 2.5 * a["AU25"])
    thin = (1 - 0.5 * a["AU23"]) * (1 - 0.52 * a["AU24"]) * (1 - 0.3 * a["AU20"]) * (1 - 0.22 * a["AU12"])
    thin = thin * (1 - 0.9 * a["AU28"])
    upper, lower = 3.3 * person.upper_lip * thin, 4.6 * person.lower_lip * thin * (1 + 0.22 * a["AU17"])
    open_bow = 1 - np.abs(u) ** (2.6 + 1.4 * a["AU20"])
    inner_top = line - raised * min(1.0, 2 * a["AU25"]) - 0.14 * gap * open_bow
    inner_bottom = line + 0.86 * gap * open_bow
    cupid = bow**0.8 * (1 - 0.28 * np.exp(-((u / 0.16) ** 2)))
    outer_top = inner_top - upper * cupid - 0.7 * raised * (1 - min(1.0, 2 * a["AU25"]))
    outer_bottom = inner_bottom + lower * bow**0.75

    def curve(y: np.ndarray) -> np.ndarray:
        return np.stack([half * u, y], 1)

    jaw = 8.5 * a["AU26"]
    teeth = inner_top + np.minimum(0.62 * (inner_bottom - inner_top), 3.6)
    low_teeth = inner_bottom - np.minimum(0.3 * (inner_bottom - inner_top), 2.4 * max(a["AU20"], 0.4 * a["AU10"]))
    return {
        "lip_upper": np.vstack([curve(outer_top), curve(inner_top)[::-1]]),
        "lip_lower": np.vstack([curve(inner_bottom), curve(outer_bottom)[::-1]]),
        "lip_line": curve(0.5 * (inner_top + inner_bottom)),
        "mouth": np.vstack([curve(inner_top), curve(inner_bottom)[::-1]]),
        "teeth": np.vstack([curve(inner_top), curve(teeth)[::-1]]),
        "low_teeth": np.vstack([curve(low_teeth), curve(inner_bottom)[::-1]]),
        "tongue": np.array([[0, inner_bottom[12] - 0.5], [0.55 * half[12], max(0.0, 0.4 * (gap - 3))]]),
        "corner_right": np.array([[half[-1], corner[-1]]]),
        "corner_left": np.array([[half[0], corner[0]]]),
        "lip_shadow": curve(outer_bottom + 1.6)[6:-6],
        "philtrum": np.array([[0, outer_top[12] - 4]]),
        "chin": np.array([[0, 0.5 * (outer_bottom[12] + 48 + jaw)]]),
        "lip_highlight": curve(inner_bottom + 0.5 * lower * bow)[7:-7],
    }


def _mouth_half_width(person: Identity, a: dict) -> np.ndarray:
    """Returns half of the width of the mouth (25,) for each point of the lips."""
    half = 13 * person.mouth_width
    half *= (
        1
        + 0.3 * a["AU12"]
        + 0.32 * a["AU20"]
        - 0.2 * a["AU23"]
        - 0.06 * a["AU17"]
        + 0.08 * a["AU14"]
        - 0.05 * a["AU24"]
        - 0.03 * a["AU28"]
    )
    half *= 1 - 0.14 * a["AU26"] * (1 - a["AU12"]) * (1 - a["AU20"])
    return half


def _mouth_line(person: Identity, a: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns the height (25,) of the line between closed lips, and the height (25,) of its corners."""
    middle = 27 + person.mouth_level - 2.4 * a["AU17"] - 1.3 * a["AU10"] - 0.8 * a["AU09"] + 0.4 * a["AU12"]
    corner = middle + 2.4 * a["AU17"] - 7.2 * a["AU12"] + 6 * a["AU15"] + 1.8 * a["AU20"] - 0.8 * a["AU14"]
    corner += 1.5 * a["AU26"] * (1 - 0.5 * a["AU12"])
    # Raised corners bend the whole line. Lowered corners bend only its ends.
    bend = 2 + 1.2 * a["AU15"]
    corner = corner + 0.8 * a["AU28"]
    return middle + (corner - middle) * np.abs(_LIP) ** bend, corner


def _creases(s: Shapes, person: Identity) -> Shapes:
    """Returns lines that follow other shapes: folds between nose and mouth, wrinkles of forehead and nose."""
    creases = {}
    for side, sign in (("left", -1), ("right", 1)):
        wing, corner = s["wing_" + side][1], s["corner_" + side][0]
        out = corner + [sign * 5, -1]
        middle = 0.5 * (wing + out) + [sign * 3.2, -1.5]
        creases["fold_" + side] = smooth(np.array([wing + [sign * 1.8, -1.5], middle, out, out + [sign * 0.2, 3.5]]))
        inner = s["brow_" + side][0]
        creases["furrow_" + side] = np.array(
            [
                (sign * max(1.7, sign * x), y)
                for x, y in inner + [[-sign * 1.8, -4.5], [-sign * 2.4, 0], [-sign * 2, 4]]
            ]
        )
        creases["snarl_" + side] = np.array(
            [(sign * x, y) for x, y in ((3.2, -7.5), (6.0, -9.5), (3.6, -4.8), (7.2, -5.8), (4.2, -2), (8, -2))]
        )
    creases["root"] = np.array([(x, y) for y in (-13.5, -10.8, -8.1) for x in (-2.6, 0.0, 2.6)]) + [
        (0, 0.5 * dip) for _ in range(3) for dip in (0, 1, 0)
    ]
    brow_left, brow_right = s["brow_left"][:21][::-1], s["brow_right"][:21]
    inner = 0.5 * (brow_left[-1] + brow_right[0])
    path = np.vstack([brow_left[[6, 12, 17]], inner - [0, 0.5], brow_right[[3, 8, 14]]])
    for i, height in enumerate((5.0, 9.0, 13.0)):
        creases[f"forehead_{i}"] = smooth(path - [0, height])
    return creases


def fixed_shapes(person: Identity) -> Shapes:
    """Returns the outlines that no action unit moves: body, neck, ears, glasses and hair, as in `face_shapes`."""
    w = person.head_width
    shapes: Shapes = {
        "body": np.array([(-130, 140), (-104, 92), (-60, 74), (-22, 66), (22, 66), (60, 74), (104, 92), (130, 140)]),
        "neck": np.array([(-21 * w, 20), (21 * w, 20), (22 * w, 66), (10, 78), (-10, 78), (-22 * w, 66)]),
    }
    for side, sign in (("left", -1), ("right", 1)):
        ear = np.array([(35, -13), (41, -15), (43, -6), (40, 6), (35, 8)]) * [sign * w, 1]
        shapes["ear_" + side] = smooth(ear, closed=True)
        corners = np.array([(-10.5, -6), (0, -7.5), (11.5, -6.5), (11.5, 3), (5, 8.5), (-5, 8.5), (-10, 2)])
        shapes["glass_" + side] = smooth(
            (corners + [17.5 * person.eye_distance, -11 + person.eye_level]) * [sign, 1], closed=True
        )
    shapes["glass_bridge"] = np.array([(-6.5, -13.5), (0, -15), (6.5, -13.5)]) + [0, person.eye_level]
    return shapes | _hair(person)


def _hair(person: Identity) -> Shapes:
    """Returns hair behind the head, hair above the face and its strands, depending on the hair style."""
    w, style = person.head_width, person.hair_style
    s: Shapes = {}
    back = {"long": (47, 80), "curly": (50, 12), "fringe": (44, 34), "parted": (42, 0), "short": (40, -8)}
    if style in back:
        width, bottom = back[style]
        half = [
            (0, -59),
            (24, -57),
            (width - 6, -40),
            (width, -15),
            (width, 0.5 * bottom),
            (width - 6, bottom),
            (0, bottom),
        ]
        s["hair_back"] = smooth(mirror(np.array(half) * [w, 1]), closed=True)
    if style != "bald":
        line = -36 * (0.7 + 0.3 * person.forehead)
        crown = -58 if style in ("curly", "long") else -55
        temple = {"tied back": -20, "curly": -14}.get(style, -12)
        edge = 38.5 * w
        hairline = {
            "fringe": [(-33 * w, -22), (-20, line + 9), (0, line + 11), (20, line + 9), (33 * w, -22)],
            "parted": [(-33 * w, -24), (-18, line - 4), (-10, line - 7), (14, line + 2), (33 * w, -20)],
            "receding": [(-34 * w, -27), (-24, line - 10), (0, line - 5), (24, line - 10), (34 * w, -27)],
        }.get(style, [(-33 * w, -25), (-20, line - 1), (0, line - 3), (20, line - 1), (33 * w, -25)])
        top = [(edge, temple), (edge, -34), (24 * w, crown + 3), (0, crown), (-24 * w, crown + 3), (-edge, -34)]
        s["hair_front"] = smooth(np.array([(-edge, temple), *hairline, *top]), closed=True)
        t = np.linspace(0, 1, 5)[:, None]
        origin = np.array([-10.0 if style == "parted" else 0.0, crown + 4.0])
        ends = [
            np.array([x * w, line - (17 if style == "receding" else 8) + 0.008 * x * x])
            for x in (-28, -20, -11, 0, 11, 20, 28)
        ]
        s["hair_strands"] = np.vstack(
            [origin + (e - origin) * [1, 0] * t**0.7 + (e - origin) * [0, 1] * t**1.8 for e in ends]
        )
    return s
