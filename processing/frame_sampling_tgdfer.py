"""Which frames of a video are sampled: in segments, densely or by rate, and windows over a sequence of frames."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .video_file_tgdfer import VideoDecodeError

SAMPLINGS = ("segments", "dense", "fps")
# Cameras and encoders drop single frames. A step between frames is a gap only if it exceeds this number of seconds and
# this multiple of the median step.
SHORTEST_GAP, GAP_STEPS = 0.5, 3


@dataclass(frozen=True)
class Sampling:
    """Method for sampling the frames of a video. Without `num_frames` and `fps` all frames are taken.

    Attributes:
        method (`str`): "segments" takes one frame of each of `num_frames` equal parts of the video. "dense" takes
            `num_frames` frames with a distance of `stride`. "fps" takes `fps` frames per second.
        num_frames (`int`, *optional*): Number of frames. It is not used if `fps` is given.
        fps (`float`, *optional*): Frames per second.
        stride (`int`): Distance between two frames with "dense".
        generator (`torch.Generator`, *optional*): Draws a random frame of each part, or the start with "dense", for
            training. None takes the middle.

    Raises:
        ValueError: If the method is unknown, or is "fps" without `fps`.
    """

    method: str
    num_frames: int | None = None
    fps: float | None = None
    stride: int = 1
    generator: torch.Generator | None = None

    def __post_init__(self):
        if self.method not in SAMPLINGS:
            raise ValueError(f'sampling must be one of {", ".join(SAMPLINGS)}, not "{self.method}".')
        if self.method == "fps" and self.fps is None and self.num_frames is not None:
            raise ValueError('sampling="fps" needs the number of frames per second; set `fps`.')

    def indices(self, total: int, seconds: np.ndarray | None, duration: float | None) -> np.ndarray:
        """Returns increasing indices of the sampled frames of a video.

        Args:
            total (`int`): Number of frames in the video.
            seconds (`np.ndarray` of shape `(total,)`, *optional*): Times of the frames.
            duration (`float`, *optional*): Duration of the video in seconds.
        """
        if self.num_frames is None and self.fps is None:
            return np.arange(total)
        if self.method == "dense":
            return dense_indices(total, self.num_frames or 0, self.stride, self.generator)
        # A single frame is taken at any rate, so its duration does not matter.
        shown = 0.0 if total == 1 else duration
        if seconds is not None and shown is not None:
            shown = close_gaps(seconds, shown)[1]
        count = count_frames(self.num_frames, self.fps, shown)
        return sample_indices(total, count, seconds, duration, self.generator)


ALL_FRAMES = Sampling("segments")


def count_frames(num_frames: int | None, fps: float | None, duration: float | None) -> int:
    """Returns how many frames are sampled from a video of `duration` seconds: `num_frames`, or `fps` per second.

    Raises:
        VideoDecodeError: If `fps` is not above 0.
        ValueError: If `fps` is given and the duration of the video is unknown.
    """
    if fps is None:
        return num_frames or 0
    if not 0 < fps < float("inf"):
        raise VideoDecodeError(f"Frames cannot be sampled at an fps of {fps:g}; it must be above 0.")
    if duration is None:
        raise ValueError("Sampling by `fps` needs the times of the frames; pass `timestamps` for arrays.")
    # A clip that is sampled at its own rate must not lose a frame by rounding.
    return max(1, int(duration * fps + 1e-6))


def sample_indices(
    total: int,
    num_frames: int,
    seconds: np.ndarray | None = None,
    duration: float | None = None,
    generator: torch.Generator | None = None,
) -> np.ndarray:
    """Divides a video into `num_frames` equal parts, and samples one frame of each.

    Args:
        total (`int`): Number of frames in the video.
        num_frames (`int`): Number of sampled frames. All frames are taken if the video does not have more.
        seconds (`np.ndarray` of shape `(total,)`, *optional*): Times of the frames. At a constant frame rate the
            parts are defined by frame numbers, so rounding errors of the times have no effect. Otherwise they are
            defined by time, without the gaps of `find_gaps`.
        duration (`float`, *optional*): Seconds from the first frame to the end of the last frame.
        generator (`torch.Generator`, *optional*): Draws a random frame of each part. None takes the middle one.

    Returns:
        `np.ndarray` of shape `(min(total, num_frames),)`: Strictly increasing indices.

    Raises:
        ValueError: If `num_frames` is below 1.
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
        seconds, length = close_gaps(seconds, length)
        moments = seconds[0] + (steps + within) * length / num_frames
        indices = np.searchsorted(seconds, moments, side="right") - 1
    # A frame that is shown for longer than one part, or drawn in two parts, must be sampled only once.
    indices = np.maximum.accumulate(indices - steps) + steps
    return np.minimum(indices, total - num_frames + steps)


