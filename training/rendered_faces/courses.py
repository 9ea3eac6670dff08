"""The course of a clip: what a face does in each frame, with and without an emotion."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, INDEX, action_unit_vector, apex, check_labels
from tgdfer.training.rendered_faces.lookalikes import LOOKALIKES, add_lookalike
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.poses import Pose, sample_poses
from tgdfer.training.rendered_faces.timing import (
    Window,
    blink,
    envelope,
    overlay,
    pulse,
    sample_waves,
    sample_window,
    shortest,
    syllables,
)

# Movements that belong to no emotion, with their relative strengths.
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
    {"AU28": 0.8},
)
# Duration of felt expressions in seconds (Ekman & Friesen, 1982, "Felt, false, and miserable smiles").
_FELT = (0.5, 4.0)


@dataclass(frozen=True)
class Segment:
    """An emotion in a part of a clip, from `start` to `end` in seconds, where it is at half of its apex or more."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Course:
    """The truth about a clip of T frames.

    Attributes:
        label: The emotion, or "" for a long clip, which has several.
        intensity: (T,) 0 neutral .. 1 apex of this clip (in a long clip, of each segment); 0 in a neutral clip.
        action_units: (T, A) all movements in the order of `ACTION_UNITS`, without the resting face.
        poses: T poses of head and eyes.
        side: (T,) -1..1, how much more AU12 and AU14 move on one side; not 0 during contempt.
        segments: Parts in which an emotion is at half of its apex or more.
        lookalike: The one of `LOOKALIKES` that also happens, or "".
    """

    label: str
    intensity: np.ndarray
    action_units: np.ndarray
    poses: tuple[Pose, ...]
    side: np.ndarray
    segments: tuple[Segment, ...] = ()
    lookalike: str = ""


def sample_course(label: str, faces: RenderedFaces, rng: np.random.Generator) -> Course:
    """Draws the course of a clip.

    Args:
        label: One of `PROTOTYPES`.
        faces: Parameters of the generator.
        rng: Random generator.

    Raises:
        ValueError: If the label is not one of `PROTOTYPES`.
    """
    check_labels((label,))
    frames = int(rng.integers(faces.frames[0], faces.frames[1] + 1))
    units = np.zeros((frames, len(ACTION_UNITS)))
    waves = _fitting_waves(frames, faces, rng)
    intensity, lookalike = np.zeros(frames), ""
    one_side = _one_side(label, rng)
    if label == "neutral":
        # In place of an emotion, a neutral clip has a movement that resembles one.
        lookalike = str(rng.choice(list(LOOKALIKES)))
        ring = [replace(wave, start=wave.start - turn, end=wave.end - turn) for wave in waves for turn in (0, frames)]
        add_lookalike(units, lookalike, ring, faces, rng)
    else:
        intensity = envelope(waves, frames)
        peak = apex(label, rng) * rng.uniform(*faces.strength)
        # Muscles do not all move at the same time.
        units += peak * intensity[:, None] ** rng.uniform(0.75, 1.35, len(ACTION_UNITS))
        gap = _longest_gap(intensity)
        if rng.uniform() < faces.lookalikes and gap.end - gap.start >= shortest(faces):
            lookalike = str(rng.choice(list(LOOKALIKES)))
            add_lookalike(units, lookalike, [gap], faces, rng)
    kinds = [1] * int(rng.integers(faces.movements[0], faces.movements[1] + 1))
    # A neutral clip gets another movement of three kinds for every wave, so that it moves as much as the others.
    kinds += [3] * len(waves) * (label == "neutral")
    _add_distractions(units, kinds, rng.uniform() < faces.speech, faces, rng)
    segments = tuple(Segment(label, start / faces.fps, end / faces.fps) for start, end in _runs(intensity >= 0.5))
    poses = sample_poses(frames, faces, rng)
    side = one_side * _shows(intensity)
    return Course(label, intensity, np.clip(units, 0, 1), poses, side, segments, lookalike)


def sample_long_course(
    seconds: float, labels: Sequence[str], faces: RenderedFaces, rng: np.random.Generator
) -> Course:
    """Draws the course of a long clip: several emotions, with a neutral face in between.

    Args:
        seconds: Length of the clip.
        labels: Labels to draw emotions from, with or without "neutral".
        faces: Parameters of the generator. `faces.share` is the share of the clip that the emotions fill together;
            each of them lasts 0.5 to 4 seconds.
        rng: Random generator.

    Raises:
        ValueError: If a label is unknown, no label is an emotion, or the clip is too short for an emotion.
    """
    emotions = check_long(seconds, labels)
    frames = round(seconds * faces.fps)
    units, t = np.zeros((frames, len(ACTION_UNITS))), np.arange(frames)
    intensity, side = np.zeros((2, frames))
    segments, rest = [], 0
    for window in _episodes(frames, faces, rng):
        label = emotions[rng.integers(len(emotions))]
        begin, end = int(window.start - window.onset), int(window.end + window.offset) + 2
        part = slice(max(0, begin), min(frames, end))
        curve = window.curve(t[part]) / window.height
        peak = apex(label, rng) * rng.uniform(*faces.strength)
        moved = peak * curve[:, None] ** rng.uniform(0.75, 1.35, len(ACTION_UNITS))
        # An emotion may begin before the previous one has ended.
        side[part] = np.where(curve >= intensity[part], _one_side(label, rng) * _shows(curve), side[part])
        np.maximum(intensity[part], curve, out=intensity[part])
        np.maximum(units[part], moved, out=units[part])
        segments.append(Segment(label, window.start / faces.fps, window.end / faces.fps))
        gap = _middle(rest, begin)
        if gap.end - gap.start >= shortest(faces) and rng.uniform() < faces.lookalikes:
            add_lookalike(units, str(rng.choice(list(LOOKALIKES))), [gap], faces, rng)
        rest = end
    # As many unrelated movements as in neutral clips of the usual length.
    clips = frames / np.mean(faces.frames)
    kinds = [1] * rng.poisson(clips * np.mean(faces.movements)) + [3] * rng.poisson(3 * clips)
    _add_distractions(units, kinds, rng.poisson(clips * faces.speech), faces, rng)
    poses = sample_poses(frames, faces, rng)
    return Course("", intensity, np.clip(units, 0, 1), poses, side, tuple(segments))


