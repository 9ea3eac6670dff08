"""When a person is in the picture: stretches of a video with no cut and no sampled frame that lacks the face."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# Times that differ by less are equal: results of float32 are compared with times of float64.
TOLERANCE = 1e-3
# Neighbouring frames of a person belong to two stretches if they are so many steps, and so many seconds, apart.
_STEPS, _SECONDS = 3.0, 1.0


@dataclass(frozen=True)
class Stretch:
    """A stretch of a video in which a person is present.

    Attributes:
        first: Index of the first frame of the person.
        last: Index of the last frame of the person.
        start: Second at which the stretch begins.
        end: Second at which the stretch ends.
    """

    first: int
    last: int
    start: float
    end: float


def frame_seconds(person: Mapping[str, Any]) -> np.ndarray:
    """Seconds (T,) of the frames of a person, or their numbers where the times are unknown."""
    if person["timestamps"] is None:
        return np.arange(len(person["frame_relevance"]), dtype=float)
    return np.asarray(person["timestamps"], dtype=float)


def stretches(result: Mapping[str, Any], person: Mapping[str, Any]) -> list[Stretch]:
    """Finds the stretches in which a person is present.

    A stretch never crosses a cut. It reaches halfway to a sampled frame in which the person is absent, and otherwise
    to the cut or the end of the video, but no further than two steps between sampled frames.

    Args:
        result: Output of `EmotionTimelinePipeline`.
        person: One of its people.

    Returns:
        Stretches in order of time; together they hold each of the T frames of the person once.
    """
    seconds = frame_seconds(person)
    if not len(seconds):
        return []
    if person["timestamps"] is None or result["timestamps"] is None:
        return [Stretch(0, len(seconds) - 1, seconds[0] - 0.5, seconds[-1] + 0.5)]
    every = np.asarray(result["timestamps"], dtype=float)
    usual = float(np.median(np.diff(every))) if len(every) > 1 else _SECONDS
    cuts = np.asarray(result["cuts"], dtype=float)
    places = np.searchsorted(every, seconds - TOLERANCE)
    shots = np.searchsorted(cuts - TOLERANCE, seconds, side="right")
    apart = np.diff(seconds) > max(_SECONDS, _STEPS * usual)
    borders = np.flatnonzero((np.diff(places) > 1) | (np.diff(shots) > 0) | apart) + 1
    found = []
    for part in np.split(np.arange(len(seconds)), borders):
        first, last = int(part[0]), int(part[-1])
        shot = int(shots[first])
        start = _border(every, int(places[first]) - 1, seconds[first], -usual)
        end = _border(every, int(places[last]) + 1, seconds[last], usual)
        if shot > 0:
            # A face that is in the first sampled frame of a shot is there from the cut on.
            begins, opens = (
                float(cuts[shot - 1]),
                places[first] == 0 or every[places[first] - 1] < cuts[shot - 1] - TOLERANCE,
            )
            start = max(begins, seconds[first] - 2 * usual) if opens else max(start, begins)
        if shot < len(cuts):
            stops = float(cuts[shot])
            closes = places[last] + 1 >= len(every) or every[places[last] + 1] >= stops - TOLERANCE
            end = min(stops, seconds[last] + 2 * usual) if closes else min(end, stops)
        found.append(Stretch(first, last, max(0.0, start), min(end, _length(result, every, usual))))
    return found


def length_of(result: Mapping[str, Any]) -> float:
    """Length of a video in seconds, or the number of its frames where the times are unknown."""
    if result["timestamps"] is None:
        return float(max(len(person["frame_relevance"]) for person in result["people"]))
    every = np.asarray(result["timestamps"], dtype=float)
    return _length(result, every, float(np.median(np.diff(every))) if len(every) > 1 else _SECONDS)


def segment_at(person: Mapping[str, Any], second: float) -> Mapping[str, Any] | None:
    """The segment of a person at a time, or None."""
    inside = (one for one in person["segments"] if one["start"] - TOLERANCE <= second < one["end"] - TOLERANCE)
    return next(inside, None)


def _border(every: np.ndarray, neighbour: int, second: float, step: float) -> float:
    """Halfway to a sampled frame without the person; `step` away at the end of the video or far from such a frame."""
    if 0 <= neighbour < len(every) and abs(every[neighbour] - second) <= 2 * abs(step):
        return float(every[neighbour] + second) / 2
    return float(second) + step


def _length(result: Mapping[str, Any], every: np.ndarray, usual: float) -> float:
    return float(result["duration"] or every[-1] + usual)
