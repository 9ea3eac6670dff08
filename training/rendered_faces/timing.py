"""Curves of intensity over the frames of a clip: the waves of an emotion, and single movements."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tgdfer.training.rendered_faces.parameters import RenderedFaces

# An expression comes and goes in waves: one per so many seconds, up to a maximum per clip. With fewer waves, emotional
# frames would be close to each other so often that any order of positions would find them by chance.
_SECONDS_A_WAVE, _MOST_WAVES = 0.7, 5


@dataclass(frozen=True)
class Window:
    """A period in which an expression is visible. Times are in frames and may be fractions.

    Attributes:
        start: Time at which it reaches half of its apex.
        end: Time at which it falls below half of its apex.
        onset: Frames from neutral to apex.
        offset: Frames from apex to neutral.
        height: Intensity of the apex.
    """

    start: float
    end: float
    onset: float
    offset: float
    height: float = 1.0

    def curve(self, frames: np.ndarray) -> np.ndarray:
        """Intensity (T,) at the given frames (T,), with smooth ramps (smoothstep)."""
        return _curve(frames, self.start, self.end, self.onset, self.offset, self.height)


def _curve(frames: np.ndarray, start: Any, end: Any, onset: Any, offset: Any, height: Any) -> np.ndarray:
    """The curve of a window, or of several whose values broadcast with the frames."""
    rise = np.clip((frames - start) / onset + 0.5, 0, 1)
    fall = np.clip((end - frames) / offset + 0.5, 0, 1)
    ramp = np.minimum(rise, fall)
    return height * ramp**2 * (3 - 2 * ramp)


def shortest(faces: RenderedFaces) -> float:
    """Shortest expression: frames above half of the apex with the quickest onset and offset."""
    return faces.fps * (faces.onset[0] + faces.offset[0]) / 2


def sample_window(start: float, end: float, faces: RenderedFaces, rng: np.random.Generator) -> Window:
    """Draws a felt expression, with onset and offset that fit between start and end."""
    least = faces.fps * faces.onset[0], faces.fps * faces.offset[0]
    ranges = [faces.onset[1] - faces.onset[0], faces.offset[1] - faces.offset[0]]
    slower = (faces.fps * rng.uniform(0, ranges)).tolist()
    room = max(0.0, 2 * (end - start) - sum(least))
    share = min(1.0, room / max(sum(slower), 1e-6))
    onset, offset = (quick + share * slow for quick, slow in zip(least, slower, strict=True))
    return Window(start, end, onset, offset, rng.uniform(0.8, 1))


def sample_waves(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> list[Window]:
    """Draws windows that fill a share of a clip and lie anywhere in it.

    The waves are spread around a ring, which is then cut open at a random place. So every frame is equally likely to
    lie in a wave, including the first and the last one, and waves may begin before the clip or end after it.
    """
    least, most = shortest(faces), min(int(np.ceil(frames / faces.fps / _SECONDS_A_WAVE)), _MOST_WAVES)
    # The share of short clips is large enough for two waves, or else for one.
    share = max(rng.uniform(*faces.share), min(faces.share[1], min(most, 2) * least / frames))
    count = min(int(share * frames / least + 1e-6), most)
    # Gaps are uneven. A periodic order of positions would find many waves with even gaps.
    lengths, gaps = rng.uniform([[0.75], [0.4]], [[1.25], [1.6]], (2, max(1, count)))
    lengths, gaps = lengths * share * frames / lengths.sum(), gaps * (1 - share) * frames / gaps.sum()
    starts = rng.uniform(0, frames) + np.concatenate([[0], np.cumsum(lengths + gaps)[:-1]])
    return [
        sample_window(start, start + length, faces, rng)
        for start, length in zip(starts % frames, lengths, strict=True)
    ]


def envelope(waves: Sequence[Window], frames: int) -> np.ndarray:
    """Intensity (T,) of waves on the ring of a clip, scaled to a maximum of 1."""
    # One turn of the ring before the clip, the clip, and one turn after it: (1, 3, T).
    turns = np.arange(-frames, 2 * frames).reshape(1, 3, frames)
    # Start, end, onset, offset and height of W waves: (5, W, 1, 1).
    values = np.array([(w.start, w.end, w.onset, w.offset, w.height) for w in waves]).T[..., None, None]
    highest = _curve(turns, *values).max((0, 1))
    return highest / highest.max()


def overlay(units: np.ndarray, begin: int, curve: np.ndarray, vector: np.ndarray) -> None:
    """Adds a movement to the action units of a clip, in place.

    Frames outside the clip are cut off. If an action unit moves already, the stronger movement counts.

    Args:
        units: Action units (T, A) of the clip.
        begin: Frame at which the movement begins; may be negative.
        curve: Intensity (N,) of the movement.
        vector: Action units (A,) of the movement, or (N, A) if they change.
    """
    first, last = max(0, -begin), min(len(curve), len(units) - begin)
    if first < last:
        part = units[begin + first : begin + last]
        moved = curve[:, None] * vector
        np.maximum(part, moved[first:last], out=part)


def pulse(rise: float, hold: float, fall: float, shift: float = 0.0) -> np.ndarray:
    """Intensity (N,) of a movement that rises to 1, holds and falls within the given numbers of frames."""
    t = np.arange(int(np.ceil(rise + hold + fall)) + 2) - shift
    ramp = np.clip(np.minimum(t / max(rise, 1e-6), (rise + hold + fall - t) / max(fall, 1e-6)), 0, 1)
    return ramp**2 * (3 - 2 * ramp)


def blink(fps: int, rng: np.random.Generator) -> np.ndarray:
    """Intensity (N,) of a blink: lids close in a tenth of a second and open more slowly, in 0.15 to 0.4 seconds."""
    close, shut, reopen = fps * rng.uniform([0.06, 0.0, 0.09], [0.12, 0.08, 0.2])
    curve = pulse(close, shut, reopen, shift=rng.uniform())
    # Every blink covers the eye in at least one frame.
    return curve / curve.max()


def syllables(frames: int, fps: int, rng: np.random.Generator) -> np.ndarray:
    """Opening (T,) of the mouth in speech: it opens 3 to 5.5 times per second and closes in between."""
    t = np.arange(frames) / fps
    phase = rng.uniform(3, 5.5) * t + 0.6 * np.sin(2 * np.pi * (0.9 * t + rng.uniform()))
    return 0.5 + 0.5 * np.sin(2 * np.pi * (phase + rng.uniform()))
