"""Rendered faces that move in one way, and the region in which they differ from the same face at rest."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import action_unit_vector
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.poses import sample_poses
from tgdfer.training.rendered_faces.rendered_clip import sample_person, seed_of
from tgdfer.training.rendered_faces.setting import Setting

# A point is right up to this distance from the region, as a share of the side of the picture: 15 of 224 pixels in the
# pointing game of Zhang et al. (2018), "Top-down neural attention by excitation backprop".
TOLERANCE = 15 / 224
# A pixel belongs to the region if it has changed by at least this share of the pixel that has changed most. The
# changes are smoothed first, with this standard deviation in pixels.
CHANGED, SMOOTHING = 0.35, 2.0


@dataclass(frozen=True)
class Movement:
    """A movement of the face.

    Attributes:
        units: Action units at full intensity.
        text: Description of the movement.
        part: Part of the face that moves.
    """

    units: tuple[str, ...]
    text: str
    part: str

    @property
    def name(self) -> str:
        """Short name, such as "AU01+02"."""
        return "AU" + "+".join(unit.removeprefix("AU") for unit in self.units)


# All action units of the renderer alone (AU45 looks like AU43), and two common combinations.
MOVEMENTS = (
    Movement(("AU01",), "inner brows raised", "brows"),
    Movement(("AU02",), "outer brows raised", "brows"),
    Movement(("AU01", "AU02"), "raised eyebrows", "brows"),
    Movement(("AU04",), "brows lowered and drawn together", "brows"),
    Movement(("AU05",), "eyes wide open", "eyes"),
    Movement(("AU07",), "lids tightened", "eyes"),
    Movement(("AU43",), "eyes closed", "eyes"),
    Movement(("AU06",), "cheeks raised", "nose and cheeks"),
    Movement(("AU09",), "nose wrinkled", "nose and cheeks"),
    Movement(("AU10",), "upper lip raised", "mouth"),
    Movement(("AU12",), "lip corners pulled up", "mouth"),
    Movement(("AU14",), "lip corners tucked in", "mouth"),
    Movement(("AU15",), "lip corners pulled down", "mouth"),
    Movement(("AU20",), "lips stretched sideways", "mouth"),
    Movement(("AU23",), "lips tightened", "mouth"),
    Movement(("AU24",), "lips pressed together", "mouth"),
    Movement(("AU25",), "lips parted", "mouth"),
    Movement(("AU28",), "lips sucked in", "mouth"),
    Movement(("AU17",), "chin raised", "chin and jaw"),
    Movement(("AU26",), "jaw lowered", "chin and jaw"),
    Movement(("AU25", "AU26"), "jaw dropped", "chin and jaw"),
)


@dataclass(frozen=True)
class MovedFace:
    """A face that moves.

    Attributes:
        person: Number of the person.
        movement: Index in `MOVEMENTS`.
        picture: uint8 RGB (S, S, 3).
        region: (S, S) True where the face differs from the same face at rest.
    """

    person: int
    movement: int
    picture: np.ndarray
    region: np.ndarray

    @property
    def near(self) -> np.ndarray:
        """(S, S) True where a point is right: in the region, or within the tolerance."""
        distance = cv2.distanceTransform((~self.region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return distance <= TOLERANCE * len(self.region)


def moved_faces(split: str, people: int) -> Iterator[MovedFace]:
    """Draws every person of a split with every movement. Pose, light and noise differ from picture to picture.

    Splits do not share people with each other, or with the faces on which models are trained.
    """
    faces = RenderedFaces()
    for number in range(people):
        person = sample_person(0, f"regions {split}", number, faces.resting)
        for index, movement in enumerate(MOVEMENTS):
            rng = np.random.default_rng([seed_of(f"regions {split}"), number, index])
            painter = FacePainter(person, replace(Setting.sample(rng, faces), occluder=None), faces)
            (pose,) = sample_poses(1, faces, rng)
            at_rest = painter.draw(action_unit_vector({}), pose)
            picture = painter.draw(action_unit_vector(dict.fromkeys(movement.units, 1.0)), pose)
            yield MovedFace(number, index, picture, changed_region(picture, at_rest))


def changed_region(picture: np.ndarray, at_rest: np.ndarray) -> np.ndarray:
    """Returns where two pictures (S, S, 3) of a face differ: mask (S, S)."""
    change = np.abs(picture.astype(np.float32) - at_rest).sum(-1)
    change = cv2.GaussianBlur(change, (0, 0), SMOOTHING)
    return change >= CHANGED * change.max()
