"""Segments of a video: the expressions of a person over time, computed from the probabilities of the frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .explanation_tgdfer import UNSURE
from .frame_sampling_tgdfer import find_gaps

# Minimum duration of a segment in seconds, if the person is visible for that long. Spontaneous expressions mostly last
# half a second or more.
SHORTEST = 0.3


@dataclass(frozen=True)
class Presence:
    """The T frames in which a person is visible, among the N sampled frames of a video.

    Attributes:
        places (`np.ndarray` of shape `(T,)`): Positions among the sampled frames, increasing.
        edges (`np.ndarray` of shape `(N + 1,)`): Limits between the sampled frames in seconds.
        cuts (`Sequence[int]`): Positions among the sampled frames at which a new shot begins.
        seconds (`np.ndarray` of shape `(N,)`, *optional*): Times of the sampled frames, used to find gaps. None if
            there are no gaps.
    """

    places: np.ndarray
    edges: np.ndarray
    cuts: Sequence[int] = ()
    seconds: np.ndarray | None = None

    def stretches(self) -> list[slice]:
        """Returns the slices of the T frames in which the person is visible without a gap or a cut."""
        shots = np.searchsorted(np.asarray(self.cuts), self.places, side="right")
        pieces = np.searchsorted(self._gaps, self.places, side="right")
        new = (np.diff(self.places) > 1) | (np.diff(shots) > 0) | (np.diff(pieces) > 0)
        borders = [0, *(np.flatnonzero(new) + 1).tolist(), len(self.places)]
        return [slice(start, stop) for start, stop in zip(borders, borders[1:], strict=False)]

    def span(self, first: int, last: int) -> tuple[float, float]:
        """Returns the start of one of the T frames and the end of another in seconds.

        At a gap, they are half a median step away from the frame.
        """
        start, end = self.places[first], self.places[last]
        times = [float(self.edges[start]), float(self.edges[end + 1])]
        if self.seconds is not None:
            if self.is_after_gap(start):
                times[0] = float(self.seconds[start]) - self._half_step
            if self.is_after_gap(end + 1):
                times[1] = float(self.seconds[end]) + self._half_step
        return times[0], times[1]

    def is_after_gap(self, place: int) -> bool:
        """Whether the sampled frame at position `place` follows a gap."""
        return int(place) in self._places_after_gaps

    @cached_property
    def _half_step(self) -> float:
        """Half of the median step between two sampled frames in seconds."""
        steps = np.diff(np.zeros(0) if self.seconds is None else self.seconds)
        return float(np.median(steps)) / 2 if len(steps) else 0.0

    @cached_property
    def _places_after_gaps(self) -> frozenset[int]:
        return frozenset(self._gaps.tolist())

    @cached_property
    def _gaps(self) -> np.ndarray:
        """Positions of the sampled frames that follow a gap."""
        return np.zeros(0, int) if self.seconds is None else np.flatnonzero(find_gaps(self.seconds)) + 1


def find_moments(
    scores: np.ndarray, names: Sequence[str], presence: Presence, unsure_below: float | None = None
) -> list[dict[str, Any]]:
    """Labels every frame of a person, and joins consecutive frames of the same label into segments.

    A frame gets its most probable class. With `unsure_below`, it is unsure if no class has a probability of at least
    0.5. A segment shorter than `SHORTEST` gets the more probable of the labels of the adjacent segments.

    Args:
        scores (`np.ndarray` of shape `(T, K)`): Probabilities of the classes in the frames of the person.
        names (`Sequence[str]`): Names of the K classes.
        presence (`Presence`): Frames in which the person is visible.
        unsure_below (`float`, *optional*): Mean probability below which a segment is "unsure". None means never.

    Returns:
        `list[dict[str, Any]]`: Segments in chronological order, which neither overlap nor cross a gap or a cut. The
        keys are `label`; `start` and `end` in seconds; `candidates`, the label, or the two most probable labels of an
        "unsure" segment; `score`, the mean probability of the first candidate; and `frames`, the first and the last of
        the T frames.
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
    """Returns the first frame, the last frame and the label of each run of equal labels, without short runs.

    The shortest run is joined with its neighbours until no run is short. A person may have tens of thousands of runs,
    so only the joined runs are computed again.
    """
    borders = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    runs = [(a, b - 1, int(labels[a])) for a, b in zip(borders, borders[1:], strict=False)]

    def length(first: int, last: int) -> float:
        start, end = presence.span(offset + first, offset + last)
        return end - start

    lengths = np.array([length(first, last) for first, last, _ in runs])
    while len(runs) > 1 and lengths[number := int(np.argmin(lengths))] <= SHORTEST - 1e-6:
        first, last, _ = runs[number]
        neighbours = [index for index in (number - 1, number + 1) if 0 <= index < len(runs)]
        mean = scores[first : last + 1].mean(0)
        label = max((runs[index][2] for index in neighbours), key=lambda label: mean[label] if label >= 0 else 0.0)
        joined = [number, *(index for index in neighbours if runs[index][2] == label)]
        start, stop = min(joined), max(joined) + 1
        first, last = runs[start][0], runs[stop - 1][1]
        runs[start:stop] = [(first, last, label)]
        lengths = np.delete(lengths, np.arange(start + 1, stop))
        lengths[start] = length(first, last)
    return runs


def _continues(segment: Mapping[str, Any], following: Mapping[str, Any], presence: Presence) -> bool:
    """Whether two consecutive segments are both unsure, without a gap or a cut between them."""
    last, first = segment["frames"][1], following["frames"][0]
    place = presence.places[first]
    adjacent = place - presence.places[last] == 1 and place not in presence.cuts and not presence.is_after_gap(place)
    return adjacent and segment["label"] == following["label"] == UNSURE


def _joined(
    segment: dict[str, Any], following: dict[str, Any], scores: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Joins two unsure segments."""
    frames = [segment["frames"][0], following["frames"][1]]
    mean = scores[frames[0] : frames[1] + 1].mean(0)
    best = np.argsort(-mean, kind="stable")[:2].tolist()
    candidates = [names[index] for index in best]
    score = float(mean[best[0]])
    return segment | {"end": following["end"], "score": score, "candidates": candidates, "frames": frames}
