"""Which frames of a clip are looked at: one of each segment, a dense window, or windows that cover a long video."""

import math
from collections.abc import Iterator

import numpy as np
import torch

# Frames a second that are assumed where nothing tells: folders of frames and arrays.
ASSUMED_FPS = 25


def sample_indices(
    total: int,
    num_frames: int,
    seconds: np.ndarray | None = None,
    duration: float | None = None,
    generator: torch.Generator | None = None,
) -> np.ndarray:
    """One frame of each of `num_frames` equal segments of the clip.

    Args:
        total: frames of the clip.
        num_frames: frames wanted; a clip that has no more gives each of its frames once.
        seconds: (total,) times of the frames. Frames at an even pace are counted, so that rounded times cannot move a
            frame across the border of a segment; others are sampled by time.
        duration: seconds from the first frame to the end of the last.
        generator: draws a random frame of each segment; None takes the middle one.

    Returns:
        Strictly increasing indices, min(total, num_frames) of them.

    Raises:
        ValueError: fewer than one frame is wanted.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, not {num_frames}.")
    if total <= num_frames:
        return np.arange(total)
    steps = np.arange(num_frames)
    within = 0.5 if generator is None else torch.rand(num_frames, generator=generator, dtype=torch.float64).numpy()
    if seconds is None or _evenly_paced(seconds):
        indices = ((steps + within) * total / num_frames).astype(np.int64)
    else:
        length = duration if duration is not None else float(seconds[-1] - seconds[0])
        moments = seconds[0] + (steps + within) * length / num_frames
        indices = np.searchsorted(seconds, moments, side="right") - 1
    # A frame shown for longer than a segment, or drawn from both sides of a border, must not come twice.
    indices = np.maximum.accumulate(indices - steps) + steps
    return np.minimum(indices, total - num_frames + steps)


def _evenly_paced(seconds: np.ndarray) -> bool:
    even = np.linspace(seconds[0], seconds[-1], len(seconds))
    return bool(np.abs(seconds - even).max() < 0.5 * (even[1] - even[0]))


def dense_indices(
    total: int, num_frames: int, stride: int = 1, generator: torch.Generator | None = None
) -> np.ndarray:
    """A window of frames `stride` apart: in the middle of the clip, or anywhere by `generator`.

    Args:
        total: frames of the clip.
        num_frames: frames of the window; a clip that is too short gives those it has at this stride.
        stride: from one frame to the next.
        generator: draws the start of the window (training); None takes the middle of the clip (evaluation).

    Returns:
        Strictly increasing indices, `num_frames` of them or fewer.

    Raises:
        ValueError: `num_frames` or `stride` is below 1.
    """
    _check_window(num_frames, stride)
    spare = total - ((num_frames - 1) * stride + 1)
    if spare <= 0:
        return np.arange(0, total, stride)
    start = spare // 2 if generator is None else int(torch.randint(spare + 1, (1,), generator=generator))
    return start + stride * np.arange(num_frames)


def windows(
    total: int,
    num_frames: int,
    stride: int = 1,
    hop: int | None = None,
    seconds: np.ndarray | None = None,
    interval: float | None = None,
) -> Iterator[np.ndarray]:
    """Windows as of `dense_indices`, that together cover a video of any length.

    Args:
        total: frames of the video.
        num_frames: frames of a window.
        stride: from one frame of a window to the next.
        hop: sampled frames from the start of a window to that of the next, default half a window.
        seconds: (total,) times of the frames.
        interval: seconds from one frame of a window to the next, instead of `stride` where the times are known; each
            frame comes once, so that where there are fewer they are further apart.

    Yields:
        Strictly increasing indices. The last window ends with the last frame of the grid, and overlaps the one before
        it by more than the others where the length asks for it.

    Raises:
        ValueError: `num_frames`, `stride` or `hop` is below 1, `interval` is not above 0, or `hop` would leave frames
            out.
    """
    _check_window(num_frames, stride)
    hop = max(1, num_frames // 2) if hop is None else hop
    if not 1 <= hop <= num_frames:
        raise ValueError(f"hop must be between 1 and num_frames ({num_frames}), not {hop}.")
    if interval is not None and not interval > 0:
        raise ValueError(f"interval must be above 0 seconds, not {interval}.")
    if seconds is None or interval is None:
        grid = np.arange(0, total, stride)
    else:
        # The frame that is shown in the middle of each interval.
        count = max(1, math.ceil((seconds[-1] - seconds[0]) / interval))
        moments = seconds[0] + (np.arange(count) + 0.5) * interval
        grid = np.unique(np.clip(np.searchsorted(seconds, moments, side="right") - 1, 0, total - 1))
        # How long the last frame is shown nobody knows; where it comes late, it counts.
        if seconds[-1] - seconds[grid[-1]] > interval:
            grid = np.append(grid, total - 1)
    start = 0
    while start + num_frames < len(grid):
        yield grid[start : start + num_frames]
        start += hop
    yield grid[max(0, len(grid) - num_frames) :]


def _check_window(num_frames: int, stride: int) -> None:
    for name, value in {"num_frames": num_frames, "stride": stride}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
