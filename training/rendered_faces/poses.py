"""How head, eyes and camera move in a clip, whatever the face does."""

import numpy as np

from tgdfer.training.rendered_faces.draw import Pose
from tgdfer.training.rendered_faces.parameters import RenderedFaces


def sample_poses(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> tuple[Pose, ...]:
    """Poses that wander around a mean, before a camera in a hand."""
    t = np.arange(frames)[:, None] / faces.fps
    limits = np.array([faces.turn, faces.nod, faces.tilt, faces.shift, faces.shift, 0.04, 0.5, 0.3])
    mean = limits * rng.uniform(-1, 1, 8) * (1 - faces.restlessness)
    waves = sum(np.sin(2 * np.pi * (rng.uniform(0.1, 0.9, 8) * t + rng.uniform(0, 1, 8))) for _ in range(2)) / 2
    track = mean + limits * faces.restlessness * rng.uniform(0.2, 1, 8) * waves
    track[:, 5] += rng.uniform(*faces.scale)
    track[:, 3:5] += _shake(frames, faces, rng)
    return tuple(Pose(*(float(v) for v in row)) for row in track)


def _shake(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
    """Shake (T, 2) of the camera: a hand trembles at up to about ten hertz, so neighbouring frames go together."""
    noise = rng.standard_normal((frames + 2, 2))
    smooth = noise[:-2] + 2 * noise[1:-1] + noise[2:]
    return faces.shake * smooth / 6**0.5
