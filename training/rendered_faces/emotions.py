"""What an emotion does to a face in a clip: EMFACS prototypes, their course in time, and movement without meaning."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, INDEX, action_unit_vector
from tgdfer.training.rendered_faces.draw import Pose
from tgdfer.training.rendered_faces.parameters import RenderedFaces

# Prototypes and major variants (Ekman, Friesen & Hager, 2002, "FACS investigator's guide", and EMFACS).
PROTOTYPES: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "anger": (
        {"AU04": 1.0, "AU05": 0.6, "AU07": 0.8, "AU23": 0.9},
        {"AU04": 1.0, "AU07": 0.8, "AU24": 0.9, "AU17": 0.5},
        {"AU04": 0.9, "AU05": 0.7, "AU07": 0.7, "AU10": 0.4, "AU23": 0.6, "AU25": 0.6},
        {"AU04": 1.0, "AU05": 0.7, "AU07": 0.6, "AU25": 0.7, "AU26": 0.5, "AU23": 0.5},
    ),
    "disgust": (
        {"AU09": 1.0, "AU04": 0.3, "AU07": 0.3},
        {"AU09": 0.9, "AU10": 0.6, "AU25": 0.5},
        {"AU10": 1.0, "AU17": 0.7, "AU07": 0.3},
        {"AU09": 0.9, "AU17": 0.7, "AU15": 0.3},
        {"AU10": 0.9, "AU09": 0.4, "AU25": 0.6, "AU26": 0.3},
    ),
    "fear": (
        {"AU01": 1.0, "AU02": 0.6, "AU04": 0.8, "AU05": 1.0, "AU20": 0.9, "AU25": 0.7},
        {"AU01": 0.9, "AU02": 0.5, "AU04": 0.8, "AU05": 1.0, "AU07": 0.4, "AU20": 0.7, "AU25": 0.8, "AU26": 0.4},
        {"AU01": 1.0, "AU04": 0.9, "AU05": 0.9, "AU20": 0.8},
        {"AU01": 0.9, "AU02": 0.4, "AU04": 0.8, "AU05": 1.0, "AU25": 0.6},
    ),
    "happiness": (
        {"AU06": 0.8, "AU12": 0.9},
        {"AU06": 0.8, "AU12": 1.0, "AU25": 0.8},
        {"AU06": 1.0, "AU12": 1.0, "AU25": 1.0, "AU26": 0.5},
        {"AU12": 0.8, "AU06": 0.4, "AU25": 0.5},
    ),
    "neutral": ({},),
    "sadness": (
        {"AU01": 1.0, "AU04": 0.7, "AU15": 0.9},
        {"AU01": 0.9, "AU04": 0.7, "AU15": 0.7, "AU17": 0.7},
        {"AU01": 1.0, "AU15": 0.9, "AU43": 0.35},
        {"AU01": 0.9, "AU04": 0.8, "AU17": 0.7, "AU43": 0.3},
        {"AU06": 0.6, "AU15": 1.0, "AU01": 0.7},
    ),
    "surprise": (
        {"AU01": 1.0, "AU02": 1.0, "AU05": 0.8, "AU25": 1.0, "AU26": 0.8},
        {"AU01": 0.9, "AU02": 1.0, "AU25": 1.0, "AU26": 1.0},
        {"AU01": 1.0, "AU02": 1.0, "AU05": 0.9, "AU25": 0.7},
        {"AU05": 0.7, "AU01": 0.7, "AU02": 0.7, "AU25": 0.9, "AU26": 0.6},
    ),
}
EMOTIONS = tuple(PROTOTYPES)

# What moves without an emotion, with the strength it has beside the others.
_UNRELATED = (
    {"AU01": 0.7, "AU02": 0.7},
    {"AU02": 0.7},
    {"AU04": 0.6},
    {"AU07": 0.8},
    {"AU10": 0.45},
    {"AU12": 0.4},
    {"AU14": 1.0},
    {"AU17": 0.9},
    {"AU20": 0.5},
    {"AU23": 0.7},
    {"AU24": 1.0},
    {"AU25": 1.0},
    {"AU25": 0.9, "AU26": 0.6},
)


@dataclass(frozen=True)
class Course:
    """The truth about a clip of T frames.

    Attributes:
        label: The emotion.
        intensity: (T,) 0 neutral .. 1 the apex of this clip; all 0 where the label is neutral.
        action_units: (T, A) in the order of `ACTION_UNITS`, everything that moves included.
        poses: T poses of head and eyes.
    """

    label: str
    intensity: np.ndarray
    action_units: np.ndarray
    poses: tuple[Pose, ...]


def apex(label: str, rng: np.random.Generator) -> np.ndarray:
    """Action units (A,) at the apex of one of the emotion's variants, no two alike."""
    variant = PROTOTYPES[label][rng.integers(len(PROTOTYPES[label]))]
    return np.clip(action_unit_vector(variant) * rng.uniform(0.8, 1.15, len(ACTION_UNITS)), 0, 1)


