"""Pairs of rendered clips that show the same frames in another order, so that only their course over time differs.

The clips of a pair have the same set of frames and the same times. A model that looks at single frames and pools them
in any way gives both clips the same answer, so it cannot be right more often than in half of the clips.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tgdfer.training.rendered_faces.action_units import action_unit_vector, apex
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.poses import sample_poses
from tgdfer.training.rendered_faces.rendered_clip import sample_person, seed_of
from tgdfer.training.rendered_faces.setting import Setting

# Frames of a clip, and seconds between them.
FRAMES, INTERVAL = 16, 0.125
# The emotion of each kind of pair. The other clip of a pair is "neutral": a posed smile, or blinks.
KINDS = {"smile": "happiness", "lids": "sadness"}
LABELS = ("happiness", "neutral", "sadness")


@dataclass(frozen=True)
class Pair:
    """Two clips of the same T frames.

    Attributes:
        kind: One of `KINDS`.
        person: Name of the person.
        levels: (T,) intensity of the movement in each frame, in the order of the clip of the emotion.
        neutral: (T,) order of the frames in the neutral clip.
        key: Numbers that seed everything that is drawn at random in the frames.
    """

    kind: str
    person: str
    levels: np.ndarray
    neutral: np.ndarray
    key: tuple[int, ...]

    @property
    def clips(self) -> tuple[tuple[str, np.ndarray], tuple[str, np.ndarray]]:
        """Label and order of the frames of both clips."""
        return (KINDS[self.kind], np.arange(FRAMES)), ("neutral", self.neutral)

    def draw(self, faces: RenderedFaces) -> np.ndarray:
        """Draws the frames in the order of `levels`, uint8 RGB (T, size, size, 3).

        Pose, light and noise are drawn for each frame anew. If they drifted over the clip, another order of the frames
        would be visible in them.
        """
        rng = np.random.default_rng(self.key)
        split, number = self.person.rsplit(" ", 1)
        person = sample_person(0, split, int(number), faces.resting)
        setting = replace(Setting.sample(rng, faces), occluder=None)
        painter = FacePainter(person, setting, faces)
        poses = sample_poses(FRAMES, faces, rng)
        moment = rng.permutation(FRAMES)
        peak = self._peak(faces, rng)
        return np.stack(
            [
                painter.draw(level * peak, poses[at], frame=int(at))
                for level, at in zip(self.levels, moment, strict=True)
            ]
        )

    def _peak(self, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
        """Action units (A,) at the apex."""
        if self.kind == "smile":
            return apex("happiness", rng) * rng.uniform(*faces.strength)
        return action_unit_vector({"AU43": 1.0})


def sample_pairs(split: str, people: int, each: int) -> Iterator[Pair]:
    """Draws `each` pairs of every kind for every person of a split. Splits do not share people."""
    for number in range(people):
        for index, kind in enumerate(KINDS):
            for turn in range(each):
                key = (seed_of(split), number, index, turn)
                rng = np.random.default_rng([*key, 1])
                levels = _felt_smile(rng) if kind == "smile" else _sinking_lids(rng)
                neutral = _posed_order(levels, rng) if kind == "smile" else _blinking_order(levels, rng)
                yield Pair(kind, f"{split} {number}", levels, neutral, key)


def _wave(onset: int, hold: int, offset: int, rng: np.random.Generator) -> np.ndarray:
    """Intensity (T,) that rises, holds and falls within the given numbers of frames, anywhere in the clip."""

    def ramp(frames: int) -> np.ndarray:
        part = (np.arange(frames) + rng.uniform(0.7, 1.3)) / (frames + 1)
        return part**2 * (3 - 2 * part)

    curve = np.concatenate([ramp(onset), np.ones(hold), ramp(offset)[::-1]])
    levels = np.zeros(FRAMES)
    start = int(rng.integers(1, FRAMES - len(curve)))
    levels[start : start + len(curve)] = curve
    return levels


def _felt_smile(rng: np.random.Generator) -> np.ndarray:
    """A smile that appears and disappears within half a second or more."""
    return _wave(int(rng.integers(3, 6)), int(rng.integers(2, 4)), int(rng.integers(3, 6)), rng)


def _sinking_lids(rng: np.random.Generator) -> np.ndarray:
    """Lids that sink within half a second or more, and open again."""
    return _wave(int(rng.integers(3, 5)), int(rng.integers(1, 3)), int(rng.integers(1, 3)), rng)


def _posed_order(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order (T,) in which the smile appears and disappears from one frame to the next."""
    high, low = (rng.permutation(np.flatnonzero(part)) for part in (levels >= 0.5, levels < 0.5))
    start = int(rng.integers(1, len(low)))
    return np.concatenate([low[:start], high, low[start:]])


def _blinking_order(levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order (T,) in which the eyes close several times, each time for one frame or two."""
    closed, opened = (rng.permutation(np.flatnonzero(part)) for part in (levels > 0, levels == 0))
    blinks = np.split(closed, np.arange(2, len(closed), 2))
    gaps = np.sort(rng.choice(len(opened) + 1, len(blinks), replace=False))
    parts: list[np.ndarray] = []
    for before, after, blink in zip([0, *gaps[:-1]], gaps, blinks, strict=True):
        parts += [opened[before:after], blink]
    return np.concatenate([*parts, opened[gaps[-1] :]])
