"""A clip before it is drawn: its person, setting and course, and how they are sampled."""

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
_OCCLUSION_SECONDS = 5.0


@dataclass(frozen=True)
class RenderedClip:
    """A clip before it is drawn. Its length is the number of its frames.

    Attributes:
        person (`Identity`): The person.
        setting (`Setting`): Light, background, camera and occluder.
        course (`Course`): What the face does in each frame.
        faces (`RenderedFaces`): Parameters of the generator.
    """

    person: Identity
    setting: Setting
    course: Course
    faces: RenderedFaces

    def __len__(self) -> int:
        return len(self.course.intensity)

    def draw(self) -> Iterator[np.ndarray]:
        """Draws the frames one by one, as uint8 RGB (size, size, 3)."""
        painter, before = FacePainter(self.person, self.setting, self.faces), None
        course = self.course
        for t, (units, pose, side) in enumerate(zip(course.action_units, course.poses, course.side, strict=True)):
            yield painter.draw(units, pose, frame=t, before=before, side=float(side))
            before = pose


def sample_person(seed: int, split: str, number: int, resting: float = RenderedFaces.resting) -> Identity:
    """Draws a person of a split. Different splits never share people.

    Args:
        seed (`int`): Seed of the data set.
        split (`str`): Name of the split.
        number (`int`): Index of the person in the split.
        resting (`float`, *optional*, defaults to `RenderedFaces.resting`): Maximum offset of an action unit in the
            resting face.
    """
    return Identity.sample(np.random.default_rng([seed, seed_of(split), number]), resting)


def sample_clip(label: str, person: Identity, faces: RenderedFaces, rng: np.random.Generator) -> RenderedClip:
    """Draws the setting and the course of a clip; see `sample_course`."""
    course = sample_course(label, faces, rng)
    setting = Setting.sample(rng, faces, len(course.intensity) / faces.fps)
    return RenderedClip(person, setting, course, faces)


def sample_long_clip(
    seconds: float, labels: Sequence[str], person: Identity, faces: RenderedFaces, rng: np.random.Generator
) -> RenderedClip:
    """Draws the setting and the course of a clip with several emotions; see `sample_long_course`."""
    course = sample_long_course(seconds, labels, faces, rng)
    setting = Setting.sample(rng, faces, min(seconds, _OCCLUSION_SECONDS))
    if occluder := setting.occluder:
        delay = float(rng.uniform(0, max(0.0, seconds - _OCCLUSION_SECONDS)))
        occluder = replace(occluder, begin=occluder.begin + delay, end=occluder.end + delay)
        setting = replace(setting, occluder=occluder)
    return RenderedClip(person, setting, course, faces)


def seed_of(name: str) -> int:
    """Returns a number for a name, which is the same in every process. NumPy only accepts numbers as seeds."""
    return zlib.crc32(name.encode())