def sample_course(label: str, faces: RenderedFaces, rng: np.random.Generator) -> Course:
    """Draw what happens in a clip.

    Raises:
        KeyError: If the label is not one of `EMOTIONS`.
    """
    frames = int(rng.integers(faces.frames[0], faces.frames[1] + 1))
    units = np.zeros((frames, len(ACTION_UNITS)))
    intensity = np.zeros(frames)
    peak = apex(label, rng) * rng.uniform(*faces.strength)
    if peak.any():
        intensity = _envelope(frames, faces, rng)
        # Not every muscle keeps the same time.
        units += peak * intensity[:, None] ** rng.uniform(0.75, 1.35, len(ACTION_UNITS))
    movements = rng.integers(faces.movements[0], faces.movements[1] + 1) + 2 * (label == "neutral")
    for _ in range(movements):
        unrelated = _UNRELATED[rng.integers(len(_UNRELATED))]
        pulse = _pulse(frames, rng.uniform(0, frames), rng.uniform(4, 14), faces.fps, rng)
        units = np.maximum(units, pulse[:, None] * rng.uniform(*faces.movement) * action_unit_vector(unrelated))
    if rng.uniform() < faces.speech:
        units = np.maximum(units, _speech(frames, faces.fps, rng))
    for _ in range(rng.poisson(faces.blinks * frames / faces.fps)):
        lids = _pulse(frames, rng.uniform(0, frames), rng.uniform(1.5, 3.5), faces.fps, rng)
        units[:, INDEX["AU45"]] = np.maximum(units[:, INDEX["AU45"]], lids)
    return Course(label, intensity, np.clip(units, 0, 1), _sample_poses(frames, faces, rng))


def _envelope(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
    """Onset, apex and offset (T,), anywhere in the clip; they may begin before the clip or outlast it."""
    onset = max(2.0, faces.fps * rng.uniform(*faces.onset))
    offset = max(2.0, faces.fps * rng.uniform(*faces.offset))
    # From half onset to half offset; at least three frames show the emotion.
    strong = max(3.0, frames * rng.uniform(*faces.share))
    # So many begin in the first frame or end in the last one that no position is the better guess.
    where = rng.uniform()
    if where < 0.31:
        start = 0.0
    elif where < 0.62:
        start = frames - strong
    else:
        start = rng.uniform(0, frames - strong)
    t = np.arange(frames)
    rise = np.clip((t - start) / onset + 0.5, 0, 1)
    fall = np.clip((start + strong - 1 - t) / offset + 0.5, 0, 1)
    rise, fall = (ramp**2 * (3 - 2 * ramp) for ramp in (rise, fall))
    both = np.minimum(rise, fall)
    return both / both.max()


def _pulse(frames: int, center: float, width: float, fps: int, rng: np.random.Generator) -> np.ndarray:
    """A single movement (T,) that rises to 1 and falls again; the width is in frames at 25 a second."""
    distance = np.abs(np.arange(frames) - center) / (width * fps / 25)
    return np.clip(1.6 * (1 - distance) * rng.uniform(0.8, 1.2), 0, 1)


def _speech(frames: int, fps: int, rng: np.random.Generator) -> np.ndarray:
    """Lips and jaw (T, A) of somebody who talks for a part of the clip."""
    t = np.arange(frames) / fps
    syllables = 0.5 + 0.5 * np.sin(
        2 * np.pi * (rng.uniform(3, 5.5) * t + 0.6 * np.sin(2 * np.pi * 0.9 * t + rng.uniform(0, 6)))
    )
    talking = _pulse(frames, rng.uniform(0, frames), rng.uniform(8, 30), fps, rng)
    jaw, rounding = rng.uniform(0.15, 0.4), rng.uniform(0, 0.4)
    return (talking * syllables)[:, None] * action_unit_vector({"AU25": 0.8, "AU26": jaw, "AU23": rounding})


def _sample_poses(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> tuple[Pose, ...]:
    """Poses that wander around a mean."""
    t = np.arange(frames)[:, None] / faces.fps
    limits = np.array([faces.turn, faces.nod, faces.tilt, faces.shift, faces.shift, 0.04, 0.5, 0.3])
    mean = limits * rng.uniform(-1, 1, 8) * (1 - faces.restlessness)
    waves = sum(np.sin(2 * np.pi * (rng.uniform(0.1, 0.9, 8) * t + rng.uniform(0, 1, 8))) for _ in range(2)) / 2
    track = mean + limits * faces.restlessness * rng.uniform(0.2, 1, 8) * waves
    track[:, 5] += rng.uniform(*faces.scale)
    return tuple(Pose(*(float(v) for v in row)) for row in track)
