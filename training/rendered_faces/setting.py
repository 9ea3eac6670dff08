"""The setting of a rendered clip: light, background, camera, and what hides a part of the face."""

from dataclasses import dataclass

import numpy as np

from tgdfer.training.rendered_faces.parameters import RenderedFaces

OCCLUDERS = ("hand on the chin", "hand on the cheek", "hand on the brow", "cup", "phone", "microphone")


@dataclass(frozen=True)
class Occluder:
    """A hand or an object that hides a part of the face for a while.

    Attributes:
        kind: One of `OCCLUDERS`.
        begin: Second at which it starts to appear; if negative, it is visible from the first frame on.
        end: Second at which it has disappeared.
        side: -1 if it comes from the left of the picture, 1 if it comes from the right.
        place: (2,) offset (x, y) of its tip from the usual place, in 112ths of the frame.
        angle: Rotation in degrees.
        size: Factor around 1.
        color: (3,) RGB of an object.
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
        """Draws a random occluder for a clip of `seconds` seconds; in a still of 0 seconds it is fully visible."""
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
        """How far it has appeared at a time: 0 out of sight .. 1 in its place."""
        return float(np.clip(min(seconds - self.begin, self.end - seconds) / 0.35, 0, 1))


@dataclass(frozen=True)
class Setting:
    """Light, background and camera of a clip.

    Attributes:
        light_side: -1 light from the left of the picture .. 1 from the right.
        light_contrast: Contrast between the lit side and the dark side of the face, 0..1.
        brightness: Gain of the picture.
        light_side_drift: Amplitude of the movement of the light within the clip.
        brightness_drift: Amplitude of the change of brightness within the clip.
        drift_period: Period of both in seconds.
        warmth: -1 bluish .. 1 yellowish light.
        backdrop: (2, 3) RGB colours of the top and the bottom of the background.
        backdrop_seed: Seed of the things in the background.
        clothes: (3,) RGB.
        noise: Standard deviation of the sensor noise in grey levels.
        blur: Standard deviation of the lens blur in pixels.
        shutter: Share of the time between two frames in which the shutter is open.
        crf: Constant rate factor of the H.264 encoder.
        occluder: Hand or object that hides a part of the face, or None.
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
        """Side of the light (-1..1) and gain of the picture at a time of the clip."""
        swing = float(np.sin(2 * np.pi * seconds / self.drift_period))
        side = float(np.clip(self.light_side + swing * self.light_side_drift, -1, 1))
        return side, self.brightness * (1 + swing * self.brightness_drift)


def _muted(rng: np.random.Generator, colors: int) -> np.ndarray:
    """Random colours (colors, 3) of rooms and clothes, most of them close to grey."""
    return rng.uniform(25, 225, (colors, 1)) * rng.uniform(0.8, 1.2, (colors, 3)) + rng.uniform(-18, 18, (colors, 3))
