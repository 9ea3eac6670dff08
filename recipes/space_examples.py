"""Renders the example clips of the Space, which are part of the package.

`python -m recipes.space_examples` writes them to `model_card/space/examples`. Rendering takes about ten seconds, so
the page does not do it when it starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from tgdfer.training.rendered_faces import RenderedFaces, sample_person
from tgdfer.training.rendered_faces.rendered_clip import RenderedClip, sample_long_clip
from tgdfer.training.video_writing import write_video

# Calm faces in even light, so that the examples show the page rather than the limits of the model.
FACES = RenderedFaces(
    size=144,
    supersampling=2,
    fps=20,
    strength=(0.95, 1.0),
    lookalikes=0.0,
    movements=(0, 0),
    speech=0.0,
    resting=0.0,
    turn=8.0,
    nod=4.0,
    tilt=4.0,
    occlusion=0.0,
    noise=(0.0, 1.0),
)
# Height and width of the part of a picture that one person has. The face is smaller, so that it has to be found.
ROOM = 240


@dataclass(frozen=True)
class Person:
    """A rendered person: the seed of looks and movement, and the labels of the expressions that may be shown."""

    seed: int
    labels: tuple[str, ...]

    def clip(self, seconds: float) -> RenderedClip:
        """Draws looks, light and movement from the seed."""
        person = sample_person(self.seed, "space", 0, FACES.resting)
        return sample_long_clip(seconds, self.labels, person, FACES, np.random.default_rng(self.seed))


# File name without suffix, length in seconds, and the people who are shown.
CLIPS = {
    "one_expression": (4.0, (Person(8, ("happiness",)),)),
    "several_expressions": (6.0, (Person(2, ("happiness", "surprise")),)),
    "two_people": (4.0, (Person(7, ("surprise",)), Person(6, ("happiness",)))),
}


def write_examples(folder: str | Path) -> list[Path]:
    """Renders the examples as MP4 files. The same files are written every time.

    Args:
        folder (`str` or `Path`): Folder to write to. It is created if it does not exist.

    Returns:
        `list[Path]`: The files, in the order of `CLIPS`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.mp4" for name in CLIPS]
    for path, (seconds, people) in zip(paths, CLIPS.values(), strict=True):
        write_video(path, _pictures(seconds, people), FACES.fps, crf=20)
    return paths


def _pictures(seconds: float, people: Sequence[Person]) -> Iterator[np.ndarray]:
    """Yields the frames (H, W, 3) of an example, in which the people are side by side."""
    for faces in zip(*(person.clip(seconds).draw() for person in people), strict=True):
        yield np.concatenate([_in_room(face) for face in faces], axis=1)


def _in_room(face: np.ndarray) -> np.ndarray:
    """Places a face (S, S, 3) in a larger picture (ROOM, ROOM, 3) that continues its background."""
    before = (ROOM - face.shape[0]) // 2
    after = ROOM - face.shape[0] - before
    # Borders that repeat the edge would continue the shoulders as stripes, so they are blurred.
    room = cv2.copyMakeBorder(face, before, after, before, after, cv2.BORDER_REPLICATE)
    room = cv2.GaussianBlur(room, (0, 0), 12)
    near = np.minimum(np.arange(face.shape[0]) + 1, np.arange(face.shape[0])[::-1] + 1) / 8
    mask = np.minimum(1.0, np.minimum.outer(near, near))[..., None]
    inside = slice(before, before + face.shape[0])
    room[inside, inside] = np.round(mask * face + (1 - mask) * room[inside, inside])
    return room


if __name__ == "__main__":
    write_examples(Path(__file__).parents[1] / "model_card" / "space" / "examples")
