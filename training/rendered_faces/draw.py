"""Draws a face: flat shapes with anti-aliasing over a skin whose light and creases are painted as soft shade."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import INDEX
from tgdfer.training.rendered_faces.parameters import Identity, RenderedFaces, Setting
from tgdfer.training.rendered_faces.shapes import Shapes, face_shapes, mirror, smooth

# Sixteenths of a pixel: OpenCV draws from integers.
_SUBPIXEL = 4


@dataclass(frozen=True)
class Pose:
    """Where the head is and where the eyes look, in one frame.

    Attributes:
        turn: Degrees to the right of the picture.
        nod: Degrees down.
        tilt: Degrees in the plane of the picture, clockwise.
        x: Shift to the right in 112ths of the frame.
        y: Shift down.
        scale: Size of the face.
        gaze_x: -1 left .. 1 right.
        gaze_y: -1 up .. 1 down.
    """

    turn: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


class FacePainter:
    """Draws one person in one setting; what does not change between frames is prepared once."""

    def __init__(self, person: Identity, setting: Setting, faces: RenderedFaces):
        self.person, self.setting, self.size = person, setting, faces.size
        self.canvas_size = faces.size * faces.supersampling
        self.skin = _skin_ramp(person.skin)
        self.outlines = _hair_and_body(person)
        rng = np.random.default_rng(setting.backdrop_seed)
        self.backdrop = _backdrop(setting, self.canvas_size, rng)
        self.grain = (setting.noise * rng.standard_normal((2 * self.size, 2 * self.size, 3))).astype(np.float32)
        self.gain = _light(setting, self.size)
        self.contrast = np.linspace(-1, 1, self.canvas_size // 2)[None, :] * 38 * setting.light_contrast
        self.contrast = (128 + 4 + np.sign(setting.light_side) * self.contrast).astype(np.float32)

    def draw(
        self,
        action_units: np.ndarray,
        pose: Pose = Pose(),
        frame: int = 0,
        before: Pose | None = None,
        side: float = 0.0,
    ) -> np.ndarray:
        """Draw one frame.

        Args:
            action_units: Movement (A,) in the order of `ACTION_UNITS`; the person's resting face is added here.
            pose: Where head and eyes are turned.
            frame: Number of the frame in its clip: the time, and which pattern of sensor noise is added.
            before: The pose in the frame before, for motion blur; None leaves the picture sharp.
            side: AU12 and AU14 show on both sides of the mouth at 0, on the left of the picture alone at -1, on the
                right alone at 1.

        Returns:
            uint8 RGB (size, size, 3).
        """
        left, right = (self._one_side(action_units, gain) for gain in (1 - max(side, 0.0), 1 + min(side, 0.0)))
        shapes = _project(face_shapes(self.person, left, right) | self.outlines, pose)
        shown = np.maximum(left, right)
        lids_closed = float(max(shown[INDEX["AU43"]], shown[INDEX["AU45"]]))
        canvas = self.backdrop.copy()
        self._paint_behind(canvas, shapes)
        self._paint_skin(canvas, shapes, shown)
        self._paint_features(canvas, shapes, pose, lids_closed)
        self._paint_hair(canvas, shapes)
        return self._develop(canvas, frame)

    def _one_side(self, action_units: np.ndarray, gain: float) -> np.ndarray:
        """What one side of the face shows, (A,), resting face included."""
        units = np.array(action_units, float)
        units[[INDEX["AU12"], INDEX["AU14"]]] *= gain
        return self.person.shown(units)

    # Painting in the coordinates of the face -----------------------------------------------------------------------

    def _pixels(self, points: np.ndarray, size: int) -> np.ndarray:
        return np.rint((points / 112 + 0.5) * (size << _SUBPIXEL)).astype(np.int32)

    def _fill(self, image: np.ndarray, points: np.ndarray, color) -> None:
        cv2.fillPoly(image, [self._pixels(points, len(image))], _paint(color), cv2.LINE_AA, _SUBPIXEL)

    def _line(self, image: np.ndarray, points: np.ndarray, color, width: float, closed: bool = False) -> None:
        thickness = max(1, round(width * len(image) / 112))
        cv2.polylines(
            image, [self._pixels(points, len(image))], closed, _paint(color), thickness, cv2.LINE_AA, _SUBPIXEL
        )

    def _spot(self, image: np.ndarray, center: np.ndarray, radii, color) -> None:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self._fill(image, center + np.stack([np.cos(angle), np.sin(angle)], 1) * radii, color)

    def _paint_behind(self, canvas: np.ndarray, s: Shapes) -> None:
        if "hair_back" in s:
            self._fill(canvas, s["hair_back"], self.person.hair * 0.72)
        self._fill(canvas, s["body"], self.setting.clothes)
        self._fill(canvas, s["neck"], self.skin[92])
        for side in ("left", "right"):
            self._fill(canvas, s["ear_" + side], self.skin[112])

    def _paint_skin(self, canvas: np.ndarray, s: Shapes, action_units: np.ndarray) -> None:
        half = self.canvas_size // 2
        broad = np.zeros((half // 2, half // 2), np.float32)
        fine = np.zeros((half, half), np.uint8)
        self._shade_broadly(broad, s, action_units)
        self._crease(fine, s, action_units)
        soft = cv2.resize(cv2.GaussianBlur(broad, (0, 0), half / 50), (half, half))
        lines = cv2.GaussianBlur(fine, (0, 0), half / 140)
        shade = cv2.convertScaleAbs(np.maximum(self.contrast + soft - lines, 0))
        shade = cv2.resize(shade, (self.canvas_size, self.canvas_size))
        mask = np.zeros((self.canvas_size, self.canvas_size), np.uint8)
        self._fill(mask, s["head"], 255)
        cv2.copyTo(cv2.applyColorMap(shade, self.skin[:, None]), mask, canvas)

    def _shade_broadly(self, shade: np.ndarray, s: Shapes, action_units: np.ndarray) -> None:
        """Light and shadow of the large forms, as differences from the even skin."""
        au = dict(zip(INDEX, action_units, strict=True))
        raised = max(au["AU06"], 0.8 * au["AU12"], 0.6 * au["AU09"])
        self._line(shade, s["head"], -48, 7, closed=True)
        self._spot(shade, np.array([0, -36]) + s["nose_tip"] * 0.2, (19, 9), 14)
        for side, sign in (("left", -1), ("right", 1)):
            self._fill(shade, s["socket_" + side], -20 - 16 * au["AU04"] - 6 * self.person.age)
            self._line(shade, s["bridge_" + side], -22, 3.5)
            self._spot(shade, s["cheek_" + side][0], (9 - 1.5 * raised, 6), 10 + 34 * raised)
            self._spot(shade, s["corner_" + side][0] + [sign * 5, 4], (4, 6), -10 - 12 * au["AU14"])
        self._line(shade, np.array([[0, -14], [0, 0]]) + s["nose_tip"] - [0, 9], 26, 3)
        self._spot(shade, s["nose_tip"][0] - [0, 0.5], (4, 3.5), 26)
        self._spot(shade, s["nose_base"].mean(0) + [0, 4], (7, 2.2), -26)
        self._line(shade, s["lip_shadow"], -38, 4)
        self._spot(shade, s["chin"][0] + [0, 2], (8, 5), 14 + 12 * au["AU17"])
        if self.person.beard == "stubble":
            self._line(shade, s["head"][10:-10], -38, 18)
            self._spot(shade, s["philtrum"][0], (13, 3), -26)

    def _crease(self, dark: np.ndarray, s: Shapes, action_units: np.ndarray) -> None:
        """Thin dark lines: folds and wrinkles that action units press into the skin."""
        au, age = dict(zip(INDEX, action_units, strict=True)), self.person.age

        def crease(points: np.ndarray, strength: float, width: float = 1.2) -> None:
            if strength > 0.04:
                self._line(dark, points, int(min(strength, 1.1) * 84), 0.75 * width)

        for i in range(3):
            part = s[f"forehead_{i}"]
            middle, sides = au["AU01"] * (1 - 0.3 * au["AU04"]), au["AU02"]
            crease(part, (0.75 * max(middle, sides) * (0.6 + 0.4 * age) + 0.16 * age) * (1 - 0.15 * i), 1.0)
        fold = 0.85 * max(au["AU12"], au["AU10"], 0.9 * au["AU09"]) + 0.25 * max(au["AU06"], au["AU15"], au["AU20"])
        for side, sign in (("left", -1), ("right", 1)):
            crease(s["fold_" + side], fold + 0.12 + 0.3 * age, 1.5)
            crease(s["wing_" + side], 0.5 + 0.45 * max(au["AU09"], au["AU10"]), 1.2)
            crease(s["furrow_" + side], 0.95 * au["AU04"] + 0.25 * au["AU09"] + 0.12 * age, 1.4)
            for line in np.split(s["snarl_" + side], 2):
                crease(line, 0.95 * au["AU09"] + 0.15 * au["AU10"], 1.3)
            for line in np.split(s["crow_" + side], 2):
                crease(line, 0.75 * au["AU06"] * (0.6 + 0.4 * age) + 0.15 * age)
            crease(s["bag_" + side], 0.5 * au["AU06"] + 0.3 * au["AU07"] + 0.15 + 0.25 * age)
            corner = s["corner_" + side][0]
            hook = np.array([[sign * 1.2, -0.5], [sign * 2.6, 2.5], [sign * 2.4, 6.0]])
            crease(corner + hook, 0.85 * au["AU15"] + 0.2 * au["AU17"], 1.5)
            dimple = np.array([[sign * 2.2, -3.5], [sign * 3.4, 0.0], [sign * 2.2, 3.5]])
            crease(corner + dimple, 0.95 * au["AU14"] + 0.45 * au["AU12"] + 0.25 * au["AU20"], 1.5)
        arc = np.linspace(-1, 1, 9)
        under = s["chin"][0] + np.stack([8 * arc, -3 + 2.5 * arc**2], 1)
        crease(under, 0.8 * au["AU17"], 1.6)
        if au["AU17"] > 0.1:
            for dx, dy in ((-4, 1), (0, 2.5), (4, 1), (-2, 5), (2, 5)):
                self._spot(dark, s["chin"][0] + [dx, dy], (1.2, 1.0), int(60 * au["AU17"]))
        tight = max(au["AU23"], au["AU24"])
        if tight > 0.1:
            for sign in (-1, 1):
                for dx in (3, 7):
                    x = s["philtrum"][0] + [sign * dx, 1.5]
                    crease(np.stack([x, x + [0, 3.0]]), 0.5 * tight, 1.0)

    def _paint_features(self, canvas: np.ndarray, s: Shapes, pose: Pose, lids_closed: float) -> None:
        person = self.person
        for side in ("left", "right"):
            self._spot(canvas, s["nostril_" + side][0], (2.1, 1.15), self.skin[38])
            self._fill(canvas, s["lid_" + side], self.skin[106])
            self._line(canvas, s["crease_" + side], self.skin[66], 0.7)
        if person.beard in ("full", "moustache"):
            self._paint_beard(canvas, s)
        self._fill(canvas, s["lip_upper"], person.lips * 0.86)
        self._fill(canvas, s["lip_lower"], person.lips)
        self._line(canvas, s["lip_highlight"], np.minimum(person.lips * 1.14 + 6, 255), 1.1)
        self._line(canvas, s["lip_line"], person.lips * 0.42, 1.0)

        # Whatever lies behind lids and lips is painted freely and shows only through the openings.
        inside = canvas.copy()
        for side in ("left", "right"):
            iris = s["iris_" + side][0]
            self._spot(inside, iris, (14, 9), (226, 222, 218))
            iris = iris + np.array([2.6, 1.3]) * [pose.gaze_x, pose.gaze_y]
            self._spot(inside, iris, (4.5, 4.5), person.iris * 0.5)
            self._spot(inside, iris, (3.9, 3.9), person.iris)
            self._spot(inside, iris, (1.9, 1.9), (14, 12, 14))
            self._spot(inside, iris + [np.sign(self.setting.light_side) * 1.3, -1.5], (0.95, 0.95), (250, 250, 250))
            self._line(inside, s["upper_lid_" + side] + [0, 0.7], (110, 92, 88), 1.4)
        self._fill(inside, s["mouth"], (52, 20, 24))
        self._spot(inside, s["tongue"][0], np.maximum(np.abs(s["tongue"][1] - [0, 0]), 0.1), (150, 70, 74))
        self._fill(inside, s["teeth"], (236, 230, 218))
        self._fill(inside, s["low_teeth"], (214, 206, 194))
        openings = np.zeros(canvas.shape[:2], np.uint8)
        for name in ("slit_left", "slit_right", "mouth"):
            self._fill(openings, s[name], 255)
        cv2.copyTo(inside, openings, canvas)

        lash = person.hair * 0.25
        for side in ("left", "right"):
            self._line(canvas, s["lower_lid_" + side][2:-2], self.skin[78], 0.6)
            self._line(canvas, s["upper_lid_" + side], lash, 1.3 + 0.5 * lids_closed)
            self._fill(canvas, s["brow_" + side], person.hair * 0.62 + person.skin * 0.08)

    def _paint_beard(self, canvas: np.ndarray, s: Shapes) -> None:
        hair, (left, right) = self.person.hair * 0.8, (s["corner_left"][0], s["corner_right"][0])
        top = s["philtrum"][0] + [0, 1.2]
        ends = [right + [1.5, 3.5], right + [1, -1.5]], [left + [-1, -1.5], left + [-1.5, 3.5]]
        half = np.array([*ends[1], top + [0, -0.6], *ends[0], top + [0, 3.4]])
        if self.person.beard == "full":
            jaw = s["head"][(len(s["head"]) // 4) + 5 : -(len(s["head"]) // 4) - 5]
            cheeks = [left + [-9, -2], left + [-1, -1], top, right + [1, -1], right + [9, -2]]
            self._fill(canvas, np.vstack([jaw, smooth(np.array(cheeks))]), hair)
        else:
            self._fill(canvas, smooth(half, closed=True), hair)

    def _paint_hair(self, canvas: np.ndarray, s: Shapes) -> None:
        hair = self.person.hair
        if "hair_front" in s:
            self._fill(canvas, s["hair_front"], hair)
            for strand in np.split(s["hair_strands"], 7):
                self._line(canvas, strand, np.minimum(hair * 1.16 + 6, 255), 0.7)
        if self.person.glasses:
            frame = (36, 34, 40) if self.person.age < 0.5 else (120, 104, 84)
            for side in ("left", "right"):
                self._line(canvas, s["glass_" + side], frame, 1.7, closed=True)
            self._line(canvas, s["glass_bridge"], frame, 1.7)

    def _develop(self, canvas: np.ndarray, frame: int) -> np.ndarray:
        """From the canvas to a photograph: sample down, blur, colour of the light, noise."""
        photo = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if self.setting.blur > 0.2:
            photo = cv2.GaussianBlur(photo, (0, 0), self.setting.blur)
        photo = cv2.multiply(photo, self.gain, dtype=cv2.CV_32F)
        if self.setting.noise > 0:
            x, y = frame * 37 % self.size, frame * 61 % self.size
            photo = photo + self.grain[y : y + self.size, x : x + self.size]
        return np.clip(photo, 0, 255).astype(np.uint8)


def _paint(color) -> tuple[float, ...]:
    """A colour as OpenCV takes it."""
    return tuple(float(c) for c in np.atleast_1d(color).ravel())


@lru_cache
def _relief(names: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Of each point of shapes laid end to end: depth over the round of the head, and whether the head carries it."""
    depths = {"nose": 9, "nostril": 9, "glass": 4, "slit": -3, "iris": -3, "upper": -3, "lower": -3, "socket": -3}
    kinds = [name.split("_")[0] for name in names]
    return (
        np.repeat([float(depths.get(kind, 0)) for kind in kinds], sizes),
        np.repeat([0.0 if kind in ("body", "neck") else 1.0 for kind in kinds], sizes),
    )


