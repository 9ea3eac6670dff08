"""Rendered faces with the same expressions that differ in one respect: skin, age, glasses, beard, pose or light."""

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

# A split of its own, so that nobody of it is in any training.
SPLIT = "fairness"
# Expressions are weak to full. If all were full, a model would be right about every group.
STRENGTH = (0.4, 1.0)


@dataclass(frozen=True)
class Look:
    """What is changed of a face, a setting and a pose; everything else stays.

    Attributes:
        person: fields of `Identity`.
        setting: fields of `Setting`.
        pose: pose of the head.
    """

    person: dict[str, Any]
    setting: dict[str, Any]
    pose: Pose = Pose()


def _person(**fields: Any) -> Look:
    return Look(fields, {})


def _setting(**fields: Any) -> Look:
    return Look({}, fields)


def _posed(**fields: float) -> Look:
    return Look({}, {}, Pose(**fields))


# For each factor its groups. The first one is the reference, with which the others are compared.
FACTORS: dict[str, dict[str, Look]] = {
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
        factor: name of the factor.
        group: group of the factor.
        person: number of the person.
        label: emotion that the face shows.
        image: uint8 RGB (112, 112, 3).
    """

    factor: str
    group: str
    person: int
    label: str
    image: np.ndarray


def rendered_groups(people: int, seed: int = 0) -> Iterator[Picture]:
    """Draws every person with every emotion in every group of every factor.

    The action units of a person and an emotion are the same in all groups, and so are background, clothes and noise.
    As in all rendered faces, the exposure of the camera follows the skin.

    Args:
        people: number of people.
        seed: seed of the people and their expressions.
    """
    faces = RenderedFaces()
    for number in range(people):
        plain = _plain_person(sample_person(seed, SPLIT, number))
        for place, label in enumerate(EMOTIONS):
            rng = np.random.default_rng([seed, number, place])
            units = apex(label, rng) * rng.uniform(*STRENGTH)
            setting = _plain_setting(Setting.sample(rng, faces))
            for factor, groups in FACTORS.items():
                for group, look in groups.items():
                    painter = FacePainter(_changed(plain, look), replace(setting, **look.setting), faces)
                    yield Picture(factor, group, number, label, painter.draw(units, look.pose))


def _plain_person(person: Identity) -> Identity:
    """A person in the reference group of every factor. Hair and eyes fit every skin colour."""
    eyes: dict[str, Any] = {"eye_color": "brown", "iris": np.array((92, 56, 30))}
    hair: dict[str, Any] = {"hair_color": "black", "hair": np.array(HAIR_COLORS["black"])}
    plain = replace(person, age=0.0, glasses=False, beard="none", **hair, **eyes)
    return _changed(plain, _person(skin_tone=next(iter(SKIN_TONES))))


def _changed(person: Identity, look: Look) -> Identity:
    """A person with changes. Of another skin colour, the lips are as much darker than the skin as before."""
    changes = dict(look.person)
    if "skin_tone" in changes:
        skin = np.array(SKIN_TONES[changes["skin_tone"]], float)
        changes |= {"skin": skin, "lips": person.lips * skin / person.skin}
    return replace(person, **changes)


def _plain_setting(setting: Setting) -> Setting:
    """A setting in the reference group of the light, in which nothing hides the face."""
    return replace(
        setting, light_side=0.0, light_contrast=0.3, brightness=1.0, warmth=0.0, light_side_drift=0.0,
        brightness_drift=0.0, blur=0.0, occluder=None,
    )  # fmt: skip
