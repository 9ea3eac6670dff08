"""Intensity curves over the frames of a clip: the waves of an emotion, and single movements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgdfer.training.rendered_faces.parameters import RenderedFaces

# An expression comes and goes in waves: one per this number of seconds, up to a maximum per clip. With fewer waves,
# emotional frames would often be adjacent, and any ranking by position would find them by chance.
_SECONDS_PER_WAVE, _MAX_WAVES = 0.7, 5


@dataclass(frozen=True)
class Window:
    """A period in which an expression is visible. Times are in frames and may be fractions.

    Attributes:
        start (`float`): Time at which it reaches half of its apex.
        end (`float`): Time at which it falls below half of its apex.
        onset (`float`): Frames from neutral to apex.
        offset (`float`): Frames from apex to neutral.
        height (`float`, *optional*, defaults to 1.0): Intensity of the apex.
    """

    start: float
    end: float
    onset: float
    offset: float
    height: float = 1.0

    def curve(self, frames: np.ndarray) -> np.ndarray:
        """Returns the intensity (T,) at the given frames (T,), with smooth ramps (smoothstep)."""
        return _curve(frames, self.start, self.end, self.onset, self.offset, self.height)


def _curve(frames: np.ndarray, start: Any, end: Any, onset: Any, offset: Any, height: Any) -> np.ndarray:
    """Returns the curve of a window, or of several windows whose values broadcast with the frames."""
    rise = np.clip((frames - start) / onset + 0.5, 0, 1)
    fall = np.clip((end - frames) / offset + 0.5, 0, 1)
    ramp = np.minimum(rise, fall)
    return height * ramp**2 * (3 - 2 * ramp)


def shortest_expression(faces: RenderedFaces) -> float:
    """Returns the frames above half of the apex of the shortest expression, with the shortest onset and offset."""
    return faces.fps * (faces.onset[0] + faces.offset[0]) / 2


def sample_window(start: float, end: float, faces: RenderedFaces, rng: np.random.Generator) -> Window:
    """Draws a felt expression, with onset and offset that fit between start and end."""
    shortest = faces.fps * faces.onset[0], faces.fps * faces.offset[0]
    ranges = [faces.onset[1] - faces.onset[0], faces.offset[1] - faces.offset[0]]
    additional = (faces.fps * rng.uniform(0, ranges)).tolist()
    room = max(0.0, 2 * (end - start) - sum(shortest))
    share = min(1.0, room / max(sum(additional), 1e-6))
    onset, offset = (minimum + share * more for minimum, more in zip(shortest, additional, strict=True))
    return Window(start, end, onset, offset, rng.uniform(0.8, 1))


def sample_waves(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> list[Window]:
    """Draws windows that fill a share of a clip, at random positions.

    The waves are spread around a ring, which is cut open at a random position. So every frame is equally likely to be
    in a wave, including the first and the last one, and waves may begin before the clip or end after it.
    """
    shortest = shortest_expression(faces)
    max_waves = min(int(np.ceil(frames / faces.fps / _SECONDS_PER_WAVE)), _MAX_WAVES)
    # The share of short clips is large enough for two waves or, if that is not possible, for one.
    share = max(rng.uniform(*faces.share), min(faces.share[1], min(max_waves, 2) * shortest / frames))
    count = min(int(share * frames / shortest + 1e-6), max_waves)
    # Gaps are uneven. Otherwise a periodic ranking of positions would find many waves.
    lengths, gaps = rng.uniform([[0.75], [0.4]], [[1.25], [1.6]], (2, max(1, count)))
    lengths, gaps = lengths * share * frames / lengths.sum(), gaps * (1 - share) * frames / gaps.sum()
    starts = rng.uniform(0, frames) + np.concatenate([[0], np.cumsum(lengths + gaps)[:-1]])
    return [
        sample_window(start, start + length, faces, rng)
        for start, length in zip(starts % frames, lengths, strict=True)
    ]


def envelope(waves: Sequence[Window], frames: int) -> np.ndarray:
    """Returns the intensity (T,) of waves on the ring of a clip, scaled to a maximum of 1."""
    # One round of the ring before the clip, the clip, and one round after it: (1, 3, T).
    turns = np.arange(-frames, 2 * frames).reshape(1, 3, frames)
    # Start, end, onset, offset and height of W waves: (5, W, 1, 1).
    values = np.array([(w.start, w.end, w.onset, w.offset, w.height) for w in waves]).T[..., None, None]
    highest = _curve(turns, *values).max((0, 1))
    return highest / highest.max()


def overlay(units: np.ndarray, begin: int, curve: np.ndarray, vector: np.ndarray) -> None:
    """Adds a movement to the action units of a clip, in place.

    Frames outside the clip are cut off. If an action unit already moves, the stronger movement counts.

    Args:
        units (`np.ndarray`): Action units (T, A) of the clip.
        begin (`int`): Frame at which the movement begins. It may be negative.
        curve (`np.ndarray`): Intensity (N,) of the movement.
        vector (`np.ndarray`): Action units (A,) of the movement, or (N, A) if they change.
    """
    first, last = max(0, -begin), min(len(curve), len(units) - begin)
    if first < last:
        part = units[begin + first : begin + last]
        moved = curve[:, None] * vector
        np.maximum(part, moved[first:last], out=part)


def pulse(rise: float, hold: float, fall: float, shift: float = 0.0) -> np.ndarray:
    """Returns the intensity (N,) of a movement that rises to 1, holds and falls in the given numbers of frames."""
    t = np.arange(int(np.ceil(rise + hold + fall)) + 2) - shift
    ramp = np.clip(np.minimum(t / max(rise, 1e-6), (rise + hold + fall - t) / max(fall, 1e-6)), 0, 1)
    return ramp**2 * (3 - 2 * ramp)


def blink(fps: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the intensity (N,) of a blink of 0.15 to 0.4 seconds. Lids close faster than they open."""
    close, shut, reopen = fps * rng.uniform([0.06, 0.0, 0.09], [0.12, 0.08, 0.2])
    curve = pulse(close, shut, reopen, shift=rng.uniform())
    # Every blink covers the eye in at least one frame.
    return curve / curve.max()


def syllables(frames: int, fps: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the opening (T,) of the mouth in speech. It opens 3 to 5.5 times per second and closes in between."""
    t = np.arange(frames) / fps
    phase = rng.uniform(3, 5.5) * t + 0.6 * np.sin(2 * np.pi * (0.9 * t + rng.uniform()))
    return 0.5 + 0.5 * np.sin(2 * np.pi * (phase + rng.uniform()))
