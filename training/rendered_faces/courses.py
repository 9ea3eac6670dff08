"""The course of a clip: what a face does in each frame."""

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
    shortest_expression,
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
    """An emotion in a part of a clip, from `start` to `end` in seconds, in which it reaches half of its apex."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Course:
    """The ground truth of a clip of T frames.

    Attributes:
        label (`str`): The emotion, or "" for a long clip, which has several.
        intensity (`np.ndarray` of shape `(T,)`): From 0 (neutral) to 1 (apex of this clip, or of each segment of a
            long clip). 0 in a neutral clip.
        action_units (`np.ndarray` of shape `(T, A)`): All movements in the order of `ACTION_UNITS`, without the
            resting face.
        poses (`tuple[Pose, ...]`): Pose of head and eyes in each frame.
        side (`np.ndarray` of shape `(T,)`): How much more AU12 and AU14 move on one side, from -1 to 1. Only contempt
            has a side.
        segments (`tuple[Segment, ...]`, *optional*, defaults to `()`): Parts of the clip in which an emotion reaches
            half of its apex.
        lookalike (`str`, *optional*, defaults to `""`): Movement of `LOOKALIKES` that also happens, or "".
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
        label (`str`): One of `PROTOTYPES`.
        faces (`RenderedFaces`): Parameters of the generator.
        rng (`np.random.Generator`): Random generator.

    Raises:
        ValueError: If the label is not one of `PROTOTYPES`.
    """
    check_labels((label,))
    frames = int(rng.integers(faces.frames[0], faces.frames[1] + 1))
    units = np.zeros((frames, len(ACTION_UNITS)))
    waves = _fitting_waves(frames, faces, rng)
    intensity, lookalike = np.zeros(frames), ""
    expression_side = _sample_side(label, rng)
    if label == "neutral":
        # Instead of an emotion, a neutral clip has a movement that resembles one.
        lookalike = str(rng.choice(list(LOOKALIKES)))
        ring = [replace(wave, start=wave.start - turn, end=wave.end - turn) for wave in waves for turn in (0, frames)]
        add_lookalike(units, lookalike, ring, faces, rng)
    else:
        intensity = envelope(waves, frames)
        peak = apex(label, rng) * rng.uniform(*faces.strength)
        # Muscles do not all move at the same time.
        units += peak * intensity[:, None] ** rng.uniform(0.75, 1.35, len(ACTION_UNITS))
        gap = _longest_gap(intensity)
        if rng.uniform() < faces.lookalikes and gap.end - gap.start >= shortest_expression(faces):
            lookalike = str(rng.choice(list(LOOKALIKES)))
            add_lookalike(units, lookalike, [gap], faces, rng)
    kinds = [1] * int(rng.integers(faces.movements[0], faces.movements[1] + 1))
    # A neutral clip has an additional movement of three kinds for every wave, so that all clips move equally.
    kinds += [3] * len(waves) * (label == "neutral")
    _add_distractions(units, kinds, rng.uniform() < faces.speech, faces, rng)
    segments = tuple(Segment(label, start / faces.fps, end / faces.fps) for start, end in _runs(intensity >= 0.5))
    poses = sample_poses(frames, faces, rng)
    side = expression_side * _side_weight(intensity)
    return Course(label, intensity, np.clip(units, 0, 1), poses, side, segments, lookalike)


def sample_long_course(
    seconds: float, labels: Sequence[str], faces: RenderedFaces, rng: np.random.Generator
) -> Course:
    """Draws the course of a long clip: several emotions, with a neutral face in between.

    Args:
        seconds (`float`): Length of the clip.
        labels (`Sequence[str]`): Labels to draw emotions from, with or without "neutral".
        faces (`RenderedFaces`): Parameters of the generator. The emotions fill the share `faces.share` of the clip.
            Each of them lasts 0.5 to 4 seconds.
        rng (`np.random.Generator`): Random generator.

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
        side[part] = np.where(curve >= intensity[part], _sample_side(label, rng) * _side_weight(curve), side[part])
        np.maximum(intensity[part], curve, out=intensity[part])
        np.maximum(units[part], moved, out=units[part])
        segments.append(Segment(label, window.start / faces.fps, window.end / faces.fps))
        gap = _middle(rest, begin)
        if gap.end - gap.start >= shortest_expression(faces) and rng.uniform() < faces.lookalikes:
            add_lookalike(units, str(rng.choice(list(LOOKALIKES))), [gap], faces, rng)
        rest = end
    # The number of unrelated movements is that of neutral clips with the same total duration.
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
        raise ValueError("a long clip shows emotions: name at least one label in addition to neutral.")
    if not 2 <= seconds < np.inf:
        raise ValueError(f"length is {seconds:g} seconds, but must be at least 2, for an emotion and a rest.")
    return emotions


