"""A clip before it is drawn: the person, the setting and the course, and how they are drawn at random."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tgdfer.training.rendered_faces.courses import Course, sample_course, sample_long_course
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.people import Identity
from tgdfer.training.rendered_faces.setting import Setting

# Period in seconds in which the occluder of a long clip appears and disappears.
_PASSING = 5.0


@dataclass(frozen=True)
class Clip:
    """A clip before it is drawn; its length is the number of its frames."""

    person: Identity
    setting: Setting
    course: Course
    faces: RenderedFaces

    def __len__(self) -> int:
        return len(self.course.intensity)

    def draw(self) -> Iterator[np.ndarray]:
        """Draws the frames one by one, uint8 RGB (size, size, 3)."""
        painter, before = FacePainter(self.person, self.setting, self.faces), None
        course = self.course
        for t, (units, pose, side) in enumerate(zip(course.action_units, course.poses, course.side, strict=True)):
            yield painter.draw(units, pose, frame=t, before=before, side=float(side))
            before = pose


def sample_person(seed: int, split: str, number: int, resting: float = RenderedFaces.resting) -> Identity:
    """Draws a person of a split. Splits never share people, however many people they have.

    Args:
        seed: Seed of the data set.
        split: Name of the split.
        number: Number of the person in the split.
        resting: Largest offset of an action unit in the resting face.
    """
    return Identity.sample(np.random.default_rng([seed, seed_of(split), number]), resting)


def sample_clip(label: str, person: Identity, faces: RenderedFaces, rng: np.random.Generator) -> Clip:
    """Draws the setting and the course of a clip; see `sample_course`."""
    course = sample_course(label, faces, rng)
    setting = Setting.sample(rng, faces, len(course.intensity) / faces.fps)
    return Clip(person, setting, course, faces)


def sample_long_clip(
    seconds: float, labels: Sequence[str], person: Identity, faces: RenderedFaces, rng: np.random.Generator
) -> Clip:
    """Draws the setting and the course of a clip with several emotions; see `sample_long_course`."""
    course = sample_long_course(seconds, labels, faces, rng)
    setting = Setting.sample(rng, faces, min(seconds, _PASSING))
    if hidden := setting.occluder:
        late = float(rng.uniform(0, max(0.0, seconds - _PASSING)))
        hidden = replace(hidden, begin=hidden.begin + late, end=hidden.end + late)
        setting = replace(setting, occluder=hidden)
    return Clip(person, setting, course, faces)


def seed_of(name: str) -> int:
    """A number for a name, the same in every process, because the seeds of NumPy are numbers."""
    return zlib.crc32(name.encode())
