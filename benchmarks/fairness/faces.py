"""Rendered faces with the same expressions that differ in one attribute: skin, age, glasses, beard, pose or light."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tgdfer.training.rendered_faces import (
    EMOTIONS,
    HAIR_COLORS,
    SKIN_TONES,
    FacePainter,
    Identity,
    Pose,
    RenderedFaces,
    Setting,
    apex,
    sample_person,
)

# Name of the split. No model is trained on it.
SPLIT = "fairness"
# Range of the strength of the expressions. If all were at full strength, a model would classify every group correctly.
STRENGTH = (0.4, 1.0)


@dataclass(frozen=True)
class Appearance:
    """Changes to a face, its setting and its pose. Everything else stays the same.

    Attributes:
        person (`dict[str, Any]`): Changed fields of `Identity`.
        setting (`dict[str, Any]`): Changed fields of `Setting`.
        pose (`Pose`, *optional*): Pose of the head.
    """

    person: dict[str, Any]
    setting: dict[str, Any]
    pose: Pose = Pose()


def _person(**fields: Any) -> Appearance:
    return Appearance(fields, {})


def _setting(**fields: Any) -> Appearance:
    return Appearance({}, fields)


def _posed(**fields: float) -> Appearance:
    return Appearance({}, {}, Pose(**fields))


# Groups of each factor. The first group is the reference with which the others are compared.
FACTORS: dict[str, dict[str, Appearance]] = {
    "skin colour": {tone: _person(skin_tone=tone) for tone in SKIN_TONES},
    "age lines": {"none": _person(age=0.0), "some": _person(age=0.5), "deep": _person(age=1.0)},
    "glasses": {"no": _person(glasses=False), "yes": _person(glasses=True)},
    "beard": {kind: _person(beard=kind) for kind in ("none", "stubble", "moustache", "goatee", "full")},
    "head pose": {
        "frontal": _posed(),
        "turned 20° left": _posed(turn=-20.0),
        "turned 20° right": _posed(turn=20.0),
        "up 10°": _posed(nod=-10.0),
        "down 10°": _posed(nod=10.0),
        "tilted 9°": _posed(tilt=9.0),
    },
    "light": {
        "even": _setting(),
        "from the left": _setting(light_side=-1.0, light_contrast=0.8),
        "from the right": _setting(light_side=1.0, light_contrast=0.8),
        "dim": _setting(brightness=0.75),
        "bright": _setting(brightness=1.2),
        "bluish": _setting(warmth=-1.0),
        "yellowish": _setting(warmth=1.0),
    },
}


@dataclass(frozen=True)
class Picture:
    """A rendered picture.

    Attributes:
        factor (`str`): Name of the factor.
        group (`str`): Name of the group.
        person (`int`): Number of the person.
        label (`str`): Emotion that the face shows.
        image (`np.ndarray`): Uint8 RGB (112, 112, 3).
    """

    factor: str
    group: str
    person: int
    label: str
    image: np.ndarray


def rendered_groups(people: int, seed: int = 0) -> Iterator[Picture]:
    """Renders every person with every emotion in every group of every factor.

    For a person and an emotion, the action units, the background, the clothes and the noise are the same in all
    groups. As in all rendered faces, the exposure of the camera is adapted to the skin.

    Args:
        people (`int`): Number of people.
        seed (`int`, *optional*, defaults to `0`): Random seed of the people and of their expressions.
    """
    faces = RenderedFaces()
    for number in range(people):
        reference = _reference_person(sample_person(seed, SPLIT, number))
        for index, label in enumerate(EMOTIONS):
            rng = np.random.default_rng([seed, number, index])
            units = apex(label, rng) * rng.uniform(*STRENGTH)
            setting = _reference_setting(Setting.sample(rng, faces))
            for factor, groups in FACTORS.items():
                for group, appearance in groups.items():
                    person = _with_appearance(reference, appearance)
                    painter = FacePainter(person, replace(setting, **appearance.setting), faces)
                    yield Picture(factor, group, number, label, painter.draw(units, appearance.pose))


def _reference_person(person: Identity) -> Identity:
    """Changes a person to the reference group of every factor. Hair and eyes are plausible for every skin colour."""
    eyes: dict[str, Any] = {"eye_color": "brown", "iris": np.array((92, 56, 30))}
    hair: dict[str, Any] = {"hair_color": "black", "hair": np.array(HAIR_COLORS["black"])}
    reference = replace(person, age=0.0, glasses=False, beard="none", **hair, **eyes)
    return _with_appearance(reference, _person(skin_tone=next(iter(SKIN_TONES))))


def _with_appearance(person: Identity, appearance: Appearance) -> Identity:
    """Changes the appearance of a person. With another skin colour, the ratio of lip colour to skin colour is kept."""
    changes = dict(appearance.person)
    if "skin_tone" in changes:
        skin = np.array(SKIN_TONES[changes["skin_tone"]], float)
        changes |= {"skin": skin, "lips": person.lips * skin / person.skin}
    return replace(person, **changes)


def _reference_setting(setting: Setting) -> Setting:
    """Changes a setting to the reference group of the light, without objects in front of the face."""
    return replace(
        setting, light_side=0.0, light_contrast=0.3, brightness=1.0, warmth=0.0, light_side_drift=0.0,
        brightness_drift=0.0, blur=0.0, occluder=None,
    )  # fmt: skip