def _project(shapes: Shapes, pose: Pose) -> Shapes:
    """Lift shapes onto the head, turn it and look at it: from the plane of the face to the plane of the picture."""
    sizes = tuple(len(points) for points in shapes.values())
    lift, turning = _relief(tuple(shapes), sizes)
    flat = np.concatenate(list(shapes.values()))
    x, y = flat[:, 0], flat[:, 1]
    depth = 40 * np.sqrt(np.clip(1 - (x / 46) ** 2 - (y / 64) ** 2, 0.04, 1)) + lift
    turn, nod, tilt = np.radians([pose.turn, pose.nod, pose.tilt])
    # The axis of rotation lies inside the head; the face is then centred again, as a face detector would.
    x, depth = x * np.cos(turn) + depth * np.sin(turn), depth * np.cos(turn) - x * np.sin(turn)
    y, depth = y * np.cos(nod) + depth * np.sin(nod), depth * np.cos(nod) - y * np.sin(nod)
    near = 1 + (depth - 26) / 420
    x, y = (x - 26 * np.sin(turn)) * near, (y - 26 * np.sin(nod)) * near
    x, y = x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)
    head = np.stack([x, y], 1)
    points = np.where(turning[:, None] > 0, head, flat + [0.3 * pose.turn, 0]) * pose.scale + [pose.x, pose.y]
    return dict(zip(shapes, np.split(points, np.cumsum(sizes)[:-1]), strict=True))


