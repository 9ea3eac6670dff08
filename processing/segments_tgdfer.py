"""Segments of a video: which emotion a person shows from when to when, from the curves over the frames."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .explanation_tgdfer import UNSURE
from .video_reading_tgdfer import find_gaps

# The label of a face at rest.
AT_REST = "neutral"
# Seconds that a segment lasts at least, if the person is there for as long; felt expressions mostly last longer.
SHORTEST = 0.3


@dataclass(frozen=True)
class Hysteresis:
    """When a curve makes a segment: it must rise to `high`, and lasts as long as it stays above `low`.

    The defaults are those with the highest mean average precision on rendered videos (docs/results/long_videos.md).

    Attributes:
        high: probability that starts a segment.
        low: probability below which it ends.
        shortest: seconds that it lasts at least; felt expressions mostly last half a second and more.
    """

    high: float = 0.5
    low: float = 0.3
    shortest: float = 0.3

    def __post_init__(self):
        if not 0 < self.low <= self.high <= 1 or self.shortest < 0:
            raise ValueError(
                f"Segments need 0 < low <= high <= 1 and shortest >= 0, not {self.low}, {self.high} and "
                f"{self.shortest}."
            )


# Moments: every moment of a person has a label


@dataclass(frozen=True)
class Presence:
    """When a person is there, in T of the N sampled frames of a video.

    Attributes:
        places: (T,) which of the sampled frames, increasing.
        edges: (N + 1,) seconds between which each sampled frame stands for its moment.
        cuts: places among the sampled frames with which a new shot begins.
        seconds: (N,) times of the sampled frames, by which gaps in the video are known; None where there are none.
    """

    places: np.ndarray
    edges: np.ndarray
    cuts: Sequence[int] = ()
    seconds: np.ndarray | None = None

    def stretches(self) -> list[slice]:
        """The frames in which the person is there without a gap and a cut, as slices of the T frames."""
        shots = np.searchsorted(np.asarray(self.cuts), self.places, side="right")
        pieces = np.searchsorted(self._gaps, self.places, side="right")
        new = (np.diff(self.places) > 1) | (np.diff(shots) > 0) | (np.diff(pieces) > 0)
        borders = [0, *(np.flatnonzero(new) + 1).tolist(), len(self.places)]
        return [slice(start, stop) for start, stop in zip(borders, borders[1:], strict=False)]

    def span(self, first: int, last: int) -> tuple[float, float]:
        """Seconds from the start of one of the T frames to the end of another, half a step from those at a gap."""
        start, end = self.places[first], self.places[last]
        times = [float(self.edges[start]), float(self.edges[end + 1])]
        if self.seconds is not None:
            half = float(np.median(np.diff(self.seconds))) / 2 if len(self.seconds) > 1 else 0.0
            if self.is_after_gap(start):
                times[0] = float(self.seconds[start]) - half
            if self.is_after_gap(end + 1):
                times[1] = float(self.seconds[end]) + half
        return times[0], times[1]

    def is_after_gap(self, place: int) -> bool:
        """Whether there is a gap before one of the N sampled frames."""
        return place in self._gaps

    @cached_property
    def _gaps(self) -> np.ndarray:
        """Places among the sampled frames that come after a gap."""
        return np.zeros(0, int) if self.seconds is None else np.flatnonzero(find_gaps(self.seconds)) + 1


def find_moments(
    scores: np.ndarray, names: Sequence[str], presence: Presence, unsure_below: float | None = None
) -> list[dict[str, Any]]:
    """Labels every moment of a person, and joins moments of one label to segments.

    A frame has the class that is more probable than all others together, and is unsure where there is none. What is
    shorter than `SHORTEST` goes to the more probable label beside it. A model that is never unsure gives each frame
    its most probable class.

    Args:
        scores: (T, K) probabilities of the classes in the frames of the person.
        names: of the K classes.
        presence: when the person is there.
        unsure_below: mean probability below which a segment is "unsure"; None for never.

    Returns:
        Segments in the order of time, which never overlap nor reach over a gap or a cut: `label`, `start` and `end` in
        seconds, `score`, the mean probability of the label in its frames, `candidates`, one label, or the two most
        probable ones of an "unsure" segment, whose `score` is that of the first, and `frames`, the first and the last
        of the T frames.
    """
    found: list[dict[str, Any]] = []
    for stretch in presence.stretches():
        labels = scores[stretch].argmax(1)
        if unsure_below is not None:
            labels[scores[stretch].max(1) < 0.5] = -1
        for first, last, label in _merge_short(labels, scores[stretch], presence, stretch.start):
            mean = scores[stretch.start + first : stretch.start + last + 1].mean(0)
            ranked = np.argsort(-mean, kind="stable")
            unsure = label < 0 or (unsure_below is not None and mean[label] < unsure_below)
            chosen = ranked[:2].tolist() if unsure else [label]
            start, end = presence.span(stretch.start + first, stretch.start + last)
            segment = {
                "label": UNSURE if unsure else names[label],
                "start": start,
                "end": end,
                "score": float(mean[chosen[0]]),
                "candidates": [names[index] for index in chosen],
                "frames": [stretch.start + first, stretch.start + last],
            }
            if found and _continues(found[-1], segment, presence):
                segment = _joined(found.pop(), segment, scores, names)
            found.append(segment)
    return found


def _merge_short(
    labels: np.ndarray, scores: np.ndarray, presence: Presence, offset: int
) -> list[tuple[int, int, int]]:
    """Runs of equal labels: first, last and label. One that is too short goes to the more probable label beside it."""
    labels = labels.copy()
    while True:
        borders = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
        runs = [(a, b - 1, int(labels[a])) for a, b in zip(borders, borders[1:], strict=False)]
        lengths = [end - start for start, end in (presence.span(offset + a, offset + b) for a, b, _ in runs)]
        number = int(np.argmin(lengths))
        if len(runs) == 1 or lengths[number] > SHORTEST - 1e-6:
            return runs
        first, last, _ = runs[number]
        beside = [runs[near][2] for near in (number - 1, number + 1) if 0 <= near < len(runs)]
        mean = scores[first : last + 1].mean(0)
        labels[first : last + 1] = max(beside, key=lambda label: mean[label] if label >= 0 else 0.0)


def _continues(one: Mapping[str, Any], other: Mapping[str, Any], presence: Presence) -> bool:
    """Whether two segments that follow each other without a gap or a cut are both unsure."""
    last, first = one["frames"][1], other["frames"][0]
    place = presence.places[first]
    adjacent = place - presence.places[last] == 1 and place not in presence.cuts and not presence.is_after_gap(place)
    return adjacent and one["label"] == other["label"] == UNSURE


def _joined(one: dict[str, Any], other: dict[str, Any], scores: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """One unsure segment of two."""
    frames = [one["frames"][0], other["frames"][1]]
    mean = scores[frames[0] : frames[1] + 1].mean(0)
    best = np.argsort(-mean, kind="stable")[:2].tolist()
    candidates = [names[index] for index in best]
    return one | {"end": other["end"], "score": float(mean[best[0]]), "candidates": candidates, "frames": frames}


# Segments of emotions that may overlap, for measuring localisation


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one emotion.

    Attributes:
        start: seconds.
        end: seconds.
        label: the emotion.
        confidence: mean probability over its frames.
    """

    start: float
    end: float
    label: str
    confidence: float


