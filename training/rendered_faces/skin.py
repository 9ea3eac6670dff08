"""Painting the skin of a face: light and shadow of large forms, folds and wrinkles, and the texture of the skin."""

import cv2
import numpy as np

from tgdfer.training.rendered_faces.canvas import ellipse, fill, stroke
from tgdfer.training.rendered_faces.people import Identity
from tgdfer.training.rendered_faces.poses import Pose
from tgdfer.training.rendered_faces.setting import Setting
from tgdfer.training.rendered_faces.shapes import Shapes

Units = dict[str, float]


class SkinPainter:
    """Paints the head of one person in one setting. Everything that does not change between frames is prepared once.

    Args:
        person (`Identity`): The person.
        setting (`Setting`): The setting, of which the light is used.
        size (`int`): Width and height of the canvas in pixels.

    Attributes:
        ramp (`np.ndarray` of shape `(256, 3)`): Colour of the skin for each level of light. 128 is even light.
    """

    def __init__(self, person: Identity, setting: Setting, size: int):
        self.person, self.setting, self.size = person, setting, size
        self.ramp = _skin_ramp(person.skin)
        self.mottle = _mottle(person, size // 2)
        self.across = np.linspace(-1, 1, size // 2, dtype=np.float32)[None, :]

    def paint(self, canvas: np.ndarray, s: Shapes, units: tuple[Units, Units], pose: Pose, light_side: float) -> None:
        """Paints the head into the canvas: large forms, folds and wrinkles, each blurred at its own scale.

        Args:
            canvas (`np.ndarray` of shape `(size, size, 3)`): uint8, changed in place.
            s (`Shapes`): Shapes of the face in the plane of the picture.
            units (`tuple[Units, Units]`): Action units by name, of the left and the right side of the picture.
            pose (`Pose`): Pose of the head, which the texture of the skin follows.
            light_side (`float`): Direction of the light, from -1 (left of the picture) to 1 (right).
        """
        half = self.size // 2
        broad = np.zeros((half // 2, half // 2), np.float32)
        folds = np.zeros((half, half), np.float32)
        fine = np.zeros((half, half), np.uint8)
        self._shade_forms(broad, s, units, light_side)
        for side, sign, au in (("left", -1, units[0]), ("right", 1, units[1])):
            self._shade_folds(folds, s, au, side, sign)
            self._wrinkle_side(fine, s, au, side, sign)
        self._wrinkle(fine, s, units[0])
        shade = cv2.resize(cv2.GaussianBlur(broad, (0, 0), half / 50), (half, half))
        shade = shade + cv2.GaussianBlur(folds, (0, 0), half / 90)
        shade = shade + (132 + light_side * 38 * self.setting.light_contrast * self.across)
        shade = shade + self._mottled(pose, half) - cv2.GaussianBlur(fine, (0, 0), half / 150)
        shade = cv2.convertScaleAbs(np.maximum(shade, 0))
        shade = cv2.resize(shade, (self.size, self.size))
        mask = np.zeros((self.size, self.size), np.uint8)
        fill(mask, s["head"], 255)
        cv2.copyTo(cv2.applyColorMap(shade, self.ramp[:, None]), mask, canvas)

    def _mottled(self, pose: Pose, size: int) -> np.ndarray:
        """Returns the texture of the skin (size, size), moved with the head."""
        place = cv2.getRotationMatrix2D((size / 2, size / 2), -pose.tilt, pose.scale)
        moved = np.array([pose.x + 0.25 * pose.turn, pose.y + 0.25 * pose.nod]) * size / 112
        place = np.column_stack([place[:, :2], place[:, 2] + moved])
        return cv2.warpAffine(self.mottle, place, (size, size), borderMode=cv2.BORDER_REFLECT)

    def _shade_forms(self, shade: np.ndarray, s: Shapes, units: tuple[Units, Units], light_side: float) -> None:
        """Adds light and shadow of large forms, as differences from even skin."""
        au, age = units[0], self.person.age
        stroke(shade, s["head"], -50, 7, closed=True)
        ellipse(shade, np.array([0, -36]) + s["nose_tip"] * 0.2, (19, 9), 14)
        for side, sign, a in (("left", -1, units[0]), ("right", 1, units[1])):
            raised = max(a["AU06"], 0.8 * a["AU12"], 0.6 * a["AU09"])
            far = -16 * sign * light_side * (0.4 + self.setting.light_contrast)
            fill(shade, s["socket_" + side], -22 - 20 * au["AU04"] - 8 * au["AU09"] - 7 * age)
            stroke(shade, s["bridge_" + side], -20 - far, 3.5)
            ellipse(shade, s["cheek_" + side][0] + [sign * 5, 14], (5, 9), -16 - 8 * raised)
            ellipse(shade, s["cheek_" + side][0], (9 - 1.5 * raised, 6), 10 + 34 * raised)
            ellipse(shade, s["corner_" + side][0] + [sign * 5, 4], (4, 6), -10 - 14 * a["AU14"])
        stroke(shade, np.array([[0, -14], [0, 0]]) + s["nose_tip"] - [0, 9], 26, 3)
        ellipse(shade, s["nose_tip"][0] - [0, 0.5], (4, 3.5), 28)
        ellipse(shade, s["nose_base"].mean(0) + [0, 4], (7, 2.2), -30)
        stroke(shade, s["lip_shadow"], -38 - 12 * au["AU28"], 4)
        ellipse(shade, s["chin"][0] + [0, 2], (8, 5), 14 + 14 * au["AU17"])
        # Lips that are pressed together (AU24) or sucked in (AU28) make the skin around them bulge.
        swell = max(0.8 * au["AU24"], au["AU28"])
        if swell > 0:
            middle = s["lip_line"].mean(0)
            ellipse(shade, middle + [0, -5], (11, 2.6), 36 * swell)
            ellipse(shade, middle + [0, 5], (10, 2.6), 32 * swell)
            stroke(shade, s["lip_line"], -34 * au["AU28"], 2.5)
        if self.person.beard == "stubble":
            stroke(shade, s["head"][20:-20], -38, 18)
            ellipse(shade, s["philtrum"][0], (13, 3), -26)

    def _shade_folds(self, shade: np.ndarray, s: Shapes, au: Units, side: str, sign: int) -> None:
        """Adds the folds of one side: a soft valley, deepest in the middle, and light on the bulge next to it."""
        age = self.person.age

        def fold(points: np.ndarray, strength: float, width: float, bulge) -> None:
            if strength < 0.04:
                return
            deep = min(strength, 1.15)
            stroke(shade, points + np.array(bulge), 24 * deep, 1.5 * width)
            stroke(shade, points, -34 * deep, width)
            stroke(shade, points[len(points) // 4 : -(len(points) // 4)], -58 * deep, 0.8 * width)

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
        """Draws a wrinkle as a thin dark line, if it is strong enough to be visible."""
        if strength > 0.04:
            stroke(dark, points, int(min(strength, 1.15) * 74), 0.75 * width)

    def _wrinkle_side(self, dark: np.ndarray, s: Shapes, au: Units, side: str, sign: int) -> None:
        """Draws the wrinkles of one side of the face as thin dark lines."""
        age, wrinkle = self.person.age, self._wrinkle_line
        wrinkle(dark, s["furrow_" + side], 1.05 * au["AU04"] + 0.25 * au["AU09"] + 0.12 * age, 1.3)
        for part in np.split(s["snarl_" + side], 3):
            wrinkle(dark, part, 0.8 * au["AU09"] + 0.1 * au["AU10"], 1.1)
        for part in np.split(s["crow_" + side], 3):
            wrinkle(dark, part, 0.85 * au["AU06"] * (0.6 + 0.4 * age) + 0.25 * max(0.0, age - 0.2))
        cheeks = max(au["AU12"], au["AU10"], 0.9 * au["AU09"])
        wrinkle(dark, s["fold_" + side][1:-4], 0.3 * cheeks + 0.15 * age)
        wrinkle(dark, s["bag_" + side][2:-2], 0.35 * au["AU06"] + 0.2 * au["AU07"] + 0.15 * age)

    def _wrinkle(self, dark: np.ndarray, s: Shapes, au: Units) -> None:
        """Draws the wrinkles of forehead, nose root, chin and lips as thin dark lines."""
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
        for part in np.split(s["root"], 3):
            wrinkle(dark, part, 0.8 * au["AU09"] + 0.3 * au["AU04"] * age, 1.2)
        arc = np.linspace(-1, 1, 9)
        wrinkle(dark, s["chin"][0] + np.stack([7 * arc, -3 + 2 * arc**2], 1), 0.6 * au["AU17"], 1.6)
        if au["AU17"] > 0.1:
            for dx, dy in ((-4, 1), (0, 2.5), (4, 1), (-2, 5), (2, 5)):
                ellipse(dark, s["chin"][0] + [dx, dy], (1.2, 1.0), int(36 * au["AU17"]))
        if au["AU23"] > 0.1:
            for x in (-7.0, -3.5, 0.0, 3.5, 7.0):
                top, low = s["philtrum"][0] + [x, 1.6], s["lip_shadow"].mean(0) + [x, -0.6]
                wrinkle(dark, np.stack([top, top + [0, 2.6]]), 0.55 * au["AU23"])
                wrinkle(dark, np.stack([low, low + [0, 2.2]]), 0.45 * au["AU23"])


def _skin_ramp(skin: np.ndarray) -> np.ndarray:
    """Returns the colour (256, 3) of the skin for each level of light. 128 is even light."""
    light = np.arange(256)[:, None] / 128
    shadow = skin * np.minimum(light, 1) ** np.array([0.85, 1.1, 1.2])
    glow = np.clip(light - 1, 0, 1) * (np.array([255, 244, 232]) - skin) * 0.75
    return np.clip(shadow + glow, 0, 255).astype(np.uint8)


def _mottle(person: Identity, size: int) -> np.ndarray:
    """Returns the skin texture of a person (size, size): spots and unevenness, as differences from even skin."""
    rng = np.random.default_rng(int(1e9 * person.head_width))
    fine, coarse = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    broad = cv2.GaussianBlur(coarse, (0, 0), size / 28)
    spots = cv2.GaussianBlur(fine, (0, 0), size / 168)
    return np.asarray(3.5 * broad / broad.std() + (2 + 1.5 * person.age) * spots / spots.std(), np.float32)
