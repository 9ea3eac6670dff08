"""The camera: motion blur, lens blur, side and drift of the light, and sensor noise."""

import cv2
import numpy as np

from tgdfer.training.rendered_faces.setting import Setting


class Camera:
    """Converts painted frames to photographs of one setting.

    Args:
        setting (`Setting`): Light, blur and noise.
        size (`int`): Width and height of a photograph in pixels.
        fps (`int`): Frames per second.
        exposure (`float`): Gain of the picture.
        rng (`np.random.Generator`): Random generator of the sensor noise.
    """

    def __init__(self, setting: Setting, size: int, fps: int, exposure: float, rng: np.random.Generator):
        self.setting, self.size, self.fps = setting, size, fps
        self.grain = (setting.noise * rng.standard_normal((2 * size, 2 * size, 3))).astype(np.float32)
        self.warm = exposure * (1 + 0.08 * setting.warmth * np.array([1, 0.1, -1]))

    def develop(self, canvas: np.ndarray, frame: int, moved: tuple[np.ndarray, np.ndarray] | None) -> np.ndarray:
        """Scales the canvas down and adds motion blur, lens blur, light and noise.

        Args:
            canvas (`np.ndarray` of shape `(S, S, 3)`): uint8 RGB, several times larger than the photograph.
            frame (`int`): Number of the frame in its clip.
            moved (`tuple[np.ndarray, np.ndarray]`, *optional*): Three points of the head (3, 2) in pixels, in the
                previous frame and in this one. None for no motion blur.

        Returns:
            uint8 RGB (size, size, 3).
        """
        photo = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        if moved is not None:
            photo = self._motion_blur(photo, *moved)
        if self.setting.blur > 0.2:
            photo = cv2.GaussianBlur(photo, (0, 0), self.setting.blur)
        side, brightness = self.setting.light_at(frame / self.fps)
        across = 1 + 0.22 * side * self.setting.light_contrast * np.linspace(-1, 1, self.size)
        bright = photo * (brightness * across[:, None] * self.warm).astype(np.float32)
        if self.setting.noise > 0:
            x, y = frame * 37 % self.size, frame * 61 % self.size
            bright = bright + self.grain[y : y + self.size, x : x + self.size]
        return np.clip(bright, 0, 255).astype(np.uint8)

    def _motion_blur(self, photo: np.ndarray, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        """Averages the picture along the path of the head while the shutter is open."""
        path = (before - now) * self.setting.shutter
        steps = min(8, int(np.ceil(np.abs(path).max())))
        if np.abs(path).max() < 0.3:
            return photo
        total = photo.astype(np.float32)
        for i in range(1, steps + 1):
            points = (now + path * i / steps).astype(np.float32)
            affine = cv2.getAffineTransform(now.astype(np.float32), points)
            total = total + cv2.warpAffine(photo, affine, photo.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        return total / np.float32(steps + 1)
