"""Draws a face: flat shapes with anti-aliasing over a skin whose light and creases are painted as soft shade."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, INDEX
from tgdfer.training.rendered_faces.camera import Camera
from tgdfer.training.rendered_faces.occluders import occluder_parts
from tgdfer.training.rendered_faces.parameters import Identity, Occluder, RenderedFaces, Setting
from tgdfer.training.rendered_faces.shapes import Shapes, face_shapes, mirror, smooth

# Sixteenths of a pixel: OpenCV draws from integers.
_SUBPIXEL = 4
_CIRCLE = np.array([(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 24, endpoint=False)])
# Both temples and the chin: where they go, the head goes.
_ANCHORS = np.array([(-30.0, -20.0), (30.0, -20.0), (0.0, 45.0)])

Units = dict[str, float]


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
        # Cameras expose for the face, if not in full.
        exposure = float(150 / person.skin.mean()) ** 0.3
        self.camera = Camera(setting, self.size, faces.fps, exposure, rng)
        self.mottle = _mottle(person, self.canvas_size // 2)
        self.across = np.linspace(-1, 1, self.canvas_size // 2, dtype=np.float32)[None, :]

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
        seconds = frame / self.camera.fps
        light_side = float(np.tanh(3 * self.setting.light_at(seconds)[0]))
        units = _named(left), _named(right)
        canvas = self.backdrop.copy()
        self._paint_behind(canvas, shapes)
        self._paint_skin(canvas, shapes, units, pose, light_side)
        self._paint_hairy(canvas, shapes)
        self._paint_lips(canvas, shapes, units[0])
        self._paint_inside(canvas, shapes, pose, light_side)
        self._paint_lids(canvas, shapes, max(units[0]["AU43"], units[0]["AU45"]))
        self._paint_hair(canvas, shapes)
        if self.setting.occluder is not None:
            self._paint_occluder(canvas, self.setting.occluder, pose, seconds)
        moved = None
        if before is not None:
            anchors = [_project({"anchor": _ANCHORS}, p)["anchor"] for p in (before, pose)]
            moved = (anchors[0] / 112 + 0.5) * self.size, (anchors[1] / 112 + 0.5) * self.size
        return self.camera.develop(canvas, frame, moved)

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
        self._fill(image, center + _CIRCLE * radii, color)

    def _hairs(self, image: np.ndarray, ends: np.ndarray, color, width: float) -> None:
        """Many short lines (N, 2 ends, 2) at once."""
        thickness = max(1, round(width * len(image) / 112))
        lines = list(self._pixels(ends, len(image)))
        cv2.polylines(image, lines, False, _paint(color), thickness, cv2.LINE_AA, _SUBPIXEL)

    def _soften(self, canvas: np.ndarray, points: np.ndarray, width: float) -> None:
        """Blur the part of the canvas around some points; nothing on a face has the edge of a sticker."""
        low, high = self._pixels(np.stack([points.min(0) - 2, points.max(0) + 2]), len(canvas)) >> _SUBPIXEL
        low, high = np.clip(low, 0, len(canvas)), np.clip(high, 0, len(canvas))
        part = canvas[low[1] : high[1], low[0] : high[0]]
        if part.size:
            part[:] = cv2.GaussianBlur(part, (0, 0), width * len(canvas) / 112)

    def _paint_behind(self, canvas: np.ndarray, s: Shapes) -> None:
        if "hair_back" in s:
            self._fill(canvas, s["hair_back"], self.person.hair * 0.72)
        self._fill(canvas, s["body"], self.setting.clothes)
        self._line(canvas, s["body"][2:-2], self.setting.clothes * 0.7, 2.0)
        self._fill(canvas, s["neck"], self.skin[96])
        # The head throws its shadow on the neck.
        self._fill(
            canvas, np.vstack([s["neck"][:2], s["neck"][[2, 5]] * 0.45 + s["neck"][[1, 0]] * 0.55]), self.skin[76]
        )
        for side in ("left", "right"):
            self._fill(canvas, s["ear_" + side], self.skin[110])
            self._fill(canvas, 0.6 * s["ear_" + side] + 0.4 * s["ear_" + side].mean(0), self.skin[84])

    def _paint_skin(
        self, canvas: np.ndarray, s: Shapes, units: tuple[Units, Units], pose: Pose, light_side: float
    ) -> None:
        """The head: light and shadow of large forms, of folds, and of wrinkles, each on its own scale."""
        half = self.canvas_size // 2
        broad = np.zeros((half // 2, half // 2), np.float32)
        folds = np.zeros((half, half), np.float32)
        fine = np.zeros((half, half), np.uint8)
        self._shade_broadly(broad, s, units, light_side)
        for side, sign, au in (("left", -1, units[0]), ("right", 1, units[1])):
            self._fold(folds, s, au, side, sign)
            self._wrinkle_side(fine, s, au, side, sign)
        self._wrinkle(fine, s, units[0])
        shade = cv2.resize(cv2.GaussianBlur(broad, (0, 0), half / 50), (half, half))
        shade = shade + cv2.GaussianBlur(folds, (0, 0), half / 90)
        shade = shade + (132 + light_side * 38 * self.setting.light_contrast * self.across)
        shade = shade + self._mottled(pose, half) - cv2.GaussianBlur(fine, (0, 0), half / 150)
        shade = cv2.convertScaleAbs(np.maximum(shade, 0))
        shade = cv2.resize(shade, (self.canvas_size, self.canvas_size))
        mask = np.zeros((self.canvas_size, self.canvas_size), np.uint8)
        self._fill(mask, s["head"], 255)
        cv2.copyTo(cv2.applyColorMap(shade, self.skin[:, None]), mask, canvas)

    def _mottled(self, pose: Pose, size: int) -> np.ndarray:
        """The unevenness of the skin, which goes with the head."""
        place = cv2.getRotationMatrix2D((size / 2, size / 2), -pose.tilt, pose.scale)
        moved = np.array([pose.x + 0.25 * pose.turn, pose.y + 0.25 * pose.nod]) * size / 112
        place = np.column_stack([place[:, :2], place[:, 2] + moved])
        return cv2.warpAffine(self.mottle, place, (size, size), borderMode=cv2.BORDER_REFLECT)

    def _shade_broadly(self, shade: np.ndarray, s: Shapes, units: tuple[Units, Units], light_side: float) -> None:
        """Light and shadow of the large forms, as differences from the even skin."""
        au, age = units[0], self.person.age
        self._line(shade, s["head"], -50, 7, closed=True)
        self._spot(shade, np.array([0, -36]) + s["nose_tip"] * 0.2, (19, 9), 14)
        for side, sign, a in (("left", -1, units[0]), ("right", 1, units[1])):
            raised = max(a["AU06"], 0.8 * a["AU12"], 0.6 * a["AU09"])
            far = -16 * sign * light_side * (0.4 + self.setting.light_contrast)
            self._fill(shade, s["socket_" + side], -22 - 20 * au["AU04"] - 8 * au["AU09"] - 7 * age)
            self._line(shade, s["bridge_" + side], -20 - far, 3.5)
            self._spot(shade, s["cheek_" + side][0] + [sign * 5, 14], (5, 9), -16 - 8 * raised)
            self._spot(shade, s["cheek_" + side][0], (9 - 1.5 * raised, 6), 10 + 34 * raised)
            self._spot(shade, s["corner_" + side][0] + [sign * 5, 4], (4, 6), -10 - 14 * a["AU14"])
        self._line(shade, np.array([[0, -14], [0, 0]]) + s["nose_tip"] - [0, 9], 26, 3)
        self._spot(shade, s["nose_tip"][0] - [0, 0.5], (4, 3.5), 28)
        self._spot(shade, s["nose_base"].mean(0) + [0, 4], (7, 2.2), -30)
        self._line(shade, s["lip_shadow"], -38 - 12 * au["AU28"], 4)
        self._spot(shade, s["chin"][0] + [0, 2], (8, 5), 14 + 14 * au["AU17"])
        # Lips that are pressed or rolled in swell the skin around them.
        swell = max(0.8 * au["AU24"], au["AU28"])
        if swell > 0:
            middle = s["lip_line"].mean(0)
            self._spot(shade, middle + [0, -5], (11, 2.6), 36 * swell)
            self._spot(shade, middle + [0, 5], (10, 2.6), 32 * swell)
            self._line(shade, s["lip_line"], -34 * au["AU28"], 2.5)
        if self.person.beard == "stubble":
            self._line(shade, s["head"][20:-20], -38, 18)
            self._spot(shade, s["philtrum"][0], (13, 3), -26)

    def _fold(self, shade: np.ndarray, s: Shapes, au: Units, side: str, sign: int) -> None:
        """Folds of flesh: a soft valley with light on the bulge beside it, deepest in the middle."""
        age = self.person.age

        def fold(points: np.ndarray, strength: float, width: float, bulge) -> None:
            if strength < 0.04:
                return
            deep = min(strength, 1.15)
            self._line(shade, points + np.array(bulge), 24 * deep, 1.5 * width)
            self._line(shade, points, -34 * deep, width)
            self._line(shade, points[len(points) // 4 : -(len(points) // 4)], -58 * deep, 0.8 * width)

        cheeks = 0.9 * max(au["AU12"], au["AU10"], 0.9 * au["AU09"]) + 0.2 * max(au["AU06"], au["AU15"], au["AU20"])
        fold(s["fold_" + side], cheeks + 0.1 + 0.35 * age, 2.0, [sign * 2.6, -1.0])
        fold(s["wing_" + side], 0.45 + 0.4 * max(au["AU09"], au["AU10"]), 1.5, [sign * -1.2, 0])
        fold(s["bag_" + side], 0.75 * au["AU06"] + 0.4 * au["AU07"] + 0.1 + 0.4 * age, 1.4, [0, -1.6])
        corner = s["corner_" + side][0]
        hook = corner + np.array([[sign * 1.0, -0.5], [sign * 2.2, 1.5], [sign * 2.8, 4.0], [sign * 2.4, 7.0]])
        fold(hook, 0.9 * au["AU15"] + 0.2 * au["AU17"] + 0.35 * max(0.0, age - 0.4), 1.9, [sign * 2.0, 1.0])
        dimple = corner + np.array([[sign * 1.8, -3.6], [sign * 3.2, -1.5], [sign * 3.3, 1.0], [sign * 2.2, 3.6]])
        fold(dimple, 1.15 * au["AU14"] + 0.4 * au["AU12"] + 0.3 * au["AU20"], 2.0, [sign * 2.2, 0])

    def _wrinkle_line(self, dark: np.ndarray, points: np.ndarray, strength: float, width: float = 1.0) -> None:
        if strength > 0.04:
            self._line(dark, points, int(min(strength, 1.15) * 74), 0.75 * width)

    def _wrinkle_side(self, dark: np.ndarray, s: Shapes, au: Units, side: str, sign: int) -> None:
        """Thin dark lines that action units press into one side of the face."""
        age, wrinkle = self.person.age, self._wrinkle_line
        wrinkle(dark, s["furrow_" + side], 1.05 * au["AU04"] + 0.25 * au["AU09"] + 0.12 * age, 1.3)
        for line in np.split(s["snarl_" + side], 3):
            wrinkle(dark, line, 0.8 * au["AU09"] + 0.1 * au["AU10"], 1.1)
        for line in np.split(s["crow_" + side], 3):
            wrinkle(dark, line, 0.85 * au["AU06"] * (0.6 + 0.4 * age) + 0.25 * max(0.0, age - 0.2))
        cheeks = max(au["AU12"], au["AU10"], 0.9 * au["AU09"])
        wrinkle(dark, s["fold_" + side][1:-4], 0.3 * cheeks + 0.15 * age)
        wrinkle(dark, s["bag_" + side][2:-2], 0.35 * au["AU06"] + 0.2 * au["AU07"] + 0.15 * age)

    def _wrinkle(self, dark: np.ndarray, s: Shapes, au: Units) -> None:
        """Thin dark lines across forehead, nose root, chin and lips."""
        age, wrinkle = self.person.age, self._wrinkle_line
        middle, sides = au["AU01"] * (1 - 0.3 * au["AU04"]), au["AU02"]
        for i in range(3):
            line, deep = s[f"forehead_{i}"], (0.65 + 0.35 * age) * (1 - 0.15 * i)
            n = len(line)
            wrinkle(dark, line, 0.8 * min(middle, sides) * deep + 0.2 * age)
            for part, strength in (
                (line[n // 4 : -(n // 4)], middle),
                (line[: n // 3], sides),
                (line[-n // 3 :], sides),
            ):
                if strength > min(middle, sides):
                    wrinkle(dark, part, 0.8 * strength * deep + 0.2 * age)
        for line in np.split(s["root"], 3):
            wrinkle(dark, line, 0.8 * au["AU09"] + 0.3 * au["AU04"] * age, 1.2)
        arc = np.linspace(-1, 1, 9)
        wrinkle(dark, s["chin"][0] + np.stack([7 * arc, -3 + 2 * arc**2], 1), 0.6 * au["AU17"], 1.6)
        if au["AU17"] > 0.1:
            for dx, dy in ((-4, 1), (0, 2.5), (4, 1), (-2, 5), (2, 5)):
                self._spot(dark, s["chin"][0] + [dx, dy], (1.2, 1.0), int(36 * au["AU17"]))
        if au["AU23"] > 0.1:
            for x in (-7.0, -3.5, 0.0, 3.5, 7.0):
                top, low = s["philtrum"][0] + [x, 1.6], s["lip_shadow"].mean(0) + [x, -0.6]
                wrinkle(dark, np.stack([top, top + [0, 2.6]]), 0.55 * au["AU23"])
                wrinkle(dark, np.stack([low, low + [0, 2.2]]), 0.45 * au["AU23"])

    def _paint_hairy(self, canvas: np.ndarray, s: Shapes) -> None:
        """Brows and beard, with soft edges and single hairs."""
        person = self.person
        if person.beard in ("full", "moustache", "goatee"):
            self._paint_beard(canvas, s)
        root, tone = person.hair * 0.55 + person.skin * 0.2, person.hair * 0.54 + person.skin * 0.08
        for side in ("left", "right"):
            brow = s["brow_" + side]
            self._fill(canvas, brow, root)
            upper, lower = brow[: len(brow) // 2], brow[: len(brow) // 2 - 1 : -1]
            self._hairs(canvas, np.stack([lower[:-3:2], upper[3::2]], 1), tone, 0.5)
            self._soften(canvas, brow, 0.45)

    def _paint_lips(self, canvas: np.ndarray, s: Shapes, au: Units) -> None:
        lips = self.person.lips
        self._fill(canvas, s["lip_upper"], lips * 0.84)
        self._fill(canvas, s["lip_lower"], lips * 0.97)
        plump = float(s["lip_lower"][-13:][:, 1].max() - s["lip_line"][:, 1].max()) / 5
        shine = lips * (1 + 0.14 * min(1.0, max(0.0, plump)))
        self._line(canvas, s["lip_highlight"], np.minimum(shine + 4, 255), 1.0)
        self._soften(canvas, np.vstack([s["lip_upper"], s["lip_lower"]]), 0.55)
        # Lips rolled in leave a shadow between two folds of skin, not a line between two red margins.
        line = (1 - au["AU28"]) * lips * 0.46 + au["AU28"] * self.skin[62].astype(float)
        self._line(canvas, s["lip_line"], line, 0.75 + 0.5 * au["AU24"] + 0.9 * au["AU28"])

    def _paint_inside(self, canvas: np.ndarray, s: Shapes, pose: Pose, light_side: float) -> None:
        """Whatever lies behind lids and lips is painted freely and shows only through the openings."""
        person, inside = self.person, canvas.copy()
        for side in ("left", "right"):
            iris, slit = s["iris_" + side][0], s["slit_" + side]
            self._spot(inside, iris, (14, 9), (188, 176, 170))
            self._spot(inside, iris, (6.5, 5), (220, 214, 208))
            self._soften(inside, slit, 0.7)
            iris = iris + np.array([2.6, 1.3]) * [pose.gaze_x, pose.gaze_y]
            self._spot(inside, iris, (4.5, 4.5), person.iris * 0.5)
            self._spot(inside, iris, (3.8, 3.8), person.iris * 0.9)
            self._spot(inside, iris + [0, 1.2], (2.8, 2.2), np.minimum(person.iris * 1.2, 255))
            self._spot(inside, iris, (1.9, 1.9), (14, 12, 14))
            self._spot(inside, iris + [light_side * 1.3, -1.5], (0.95, 0.95), (250, 250, 250))
            self._line(inside, s["upper_lid_" + side] + [0, 0.8], (96, 80, 76), 1.6)
        self._fill(inside, s["mouth"], (46, 18, 22))
        self._spot(inside, s["tongue"][0], np.maximum(np.abs(s["tongue"][1]), 0.1), (142, 68, 72))
        self._paint_teeth(inside, s)
        openings = np.zeros(canvas.shape[:2], np.uint8)
        for name in ("slit_left", "slit_right", "mouth"):
            self._fill(openings, s[name], 255)
        cv2.copyTo(inside, openings, canvas)

    def _paint_teeth(self, inside: np.ndarray, s: Shapes) -> None:
        """Both rows of teeth, darker towards the corners of the mouth and under the lips."""
        for name, light in (("teeth", 1.0), ("low_teeth", 0.88)):
            row = s[name]
            if np.ptp(row[12::25, 1]) < 0.3:
                continue
            self._fill(inside, row, np.array([186, 174, 160]) * light)
            n = len(row) // 2
            top, bottom = row[:n], row[: n - 1 : -1]
            self._fill(inside, np.vstack([top[6:-6], bottom[6:-6][::-1]]), np.array([224, 217, 204]) * light)
            gaps = np.stack([top, bottom], 1)[[3, 6, 8, 10, 12, 14, 16, 18, 21]]
            self._hairs(inside, gaps, np.array([176, 164, 152]) * light, 0.3)
            self._line(inside, top if name == "teeth" else bottom, (120, 84, 80), 0.7)

    def _paint_lids(self, canvas: np.ndarray, s: Shapes, closed: float) -> None:
        lash = self.person.hair * 0.2 + self.person.skin * 0.1
        for side in ("left", "right"):
            self._spot(canvas, s["nostril_" + side][0], (2.1, 1.15), self.skin[40])
            self._fill(canvas, s["lid_" + side], self.skin[104])
            self._line(canvas, s["crease_" + side], self.skin[68], 0.8)
            self._line(canvas, s["lower_lid_" + side][2:-2], self.skin[80], 0.7)
            self._line(canvas, s["upper_lid_" + side], lash, 1.2 + 0.5 * closed)

    def _paint_beard(self, canvas: np.ndarray, s: Shapes) -> None:
        hair, (left, right) = self.person.hair * 0.8, (s["corner_left"][0], s["corner_right"][0])
        top = s["philtrum"][0] + [0, 1.2]
        ends = [right + [1.5, 3.5], right + [1, -1.5]], [left + [-1, -1.5], left + [-1.5, 3.5]]
        outline = smooth(np.array([*ends[1], top + [0, -0.6], *ends[0], top + [0, 3.4]]), closed=True)
        quarter = len(s["head"]) // 4
        if self.person.beard == "full":
            jaw = s["head"][quarter + 5 : -quarter - 5]
            cheeks = [left + [-9, -2], left + [-1, -1], top, right + [1, -1], right + [9, -2]]
            outline = np.vstack([jaw, smooth(np.array(cheeks))])
        elif self.person.beard == "goatee":
            jaw = s["head"][2 * quarter - 5 : -2 * quarter + 6]
            outline = np.vstack([jaw, left + [-2.5, 3], left + [-2, -1], top, right + [2, -1], right + [2.5, 3]])
        self._fill(canvas, outline, hair)
        low, high = outline.min(0), outline.max(0)
        x = np.linspace(0.15, 0.85, 11)
        starts = low + (high - low) * np.stack([x, np.full(11, 0.62)], 1)
        ends = starts + np.stack([8 * (x - 0.5), np.full(11, 0.22 * (high - low)[1])], 1)
        self._hairs(canvas, np.stack([starts, ends], 1), np.minimum(hair * 1.2 + 8, 255), 0.4)
        self._soften(canvas, outline, 0.6)

    def _paint_occluder(self, canvas: np.ndarray, occluder: Occluder, pose: Pose, seconds: float) -> None:
        """A hand or an object before the face; it goes with the face's place but does not turn with the head."""
        for points, width, stuff, light in occluder_parts(occluder, seconds):
            points = points * pose.scale + [pose.x, pose.y]
            color = self.skin[int(np.clip(128 * light, 0, 255))]
            if stuff == "nail":
                color = 0.8 * color + 0.2 * np.array([255, 225, 220])
            elif stuff == "object":
                color = np.clip(occluder.color * light, 0, 255)
            if width:
                self._line(canvas, points, color, width * pose.scale)
            else:
                self._fill(canvas, points, color)

    def _paint_hair(self, canvas: np.ndarray, s: Shapes) -> None:
        hair = self.person.hair
        if "hair_front" in s:
            self._fill(canvas, s["hair_front"], hair)
            strands = s["hair_strands"].reshape(7, -1, 2)
            self._hairs(canvas, strands, np.minimum(hair * 1.08 + 5, 255), 0.9)
            self._hairs(canvas, 0.5 * (strands[1:] + strands[:-1]), hair * 0.86, 0.9)
        if self.person.glasses:
            frame = (36, 34, 40) if self.person.age < 0.5 else (120, 104, 84)
            for side in ("left", "right"):
                self._line(canvas, s["glass_" + side], frame, 1.7, closed=True)
            self._line(canvas, s["glass_bridge"], frame, 1.7)


def _named(action_units: np.ndarray) -> Units:
    return dict(zip(ACTION_UNITS, action_units.tolist(), strict=True))


def _paint(color) -> tuple[float, ...]:
    """A colour as OpenCV takes it."""
    return tuple(np.atleast_1d(np.asarray(color, float)).tolist())


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


def _mottle(person: Identity, size: int) -> np.ndarray:
    """Spots and unevenness of a person's skin (size, size), as differences from even skin."""
    rng = np.random.default_rng(int(1e9 * person.head_width))
    fine, coarse = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    broad = cv2.GaussianBlur(coarse, (0, 0), size / 28)
    spots = cv2.GaussianBlur(fine, (0, 0), size / 168)
    return np.asarray(3.5 * broad / broad.std() + (2 + 1.5 * person.age) * spots / spots.std(), np.float32)


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
        ends = [
            np.array([x * w, line - (17 if style == "receding" else 8) + 0.008 * x * x])
            for x in (-28, -20, -11, 0, 11, 20, 28)
        ]
        s["hair_strands"] = np.vstack(
            [origin + (e - origin) * [1, 0] * t**0.7 + (e - origin) * [0, 1] * t**1.8 for e in ends]
        )
    return s
