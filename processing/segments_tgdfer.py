"""From windows of a long video to curves over its time, and from curves to segments of emotion."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# The label of a face at rest, whose time lies between segments.
AT_REST = "neutral"


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


def stitch(windows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Joins windows of T_w frames and K classes that may overlap, frame by frame.

    Args:
        windows: of each `seconds` (T_w,), `scores` (K,) of the window, `frame_scores` (T_w, K) and `relevance` (T_w,),
            how much each frame counts for the label of its window: shares of one; and whatever else has T_w rows.

    Returns:
        The same over all T frames, in order of time. A frame that lies in several windows has the mean of what they
        say of it; of other rows, what the first one has. `relevance` is in shares of one over the video, a window
        counting by its number of frames; `scores` (K,) the mean over the windows by the same measure.
    """
    lengths = np.array([len(window["seconds"]) for window in windows], dtype=float)
    seconds = np.concatenate([window["seconds"] for window in windows])
    # The same frame has the same time in every window, to the last bit or nearly so.
    times, first, which = np.unique(np.round(seconds, 4), return_index=True, return_inverse=True)
    counts = np.bincount(which)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.zeros((len(times), *values.shape[1:]))
        np.add.at(total, which, values)
        return total / counts.reshape(-1, *[1] * (values.ndim - 1))

    rows = (name for name in windows[0] if name != "scores")
    joined = {name: np.concatenate([window[name] for window in windows])[first] for name in rows}
    relevance = mean(np.concatenate([w["relevance"] * len(w["relevance"]) for w in windows]))
    return joined | {
        "seconds": seconds[first],
        "frame_scores": mean(np.concatenate([window["frame_scores"] for window in windows])),
        "relevance": relevance / relevance.sum(),
        "scores": np.average([window["scores"] for window in windows], axis=0, weights=lengths),
    }