def _skin_ramp(skin: np.ndarray) -> np.ndarray:
    """Colours (256, 3) of the skin by how much light falls on it; 128 is the skin's own colour."""
    light = np.arange(256)[:, None] / 128
    shadow = skin * np.minimum(light, 1) ** np.array([0.85, 1.1, 1.2])
    glow = np.clip(light - 1, 0, 1) * (np.array([255, 244, 232]) - skin) * 0.75
    return np.clip(shadow + glow, 0, 255).astype(np.uint8)


def _light(setting: Setting, size: int) -> np.ndarray:
    """Gain (size, size, 3) of brightness, colour and direction of the light."""
    warm = 1 + 0.08 * setting.warmth * np.array([1, 0.1, -1])
    across = 1 + 0.22 * setting.light_side * setting.light_contrast * np.linspace(-1, 1, size)
    gain = np.ones((size, 1, 1)) * across[None, :, None] * warm * setting.brightness
    return gain.astype(np.float32)


def _backdrop(setting: Setting, size: int, rng: np.random.Generator) -> np.ndarray:
    """A blurred room: a gradient and a few things out of focus."""
    fade = np.linspace(0, 1, 56)[:, None, None]
    small = np.ones((56, 56, 1)) * ((1 - fade) * setting.backdrop[0] + fade * setting.backdrop[1])
    small = np.ascontiguousarray(small, np.float32)
    for _ in range(rng.integers(0, 6)):
        x, y, w, h = (int(v) for v in rng.uniform([-10, -10, 4, 4], [56, 56, 30, 40]))
        cv2.rectangle(small, (x, y), (x + w, y + h), (rng.uniform(20, 220) * rng.uniform(0.8, 1.2, 3)).tolist(), -1)
    small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.8, 4)))
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR).clip(0, 255).astype(np.uint8)