def _episodes(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> Iterator[Window]:
    """Yields random windows of a long clip in chronological order, with rests in between. There is at least one."""
    ramps = (sum(faces.onset) + sum(faces.offset)) / 4
    position = 0.0
    while True:
        duration = min(rng.uniform(*_FELT), frames / faces.fps / 4)
        above_half = faces.fps * max(duration / 2, duration - ramps)
        rest = above_half * (1 / rng.uniform(*faces.share) - 1)
        # The first rest may begin before the clip.
        position += rest if position else min(rng.uniform() * rest, frames / 2) + above_half
        if position + 2 * above_half > frames:
            return
        yield sample_window(position, position + above_half, faces, rng)
        position += above_half


def _sample_side(label: str, rng: np.random.Generator) -> float:
    """Draws the side of an expression. Contempt moves almost only one side of the face, other emotions move both."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.7, 1)) if label == "contempt" else 0.0


def _side_weight(intensity: np.ndarray) -> np.ndarray:
    """Returns the weight (T,) of the side. It grows from 0, so that the corners of the mouth do not jump."""
    return np.minimum(5 * intensity, 1)


def _fitting_waves(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> list[Window]:
    """Draws waves whose share of frames above half of the apex is in the range of `faces.share`."""
    for _ in range(50):
        waves = sample_waves(frames, faces, rng)
        share = (envelope(waves, frames) >= 0.5).mean()
        # The tolerance allows for the number of frames being an integer.
        if faces.share[0] - 0.5 / frames <= share <= faces.share[1] + 0.5 / frames:
            break
    # If no draw fits, the last one is used. For example, a short clip cannot show only a tenth of a slow smile.
    return waves


def _runs(flags: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields start and end (exclusive) of every run of true flags (T,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _middle(start: float, end: float) -> Window:
    """Returns the middle of a rest, with room for the onset and the offset of a movement."""
    room = 0.2 * (end - start)
    return Window(start + room, max(start + room, end - room), 1, 1)


def _longest_gap(intensity: np.ndarray) -> Window:
    """Returns the middle of the longest period without an emotion."""
    return _middle(*max(_runs(intensity < 0.5), key=lambda run: run[1] - run[0], default=(0, 0)))


def _add_distractions(
    units: np.ndarray, movements: Sequence[int], speeches: int, faces: RenderedFaces, rng: np.random.Generator
) -> None:
    """Adds unrelated movements, speech and blinks to the action units of a clip.

    Args:
        units: Action units (T, A) of the clip, changed in place.
        movements: Number of `_UNRELATED` movements that are combined in each movement.
        speeches: Number of periods of speech.
        faces: Parameters of the generator.
        rng: Random generator.
    """
    frames, fps = len(units), faces.fps
    for kinds in movements:
        combined = [action_unit_vector(_UNRELATED[i]) for i in rng.integers(len(_UNRELATED), size=kinds)]
        vector = np.max(combined, axis=0) * rng.uniform(*faces.movement)
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
