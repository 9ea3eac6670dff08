"""When a face moves: the waves of an emotion, and single movements, as curves over the frames of a clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tgdfer.training.rendered_faces.parameters import RenderedFaces

# An expression waxes and wanes: one wave for so many seconds, and not more than so many in a clip. With fewer, frames
# near each other would be emotional together so often that any order of the positions finds them by accident.
_SECONDS_A_WAVE, _MOST_WAVES = 0.7, 5


@dataclass(frozen=True)
class Window:
    """A time in which something shows; all in frames, and not bound to whole ones.

    Attributes:
        start: Where it reaches half of its apex.
        end: Where it falls below half of its apex.
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
        """Intensity (T,) at the given frames (T,): ramps that leave and arrive without a jerk."""
        rise = np.clip((frames - self.start) / self.onset + 0.5, 0, 1)
        fall = np.clip((self.end - frames) / self.offset + 0.5, 0, 1)
        ramp = np.minimum(rise, fall)
        return self.height * ramp**2 * (3 - 2 * ramp)


def shortest(faces: RenderedFaces) -> float:
    """Frames above half of the apex that the quickest onset and offset leave to an expression."""
    return faces.fps * (faces.onset[0] + faces.offset[0]) / 2


def sample_window(start: float, end: float, faces: RenderedFaces, rng: np.random.Generator) -> Window:
    """An expression that is felt; onset and offset are as slow as the time between them allows."""
    least = faces.fps * np.array([faces.onset[0], faces.offset[0]])
    slower = faces.fps * rng.uniform(0, [np.ptp(faces.onset), np.ptp(faces.offset)])
    room = max(0.0, 2 * (end - start) - least.sum())
    onset, offset = least + slower * min(1.0, room / max(slower.sum(), 1e-6))
    return Window(start, end, onset, offset, rng.uniform(0.8, 1))


def sample_waves(frames: int, faces: RenderedFaces, rng: np.random.Generator) -> list[Window]:
    """Windows that fill a share of a clip, at any place.

    The clip is closed to a ring, the waves are spread around it, and it is cut open anywhere. So every frame is as
    likely as every other one to lie in a wave, first and last one included; waves may begin before the clip or outlast
    it.
    """
    least, most = shortest(faces), min(int(np.ceil(frames / faces.fps / _SECONDS_A_WAVE)), _MOST_WAVES)
    # Short clips are filled at least so far that two waves, or else one, have the time to come and go.
    share = max(rng.uniform(*faces.share), min(faces.share[1], min(most, 2) * least / frames))
    count = min(int(share * frames / least + 1e-6), most)
    # Uneven gaps: of even ones, an order that goes up and down as often as the waves would find many.
    lengths, gaps = rng.uniform([[0.75], [0.4]], [[1.25], [1.6]], (2, max(1, count)))
    lengths, gaps = lengths * share * frames / lengths.sum(), gaps * (1 - share) * frames / gaps.sum()
    starts = rng.uniform(0, frames) + np.concatenate([[0], np.cumsum(lengths + gaps)[:-1]])
    return [
        sample_window(start, start + length, faces, rng)
        for start, length in zip(starts % frames, lengths, strict=True)
    ]


def envelope(waves: Sequence[Window], frames: int) -> np.ndarray:
    """Intensity (T,) of waves on the ring of a clip, scaled to an apex of 1."""
    t = np.arange(frames)
    curves = [wave.curve(t + turn) for wave in waves for turn in (-frames, 0, frames)]
    both = np.max(curves, axis=0)
    return both / both.max()


def overlay(units: np.ndarray, begin: int, curve: np.ndarray, vector: np.ndarray) -> None:
    """Let units (T, A) be moved by `vector` (A,) or (N, A) along a curve (N,) that begins at a frame, in place.

    What reaches over the ends is cut off; where two things move an action unit, the stronger one shows.
    """
    first, last = max(0, -begin), min(len(curve), len(units) - begin)
    if first < last:
        part = units[begin + first : begin + last]
        moved = curve[:, None] * vector
        np.maximum(part, moved[first:last], out=part)


def pulse(rise: float, hold: float, fall: float, shift: float = 0.0) -> np.ndarray:
    """A movement (N,) that comes, stays and goes within so many frames, up to an intensity of 1."""
    t = np.arange(int(np.ceil(rise + hold + fall)) + 2) - shift
    ramp = np.clip(np.minimum(t / max(rise, 1e-6), (rise + hold + fall - t) / max(fall, 1e-6)), 0, 1)
    return ramp**2 * (3 - 2 * ramp)


def blink(fps: int, rng: np.random.Generator) -> np.ndarray:
    """Lids (N,) that close in a tenth of a second and open more slowly: 0.15 to 0.4 seconds in all."""
    close, shut, reopen = fps * rng.uniform([0.06, 0.0, 0.09], [0.12, 0.08, 0.2])
    curve = pulse(close, shut, reopen, shift=rng.uniform())
    # Every blink that is not a twitch covers the eye, in one frame at least.
    return curve / curve.max()


def syllables(frames: int, fps: int, rng: np.random.Generator) -> np.ndarray:
    """How far (T,) somebody who speaks opens the mouth: 3 to 5.5 times a second, and closed in between."""
    t = np.arange(frames) / fps
    phase = rng.uniform(3, 5.5) * t + 0.6 * np.sin(2 * np.pi * (0.9 * t + rng.uniform()))
    return 0.5 + 0.5 * np.sin(2 * np.pi * (phase + rng.uniform()))
