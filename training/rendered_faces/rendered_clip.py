"""A rendered clip before it is drawn: who is seen, in which setting, and what the face does."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tgdfer.training.rendered_faces.courses import Course, sample_course, sample_long_course
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.people import Identity
from tgdfer.training.rendered_faces.setting import Setting

# Seconds within which an occluder of a long clip comes and goes.
_PASSING = 5.0


@dataclass(frozen=True)
class Clip:
    """A clip before it is drawn."""

    person: Identity
    setting: Setting
    course: Course
    faces: RenderedFaces

    def __len__(self) -> int:
        return len(self.course.intensity)

    def draw(self) -> Iterator[np.ndarray]:
        """Draw the frames one by one, uint8 RGB (size, size, 3)."""
        painter, before = FacePainter(self.person, self.setting, self.faces), None
        course = self.course
        for t, (units, pose, side) in enumerate(zip(course.action_units, course.poses, course.side, strict=True)):
            yield painter.draw(units, pose, frame=t, before=before, side=float(side))
            before = pose


def sample_person(seed: int, split: str, number: int, resting: float = RenderedFaces.resting) -> Identity:
    """The `number`-th person of a split; splits never share people, however many of them there are."""
    return Identity.sample(np.random.default_rng([seed, seed_of(split), number]), resting)


def sample_clip(label: str, person: Identity, faces: RenderedFaces, rng: np.random.Generator) -> Clip:
    """Draw setting and course of a clip."""
    course = sample_course(label, faces, rng)
    setting = Setting.sample(rng, faces, len(course.intensity) / faces.fps)
    return Clip(person, setting, course, faces)


def sample_long_clip(
    seconds: float, labels: Sequence[str], person: Identity, faces: RenderedFaces, rng: np.random.Generator
) -> Clip:
    """Draw setting and course of a clip of several emotions; see `sample_long_course`."""
    course = sample_long_course(seconds, labels, faces, rng)
    setting = Setting.sample(rng, faces, min(seconds, _PASSING))
    if hidden := setting.occluder:
        late = float(rng.uniform(0, max(0.0, seconds - _PASSING)))
        hidden = replace(hidden, begin=hidden.begin + late, end=hidden.end + late)
        setting = replace(setting, occluder=hidden)
    return Clip(person, setting, course, faces)


def seed_of(name: str) -> int:
    """A number for a name, which is the same in every process: seeds of NumPy are numbers."""
    return zlib.crc32(name.encode())
