"""The setting of a rendered clip: light, background, camera, and what hides part of the face."""

from dataclasses import dataclass

import numpy as np

from tgdfer.training.rendered_faces.parameters import RenderedFaces

OCCLUDERS = ("hand on the chin", "hand on the cheek", "hand on the brow", "cup", "phone", "microphone")


@dataclass(frozen=True)
class Occluder:
    """A hand or an object that hides part of the face for a while.

    Attributes:
        kind (`str`): One of `OCCLUDERS`.
        begin (`float`): Second at which it starts to appear. If negative, it is visible from the first frame on.
        end (`float`): Second at which it has disappeared.
        side (`int`): -1 if it comes from the left of the picture, 1 if it comes from the right.
        place (`np.ndarray` of shape `(2,)`): Offset (x, y) of its tip from the default position, in 112ths of the
            frame.
        angle (`float`): Rotation in degrees.
        size (`float`): Factor around 1.
        color (`np.ndarray` of shape `(3,)`): RGB colour of an object.
    """

    kind: str
    begin: float
    end: float
    side: int
    place: np.ndarray
    angle: float
    size: float
    color: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator, seconds: float) -> "Occluder":
        """Draws a random occluder for a clip of `seconds` seconds. In a still of 0 seconds it is fully visible."""
        begin, lasts = rng.uniform(-0.6, max(0.4, seconds - 0.4)), rng.uniform(0.8, max(1.0, 0.6 * seconds))
        return cls(
            kind=str(rng.choice(OCCLUDERS)),
            begin=float(begin) if seconds else -1.0,
            end=float(begin + lasts) if seconds else 1.0,
            side=int(rng.choice([-1, 1])),
            place=rng.normal(0, 2.0, 2).clip(-4, 4),
            angle=float(rng.uniform(-12, 12)),
            size=float(rng.uniform(0.85, 1.15)),
            color=_muted(rng, 1)[0],
        )

    def presence(self, seconds: float) -> float:
        """Returns how far it has appeared at a time, from 0 (out of sight) to 1 (in its final position)."""
        return float(np.clip(min(seconds - self.begin, self.end - seconds) / 0.35, 0, 1))


@dataclass(frozen=True)
class Setting:
    """Light, background and camera of a clip.

    Attributes:
        light_side (`float`): Direction of the light, from -1 (left of the picture) to 1 (right).
        light_contrast (`float`): Contrast between the lit side and the dark side of the face, from 0 to 1.
        brightness (`float`): Gain of the picture.
        light_side_drift (`float`): Amplitude of the movement of the light within the clip.
        brightness_drift (`float`): Amplitude of the change of brightness within the clip.
        drift_period (`float`): Period of both in seconds.
        warmth (`float`): Colour of the light, from -1 (bluish) to 1 (yellowish).
        backdrop (`np.ndarray` of shape `(2, 3)`): RGB colours of the top and the bottom of the background.
        backdrop_seed (`int`): Seed of the objects in the background.
        clothes (`np.ndarray` of shape `(3,)`): RGB colour of the clothes.
        noise (`float`): Standard deviation of the sensor noise in grey levels.
        blur (`float`): Standard deviation of the lens blur in pixels.
        shutter (`float`): Share of the time between two frames in which the shutter is open.
        crf (`int`): Constant rate factor of the H.264 encoder.
        occluder (`Occluder`, *optional*): Hand or object that hides part of the face, or None.
    """

    light_side: float
    light_contrast: float
    brightness: float
    light_side_drift: float
    brightness_drift: float
    drift_period: float
    warmth: float
    backdrop: np.ndarray
    backdrop_seed: int
    clothes: np.ndarray
    noise: float
    blur: float
    shutter: float
    crf: int
    occluder: Occluder | None

    @classmethod
    def sample(cls, rng: np.random.Generator, faces: RenderedFaces, seconds: float = 0.0) -> "Setting":
        """Draws a random setting for a clip of `seconds` seconds, or for a still of 0 seconds."""
        return cls(
            light_side=float(rng.uniform(-1, 1)),
            light_contrast=float(rng.uniform(0.1, 0.8)),
            brightness=float(rng.uniform(0.75, 1.2)),
            light_side_drift=float(rng.uniform(-1, 1) * faces.light_drift),
            brightness_drift=float(rng.uniform(-0.25, 0.25) * faces.light_drift),
            drift_period=float(rng.uniform(2, 8)),
            warmth=float(rng.uniform(-1, 1)),
            backdrop=_muted(rng, 2),
            backdrop_seed=int(rng.integers(2**31)),
            clothes=_muted(rng, 1)[0],
            noise=float(rng.uniform(*faces.noise)),
            blur=float(max(0.0, rng.uniform(-0.6, 0.7))),
            shutter=float(rng.uniform(*faces.shutter)),
            crf=int(rng.integers(faces.crf[0], faces.crf[1] + 1)),
            occluder=Occluder.sample(rng, seconds) if rng.uniform() < faces.occlusion else None,
        )

    def light_at(self, seconds: float) -> tuple[float, float]:
        """Returns the side of the light (-1 to 1) and the gain of the picture at a time of the clip."""
        swing = float(np.sin(2 * np.pi * seconds / self.drift_period))
        side = float(np.clip(self.light_side + swing * self.light_side_drift, -1, 1))
        return side, self.brightness * (1 + swing * self.brightness_drift)


def _muted(rng: np.random.Generator, colors: int) -> np.ndarray:
    """Draws colours (colors, 3) of rooms and clothes, most of them close to grey."""
    return rng.uniform(25, 225, (colors, 1)) * rng.uniform(0.8, 1.2, (colors, 3)) + rng.uniform(-18, 18, (colors, 3))