def _evenly_paced(seconds: np.ndarray) -> bool:
    even = np.linspace(seconds[0], seconds[-1], len(seconds))
    return bool(np.abs(seconds - even).max() < 0.5 * (even[1] - even[0]))


def dense_indices(
    total: int, num_frames: int, stride: int = 1, generator: torch.Generator | None = None
) -> np.ndarray:
    """Samples every `stride`-th frame of a part of a video.

    Args:
        total (`int`): Number of frames in the video.
        num_frames (`int`): Number of sampled frames. It is lower for a short video.
        stride (`int`, *optional*, defaults to 1): Distance between two frames.
        generator (`torch.Generator`, *optional*): Draws the first frame, for training. None takes the middle part of
            the video.

    Returns:
        `np.ndarray`: At most `num_frames` strictly increasing indices.

    Raises:
        ValueError: If `num_frames` or `stride` is below 1.
    """
    _check_counts(num_frames, stride)
    spare = total - ((num_frames - 1) * stride + 1)
    if spare <= 0:
        return np.arange(0, total, stride)
    start = spare // 2 if generator is None else int(torch.randint(spare + 1, (1,), generator=generator))
    return start + stride * np.arange(num_frames)


def windows(total: int, num_frames: int) -> Iterator[np.ndarray]:
    """Yields windows that cover a sequence of frames and overlap by half.

    Args:
        total (`int`): Number of frames in the sequence.
        num_frames (`int`): Number of frames in a window. A sequence of at most this length is a single window.

    Yields:
        `np.ndarray`: Consecutive indices. The last window ends at the last frame, so it may overlap more.

    Raises:
        ValueError: If `num_frames` is below 1.
    """
    _check_counts(num_frames, 1)
    for start in range(0, max(0, total - num_frames), max(1, num_frames // 2)):
        yield np.arange(start, start + num_frames)
    yield np.arange(max(0, total - num_frames), total)


def find_gaps(seconds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns a mask (T - 1,) of the steps between T consecutive frames that are gaps in time."""
    steps = np.diff(np.asarray(seconds, dtype=float))
    return steps > max(SHORTEST_GAP, GAP_STEPS * float(np.median(steps)) if len(steps) else 0.0)


def close_gaps(seconds: np.ndarray, duration: float) -> tuple[np.ndarray, float]:
    """Shortens the gaps in the times of T frames to the median step, because a gap has no frames to sample.

    Returns:
        `tuple[np.ndarray, float]`: The times (T,) without gaps, and the duration without gaps, both in seconds.
    """
    gaps = find_gaps(seconds)
    if not gaps.any():
        return seconds, duration
    steps = np.diff(seconds)
    excess = np.where(gaps, steps - np.median(steps), 0.0)
    return seconds - np.concatenate([[0.0], np.cumsum(excess)]), duration - float(excess.sum())


def _check_counts(num_frames: int, stride: int) -> None:
    for name, value in {"num_frames": num_frames, "stride": stride}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}.")