def check_long(seconds: float, labels: Sequence[str]) -> tuple[str, ...]:
    """Checks length and labels of a long clip, and returns the labels without "neutral".

    Raises:
        ValueError: As in `sample_long_course`.
    """
    check_labels(tuple(labels))
    emotions = tuple(label for label in labels if label != "neutral")
    if not emotions:
        raise ValueError("a long clip shows emotions: name at least one label beside neutral.")
    if not 2 <= seconds < np.inf:
        raise ValueError(f"length is {seconds:g} seconds, but must be at least 2, for an emotion and a rest.")
    return emotions


def _episodes(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> Iterator[Window]:
    """Draws the windows of a long clip from its beginning to its end, with rests in between; at least one."""
    ramps = (sum(faces.onset) + sum(faces.offset)) / 4
    position = 0.0
    while True:
        felt = min(rng.uniform(*_FELT), frames / faces.fps / 4)
        strong = faces.fps * max(felt / 2, felt - ramps)
        rest = strong * (1 / rng.uniform(*faces.share) - 1)
        # The first rest may begin before the clip.
        position += rest if position else min(rng.uniform() * rest, frames / 2) + strong
        if position + 2 * strong > frames:
            return
        yield sample_window(position, position + strong, faces, rng)
        position += strong


def _one_side(label: str, rng: np.random.Generator) -> float:
    """Draws the side of an expression: contempt moves almost only one side of the face, other emotions move both."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.7, 1)) if label == "contempt" else 0.0


def _shows(intensity: np.ndarray) -> np.ndarray:
    """Weight (T,) of the side of an emotion; it grows from 0, so that the corners of the mouth do not jump."""
    return np.minimum(5 * intensity, 1)


def _fitting_waves(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> list[Window]:
    """Draws waves whose share of frames above half of the apex is in the range of `faces.share`."""
    for _ in range(50):
        waves = sample_waves(frames, faces, rng)
        share = (envelope(waves, frames) >= 0.5).mean()
        # The number of frames is a whole number.
        if faces.share[0] - 0.5 / frames <= share <= faces.share[1] + 0.5 / frames:
            break
    # If none fits, for example if a short clip should show a tenth of a slow smile, the last draw is used.
    return waves


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Start and end (exclusive) of every run of true flags (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _middle(start: float, end: float) -> Window:
    """The middle of a rest, with room before and after it for the onset and the offset of a movement."""
    room = 0.2 * (end - start)
    return Window(start + room, max(start + room, end - room), 1, 1)


def _longest_gap(intensity: np.ndarray) -> Window:
    """The middle of the longest period without an emotion."""
    return _middle(*max(_runs(intensity < 0.5), key=lambda run: run[1] - run[0], default=(0, 0)))


def _add_distractions(
    units: np.ndarray, movements: Sequence[int], speeches: int, faces: RenderedFaces, rng: np.random.Generator
) -> None:
    """Adds unrelated movements, speech and blinks to the action units of a clip.

    Args:
        units: Action units (T, A) of the clip, changed in place.
        movements: For each movement, how many of `_UNRELATED` are combined in it.
        speeches: Number of periods of speech.
        faces: Parameters of the generator.
        rng: Random generator.
    """
    frames, fps = len(units), faces.fps
    for kinds in movements:
        together = [action_unit_vector(_UNRELATED[i]) for i in rng.integers(len(_UNRELATED), size=kinds)]
        vector = np.max(together, axis=0) * rng.uniform(*faces.movement)
        curve = pulse(*(fps * rng.uniform([0.12, 0.0, 0.12], [0.5, 0.5, 0.5])))
        overlay(units, int(rng.uniform(0, frames) - len(curve) / 2), curve, vector)
    for _ in range(speeches):
        talking = pulse(0.15 * fps, fps * rng.uniform(0.4, 2), 0.15 * fps)
        mouth = {"AU25": 0.8, "AU26": rng.uniform(0.15, 0.4), "AU23": rng.uniform(0, 0.4)}
        talking *= syllables(len(talking), fps, rng)
        overlay(units, int(rng.uniform(0, frames) - len(talking) / 2), talking, action_unit_vector(mouth))
    lids = np.arange(len(ACTION_UNITS)) == INDEX["AU45"]
    for _ in range(rng.poisson(faces.blinks * frames / fps)):
        overlay(units, int(rng.integers(-4, frames)), blink(fps, rng), lids)
