"""Drawing the frames of a person: flat, anti-aliased shapes over skin that is painted with soft light and shadow."""

import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, INDEX
from tgdfer.training.rendered_faces.camera import Camera
from tgdfer.training.rendered_faces.canvas import ellipse, fill, soften, stroke, strokes
from tgdfer.training.rendered_faces.occluders import occluder_parts
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.people import Identity
from tgdfer.training.rendered_faces.poses import Pose, project
from tgdfer.training.rendered_faces.setting import Occluder, Setting
from tgdfer.training.rendered_faces.shapes import Shapes, face_shapes, fixed_shapes, smooth
from tgdfer.training.rendered_faces.skin import SkinPainter, Units

# Both temples and the chin. They show the motion of the head.
_ANCHORS = np.array([(-30.0, -20.0), (30.0, -20.0), (0.0, 45.0)])
_FRONTAL = Pose()


class FacePainter:
    """Draws one person in one setting. Everything that does not change between frames is prepared once.

    Args:
        person (`Identity`): The person.
        setting (`Setting`): Light, background, camera and occluder.
        faces (`RenderedFaces`): Parameters of the generator, of which size, supersampling and frame rate are used.
    """

    def __init__(self, person: Identity, setting: Setting, faces: RenderedFaces):
        self.person, self.setting, self.size = person, setting, faces.size
        self.canvas_size = faces.size * faces.supersampling
        self.skin_painter = SkinPainter(person, setting, self.canvas_size)
        self.skin = self.skin_painter.ramp
        self.outlines = fixed_shapes(person)
        rng = np.random.default_rng(setting.backdrop_seed)
        self.backdrop = _backdrop(setting, self.canvas_size, rng)
        # Cameras adapt the exposure to the face, but not completely.
        exposure = float(150 / person.skin.mean()) ** 0.3
        self.camera = Camera(setting, self.size, faces.fps, exposure, rng)

    def draw(
        self,
        action_units: np.ndarray,
        pose: Pose = _FRONTAL,
        frame: int = 0,
        before: Pose | None = None,
        side: float = 0.0,
    ) -> np.ndarray:
        """Draws one frame.

        Args:
            action_units (`np.ndarray`): Movement (A,) in the order of `ACTION_UNITS`. The resting face of the person
                is added.
            pose (`Pose`, *optional*, defaults to `_FRONTAL`): Pose of head and eyes. By default frontal.
            frame (`int`, *optional*, defaults to 0): Index of the frame in its clip, which determines the time and the
                pattern of the sensor noise.
            before (`Pose`, *optional*): Pose in the previous frame, for motion blur. By default there is no motion
                blur.
            side (`float`, *optional*, defaults to 0.0): 0 shows AU12 and AU14 on both sides of the mouth, -1 only on
                the left of the picture, 1 only on the right.

        Returns:
            uint8 RGB (size, size, 3).
        """
        left, right = (self._side_units(action_units, gain) for gain in (1 - max(side, 0.0), 1 + min(side, 0.0)))
        shapes = project(face_shapes(self.person, left, right) | self.outlines, pose)
        seconds = frame / self.camera.fps
        light_side = float(np.tanh(3 * self.setting.light_at(seconds)[0]))
        units = _by_name(left), _by_name(right)
        canvas = self.backdrop.copy()
        self._paint_behind(canvas, shapes)
        self.skin_painter.paint(canvas, shapes, units, pose, light_side)
        if self.person.beard in ("full", "moustache", "goatee"):
            self._paint_beard(canvas, shapes)
        self._paint_brows(canvas, shapes)
        self._paint_lips(canvas, shapes, units[0])
        self._paint_inside(canvas, shapes, pose, light_side)
        self._paint_lids(canvas, shapes, max(units[0]["AU43"], units[0]["AU45"]))
        self._paint_hair(canvas, shapes)
        if self.setting.occluder is not None:
            self._paint_occluder(canvas, self.setting.occluder, pose, seconds)
        return self.camera.develop(
            canvas, frame, None if before is None else (self._anchors(before), self._anchors(pose))
        )

    def _side_units(self, action_units: np.ndarray, gain: float) -> np.ndarray:
        """Returns the action units (A,) of one side of the face, including the resting face."""
        units = np.array(action_units, float)
        units[[INDEX["AU12"], INDEX["AU14"]]] *= gain
        return self.person.shown(units)

    def _anchors(self, pose: Pose) -> np.ndarray:
        """Returns three points of the head (3, 2) in pixels of the frame."""
        return (project({"anchor": _ANCHORS}, pose)["anchor"] / 112 + 0.5) * self.size

    def _paint_behind(self, canvas: np.ndarray, s: Shapes) -> None:
        """Paints what is behind the head: hair, clothes, neck and ears."""
        if "hair_back" in s:
            fill(canvas, s["hair_back"], self.person.hair * 0.72)
        fill(canvas, s["body"], self.setting.clothes)
        stroke(canvas, s["body"][2:-2], self.setting.clothes * 0.7, 2.0)
        fill(canvas, s["neck"], self.skin[96])
        # Shadow of the head on the neck.
        fill(canvas, np.vstack([s["neck"][:2], s["neck"][[2, 5]] * 0.45 + s["neck"][[1, 0]] * 0.55]), self.skin[76])
        for side in ("left", "right"):
            fill(canvas, s["ear_" + side], self.skin[110])
            fill(canvas, 0.6 * s["ear_" + side] + 0.4 * s["ear_" + side].mean(0), self.skin[84])

    def _paint_brows(self, canvas: np.ndarray, s: Shapes) -> None:
        """Paints brows with soft edges and individual hairs."""
        person = self.person
        root, tone = person.hair * 0.55 + person.skin * 0.2, person.hair * 0.54 + person.skin * 0.08
        for side in ("left", "right"):
            brow = s["brow_" + side]
            fill(canvas, brow, root)
            upper, lower = brow[: len(brow) // 2], brow[: len(brow) // 2 - 1 : -1]
            strokes(canvas, np.stack([lower[:-3:2], upper[3::2]], 1), tone, 0.5)
            soften(canvas, brow, 0.45)

    def _paint_lips(self, canvas: np.ndarray, s: Shapes, au: Units) -> None:
        """Paints both lips, the highlight of the lower lip and the line between the lips."""
        lips = self.person.lips
        fill(canvas, s["lip_upper"], lips * 0.84)
        fill(canvas, s["lip_lower"], lips * 0.97)
        plump = float(s["lip_lower"][-13:][:, 1].max() - s["lip_line"][:, 1].max()) / 5
        shine = lips * (1 + 0.14 * min(1.0, max(0.0, plump)))
        stroke(canvas, s["lip_highlight"], np.minimum(shine + 4, 255), 1.0)
        soften(canvas, np.vstack([s["lip_upper"], s["lip_lower"]]), 0.55)
        # If the lips are sucked in (AU28), this line is a shadow between two folds of skin.
        line = (1 - au["AU28"]) * lips * 0.46 + au["AU28"] * self.skin[62].astype(float)
        stroke(canvas, s["lip_line"], line, 0.75 + 0.5 * au["AU24"] + 0.9 * au["AU28"])

    def _paint_inside(self, canvas: np.ndarray, s: Shapes, pose: Pose, light_side: float) -> None:
        """Paints eyes, mouth and teeth on a second canvas, and copies it to the openings of lids and lips."""
        person, inside = self.person, canvas.copy()
        for side in ("left", "right"):
            iris, slit = s["iris_" + side][0], s["slit_" + side]
            ellipse(inside, iris, (14, 9), (188, 176, 170))
            ellipse(inside, iris, (6.5, 5), (220, 214, 208))
            soften(inside, slit, 0.7)
            iris = iris + np.array([2.6, 1.3]) * [pose.gaze_x, pose.gaze_y]
            ellipse(inside, iris, (4.5, 4.5), person.iris * 0.5)
            ellipse(inside, iris, (3.8, 3.8), person.iris * 0.9)
            ellipse(inside, iris + [0, 1.2], (2.8, 2.2), np.minimum(person.iris * 1.2, 255))
            ellipse(inside, iris, (1.9, 1.9), (14, 12, 14))
            ellipse(inside, iris + [light_side * 1.3, -1.5], (0.95, 0.95), (250, 250, 250))
            stroke(inside, s["upper_lid_" + side] + [0, 0.8], (96, 80, 76), 1.6)
        fill(inside, s["mouth"], (46, 18, 22))
        ellipse(inside, s["tongue"][0], np.maximum(np.abs(s["tongue"][1]), 0.1), (142, 68, 72))
        self._paint_teeth(inside, s)
        openings = np.zeros(canvas.shape[:2], np.uint8)
        for name in ("slit_left", "slit_right", "mouth"):
            fill(openings, s[name], 255)
        cv2.copyTo(inside, openings, canvas)

    def _paint_teeth(self, inside: np.ndarray, s: Shapes) -> None:
        """Paints both rows of teeth, darker towards the corners of the mouth and under the lips."""
        for name, light in (("teeth", 1.0), ("low_teeth", 0.88)):
            row = s[name]
            if np.ptp(row[12::25, 1]) < 0.3:
                continue
            fill(inside, row, np.array([186, 174, 160]) * light)
            n = len(row) // 2
            top, bottom = row[:n], row[: n - 1 : -1]
            fill(inside, np.vstack([top[6:-6], bottom[6:-6][::-1]]), np.array([224, 217, 204]) * light)
            gaps = np.stack([top, bottom], 1)[[3, 6, 8, 10, 12, 14, 16, 18, 21]]
            strokes(inside, gaps, np.array([176, 164, 152]) * light, 0.3)
            stroke(inside, top if name == "teeth" else bottom, (120, 84, 80), 0.7)

    def _paint_lids(self, canvas: np.ndarray, s: Shapes, closed: float) -> None:
        """Paints the nostrils, and lids and lashes of eyes that are closed by 0 to 1."""
        lash = self.person.hair * 0.2 + self.person.skin * 0.1
        for side in ("left", "right"):
            ellipse(canvas, s["nostril_" + side][0], (2.1, 1.15), self.skin[40])
            fill(canvas, s["lid_" + side], self.skin[104])
            stroke(canvas, s["crease_" + side], self.skin[68], 0.8)
            stroke(canvas, s["lower_lid_" + side][2:-2], self.skin[80], 0.7)
            stroke(canvas, s["upper_lid_" + side], lash, 1.2 + 0.5 * closed)

    def _paint_beard(self, canvas: np.ndarray, s: Shapes) -> None:
        """Paints a moustache, a goatee or a full beard with soft edges and individual hairs."""
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
        fill(canvas, outline, hair)
        low, high = outline.min(0), outline.max(0)
        x = np.linspace(0.15, 0.85, 11)
        starts = low + (high - low) * np.stack([x, np.full(11, 0.62)], 1)
        ends = starts + np.stack([8 * (x - 0.5), np.full(11, 0.22 * (high - low)[1])], 1)
        strokes(canvas, np.stack([starts, ends], 1), np.minimum(hair * 1.2 + 8, 255), 0.4)
        soften(canvas, outline, 0.6)

    def _paint_occluder(self, canvas: np.ndarray, occluder: Occluder, pose: Pose, seconds: float) -> None:
        """Paints a hand or an object in front of the face. It follows the position of the face, not its rotation."""
        for points, width, material, light in occluder_parts(occluder, seconds):
            points = points * pose.scale + [pose.x, pose.y]
            color = self.skin[int(np.clip(128 * light, 0, 255))]
            if material == "nail":
                color = 0.8 * color + 0.2 * np.array([255, 225, 220])
            elif material == "object":
                color = np.clip(occluder.color * light, 0, 255)
            if width:
                stroke(canvas, points, color, width * pose.scale)
            else:
                fill(canvas, points, color)

    def _paint_hair(self, canvas: np.ndarray, s: Shapes) -> None:
        """Paints the hair above the face, and glasses."""
        hair = self.person.hair
        if "hair_front" in s:
            fill(canvas, s["hair_front"], hair)
            strands = s["hair_strands"].reshape(7, -1, 2)
            strokes(canvas, strands, np.minimum(hair * 1.08 + 5, 255), 0.9)
            strokes(canvas, 0.5 * (strands[1:] + strands[:-1]), hair * 0.86, 0.9)
        if self.person.glasses:
            frame = (36, 34, 40) if self.person.age < 0.5 else (120, 104, 84)
            for side in ("left", "right"):
                stroke(canvas, s["glass_" + side], frame, 1.7, closed=True)
            stroke(canvas, s["glass_bridge"], frame, 1.7)


def _by_name(action_units: np.ndarray) -> Units:
    """Converts a vector of action units to a dictionary."""
    return dict(zip(ACTION_UNITS, action_units.tolist(), strict=True))


def _backdrop(setting: Setting, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a blurred room (size, size, 3): a gradient and a few objects out of focus."""
    fade = np.linspace(0, 1, 56)[:, None, None]
    small = np.ones((56, 56, 1)) * ((1 - fade) * setting.backdrop[0] + fade * setting.backdrop[1])
    small = np.ascontiguousarray(small, np.float32)
    for _ in range(rng.integers(0, 6)):
        x, y, w, h = (int(v) for v in rng.uniform([-10, -10, 4, 4], [56, 56, 30, 40]))
        cv2.rectangle(small, (x, y), (x + w, y + h), (rng.uniform(20, 220) * rng.uniform(0.8, 1.2, 3)).tolist(), -1)
    small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.8, 4)))
    return cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR).clip(0, 255).astype(np.uint8)
