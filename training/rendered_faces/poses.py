"""Poses of the head: what a pose is, how poses change within a clip, and how shapes are projected with a pose."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.shapes import Shapes


@dataclass(frozen=True)
class Pose:
    """Pose of the head and direction of the gaze in one frame.

    Attributes:
        turn (`float`, *optional*, defaults to 0.0): Rotation to the right of the picture in degrees (yaw).
        nod (`float`, *optional*, defaults to 0.0): Rotation down in degrees (pitch).
        tilt (`float`, *optional*, defaults to 0.0): Clockwise rotation in the plane of the picture in degrees (roll).
        x (`float`, *optional*, defaults to 0.0): Shift to the right in 112ths of the frame.
        y (`float`, *optional*, defaults to 0.0): Shift down in 112ths of the frame.
        scale (`float`, *optional*, defaults to 1.0): Size of the face as a factor.
        gaze_x (`float`, *optional*, defaults to 0.0): Gaze from -1 (left) to 1 (right).
        gaze_y (`float`, *optional*, defaults to 0.0): Gaze from -1 (up) to 1 (down).
    """

    turn: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


def sample_poses(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> tuple[Pose, ...]:
    """Draws the poses of a clip. They drift around a mean, and the hand-held camera shakes."""
    t = np.arange(frames)[:, None] / faces.fps
    limits = np.array([faces.turn, faces.nod, faces.tilt, faces.shift, faces.shift, 0.04, 0.5, 0.3])
    mean = limits * rng.uniform(-1, 1, 8) * (1 - faces.restlessness)
    waves = sum(np.sin(2 * np.pi * (rng.uniform(0.1, 0.9, 8) * t + rng.uniform(0, 1, 8))) for _ in range(2)) / 2
    track = mean + limits * faces.restlessness * rng.uniform(0.2, 1, 8) * waves
    track[:, 5] += rng.uniform(*faces.scale)
    track[:, 3:5] += _shake(frames, faces, rng)
    return tuple(Pose(*row) for row in track.tolist())


def _shake(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
    """Draws the camera shake (T, 2). Hands tremble at up to about 10 Hz, so consecutive frames are correlated."""
    noise = rng.standard_normal((frames + 2, 2))
    smooth = noise[:-2] + 2 * noise[1:-1] + noise[2:]
    return faces.shake * smooth / 6**0.5


def project(shapes: Shapes, pose: Pose) -> Shapes:
    """Projects shapes from the plane of the face to the plane of the picture.

    Args:
        shapes (`Shapes`): Points (N, 2) of each part in the plane of the face.
        pose (`Pose`): Pose of the head. Body and neck follow its position and, slightly, its rotation.

    Returns:
        Points (N, 2) of each part in 112ths of the frame, with the origin in its middle.
    """
    sizes = tuple(len(points) for points in shapes.values())
    lift, turning = _relief(tuple(shapes), sizes)
    flat = np.concatenate(list(shapes.values()))
    x, y = flat[:, 0], flat[:, 1]
    depth = 40 * np.sqrt(np.clip(1 - (x / 46) ** 2 - (y / 64) ** 2, 0.04, 1)) + lift
    turn, nod, tilt = np.radians([pose.turn, pose.nod, pose.tilt])
    # The axis of rotation is inside the head. Afterwards the face is centred again, as face detectors do.
    x, depth = x * np.cos(turn) + depth * np.sin(turn), depth * np.cos(turn) - x * np.sin(turn)
    y, depth = y * np.cos(nod) + depth * np.sin(nod), depth * np.cos(nod) - y * np.sin(nod)
    near = 1 + (depth - 26) / 420
    x, y = (x - 26 * np.sin(turn)) * near, (y - 26 * np.sin(nod)) * near
    x, y = x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)
    head = np.stack([x, y], 1)
    points = np.where(turning[:, None] > 0, head, flat + [0.3 * pose.turn, 0]) * pose.scale + [pose.x, pose.y]
    return dict(zip(shapes, np.split(points, np.cumsum(sizes)[:-1]), strict=True))


@lru_cache
def _relief(names: tuple[str, ...], sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for the points of all shapes, the depth above the surface of the head and whether they move with it."""
    depths = {"nose": 9, "nostril": 9, "glass": 4, "slit": -3, "iris": -3, "upper": -3, "lower": -3, "socket": -3}
    kinds = [name.split("_")[0] for name in names]
    return (
        np.repeat([float(depths.get(kind, 0)) for kind in kinds], sizes),
        np.repeat([0.0 if kind in ("body", "neck") else 1.0 for kind in kinds], sizes),
    )
