"""Presence of a person: the stretches of a video without a cut and without a sampled frame that lacks the face."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgdfer.processing.frame_sampling_tgdfer import GAP_STEPS, SHORTEST_GAP

# Tolerance for comparing float32 times of results with float64 times.
TOLERANCE = 1e-3
# Seconds that stand for the sampling step of a video with a single sampled frame.
_ONLY_STEP = 1.0


@dataclass(frozen=True)
class Stretch:
    """A stretch of a video in which a person is present.

    Attributes:
        first (`int`): Index of the first frame of the person.
        last (`int`): Index of the last frame of the person.
        start (`float`): Start of the stretch in seconds.
        end (`float`): End of the stretch in seconds.
    """

    first: int
    last: int
    start: float
    end: float


def frame_seconds(person: Mapping[str, Any]) -> np.ndarray:
    """Returns the times (T,) of the frames of a person in seconds."""
    return np.asarray(person["timestamps"], dtype=float)


def stretches(result: Mapping[str, Any], person: Mapping[str, Any]) -> list[Stretch]:
    """Finds the stretches in which a person is present.

    A stretch never crosses a cut. It ends halfway to a sampled frame in which the person is absent, or else at the cut
    or the end of the video, but at most two sampling steps after the last frame. The same applies to its start.

    Args:
        result (`Mapping[str, Any]`): Output of `EmotionTimelinePipeline`.
        person (`Mapping[str, Any]`): One of its people.

    Returns:
        The stretches in chronological order. Each of the T frames of the person is in exactly one of them.
    """
    seconds = frame_seconds(person)
    if not len(seconds):
        return []
    sampled, step = _sampled_seconds(result)
    cuts = np.asarray(result["cuts"], dtype=float)
    places = np.searchsorted(sampled, seconds - TOLERANCE)
    shots = np.searchsorted(cuts - TOLERANCE, seconds, side="right")
    has_gap = np.diff(seconds) > max(SHORTEST_GAP, GAP_STEPS * step)
    borders = np.flatnonzero((np.diff(places) > 1) | (np.diff(shots) > 0) | has_gap) + 1
    found = []
    for part in np.split(np.arange(len(seconds)), borders):
        first, last = int(part[0]), int(part[-1])
        shot = int(shots[first])
        start = _border(sampled, int(places[first]) - 1, seconds[first], -step)
        end = _border(sampled, int(places[last]) + 1, seconds[last], step)
        if shot > 0:
            # A face in the first sampled frame of a shot is present from the cut on.
            shot_start = float(cuts[shot - 1])
            is_first = places[first] == 0 or sampled[places[first] - 1] < cuts[shot - 1] - TOLERANCE
            start = max(shot_start, seconds[first] - 2 * step) if is_first else max(start, shot_start)
        if shot < len(cuts):
            shot_end = float(cuts[shot])
            is_last = places[last] + 1 >= len(sampled) or sampled[places[last] + 1] >= shot_end - TOLERANCE
            end = min(shot_end, seconds[last] + 2 * step) if is_last else min(end, shot_end)
        found.append(Stretch(first, last, max(0.0, start), min(end, video_duration(result))))
    return found


def video_duration(result: Mapping[str, Any]) -> float:
    """Returns the duration of a video in seconds."""
    sampled, step = _sampled_seconds(result)
    return float(result["duration"] or sampled[-1] + step)


def segment_at(person: Mapping[str, Any], second: float) -> Mapping[str, Any] | None:
    """Returns the segment of a person at a time, or None."""
    inside = (
        segment
        for segment in person["segments"]
        if segment["start"] - TOLERANCE <= second < segment["end"] - TOLERANCE
    )
    return next(inside, None)


def _sampled_seconds(result: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """Returns the times (N,) of all sampled frames, and the median step between them."""
    sampled = np.asarray(result["timestamps"], dtype=float)
    return sampled, float(np.median(np.diff(sampled))) if len(sampled) > 1 else _ONLY_STEP


def _border(sampled: np.ndarray, neighbour: int, second: float, step: float) -> float:
    """Returns the start or end of a stretch next to its first or last frame.

    Args:
        sampled: (N,) Times of all sampled frames.
        neighbour: Index of the adjacent sampled frame outside the stretch.
        second: Time of the first or last frame of the stretch.
        step: Sampling step. It is negative for the start.

    Returns:
        The time halfway to the neighbour, or `second + step` if there is no neighbour or if it is far away.
    """
    if 0 <= neighbour < len(sampled) and abs(sampled[neighbour] - second) <= 2 * abs(step):
        return float(sampled[neighbour] + second) / 2
    return float(second) + step