def _hair_and_body(person: Identity) -> Shapes:
    """Outlines that no action unit moves."""
    w, style = person.head_width, person.hair_style
    s: Shapes = {
        "body": np.array([(-130, 140), (-104, 92), (-60, 74), (-22, 66), (22, 66), (60, 74), (104, 92), (130, 140)]),
        "neck": np.array([(-21 * w, 20), (21 * w, 20), (22 * w, 66), (10, 78), (-10, 78), (-22 * w, 66)]),
    }
    for side, sign in (("left", -1), ("right", 1)):
        ear = np.array([(35, -13), (41, -15), (43, -6), (40, 6), (35, 8)]) * [sign * w, 1]
        s["ear_" + side] = smooth(ear, closed=True)
        corners = np.array([(-10.5, -6), (0, -7.5), (11.5, -6.5), (11.5, 3), (5, 8.5), (-5, 8.5), (-10, 2)])
        s["glass_" + side] = smooth(
            (corners + [17.5 * person.eye_distance, -11 + person.eye_level]) * [sign, 1], closed=True
        )
    s["glass_bridge"] = np.array([(-6.5, -13.5), (0, -15), (6.5, -13.5)]) + [0, person.eye_level]

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
        ends = [np.array([x * w, line - 8 + 0.008 * x * x]) for x in (-28, -20, -11, 0, 11, 20, 28)]
        s["hair_strands"] = np.vstack(
            [origin + (e - origin) * [1, 0] * t**0.7 + (e - origin) * [0, 1] * t**1.8 for e in ends]
        )
    return s