def find_segments(
    curves: Mapping[str, Sequence[float]], seconds: Sequence[float] | np.ndarray, rule: Hysteresis | None = None
) -> list[dict[str, Any]]:
    """Segments of emotion by hysteresis on the curve of each class but neutral.

    Args:
        curves: for each class its probability in each of T frames.
        seconds: (T,) of the frames, increasing.
        rule: the thresholds.

    Returns:
        `start` and `end` in seconds, `label` and `confidence` of each, in order of time. A segment reaches half the
        way to the frames beside it, and never over a stretch without frames (a face that was away).
    """
    rule = rule or Hysteresis()
    found: list[Segment] = []
    for label, values in curves.items():
        if label != AT_REST:
            found += _of_curve(label, np.asarray(values, dtype=float), rule, np.asarray(seconds, dtype=float))
    return [asdict(segment) for segment in sorted(found, key=lambda one: (one.start, one.end, one.label))]


def argmax_segments(curves: Mapping[str, Sequence[float]], seconds: Sequence[float]) -> list[dict[str, Any]]:
    """What segments are compared with: runs of frames whose most probable class is the same emotion."""
    names = list(curves)
    best = np.argmax([curves[name] for name in names], axis=0) if len(seconds) else np.zeros(0, int)
    alone = {name: np.where(best == index, curves[name], 0.0).tolist() for index, name in enumerate(names)}
    return find_segments(alone, seconds, Hysteresis(high=1e-9, low=1e-9, shortest=0.0))


def _of_curve(label: str, curve: np.ndarray, rule: Hysteresis, seconds: np.ndarray) -> list[Segment]:
    starts, ends = _extents(seconds)
    segments = []
    for run in _runs(curve >= rule.low, seconds):
        start, end = float(starts[run.start]), float(ends[run.stop - 1])
        if curve[run].max() >= rule.high and end - start >= rule.shortest:
            segments.append(Segment(start, end, label, float(curve[run].mean())))
    return segments


def _runs(inside: np.ndarray, seconds: np.ndarray) -> list[slice]:
    """Stretches of frames that are inside, cut where time goes on without frames."""
    new = np.ones(len(inside), bool)
    new[1:] = ~inside[:-1] | (np.diff(seconds) > _longest_step(seconds))
    first = np.flatnonzero(inside & new)
    last = np.flatnonzero(inside & np.append(~inside[1:] | new[1:], True))
    return [slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]


def _extents(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and end (T,) of the time that each frame stands for: half the way to those beside it."""
    if len(seconds) < 2:
        return seconds, seconds
    steps = np.diff(seconds)
    usual = float(np.median(steps))
    halves = np.where(steps > _longest_step(seconds), usual, steps) / 2
    return (
        np.maximum(seconds - np.append(usual / 2, halves), 0.0),
        seconds + np.append(halves, usual / 2),
    )


def _longest_step(seconds: np.ndarray) -> float:
    """Frames further apart than this have something between them that was not looked at."""
    return 3 * float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
