"""The people in rendered clips: everything that is the same in all clips of a person."""

from dataclasses import dataclass

import numpy as np

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, INDEX

HAIR_COLORS = {
    "black": (28, 24, 26),
    "brown": (78, 50, 32),
    "red": (140, 66, 32),
    "blond": (206, 170, 104),
    "grey": (158, 156, 154),
}
SKIN_TONES = {
    "light": (238, 202, 180),
    "tan": (214, 168, 132),
    "brown": (160, 110, 78),
    "dark": (98, 66, 50),
}
EYE_COLORS = {"brown": (92, 56, 30), "blue": (86, 128, 176), "green": (96, 124, 82), "grey": (118, 126, 132)}
HAIR_STYLES = ("short", "parted", "fringe", "long", "curly", "tied back", "receding", "bald")
RESTING = ("AU01", "AU04", "AU12", "AU15", "AU17")
BEARDS = ("none", "none", "none", "none", "none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class Identity:
    """A person: everything that is the same in all of their clips.

    Lengths and widths are factors around 1. Levels and slants are offsets around 0 in 112ths of the frame. Colours are
    RGB from 0 to 255. `age` is from 0 to 1.

    Attributes:
        resting (`np.ndarray` of shape `(A,)`): Resting face: offsets in the order of `ACTION_UNITS`, to which
            movements are added.
    """

    skin_tone: str
    skin: np.ndarray
    hair_color: str
    hair: np.ndarray
    hair_style: str
    beard: str
    glasses: bool
    eye_color: str
    iris: np.ndarray
    lips: np.ndarray
    age: float
    head_width: float
    jaw_width: float
    chin_width: float
    chin_length: float
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_slant: float
    eye_level: float
    brow_level: float
    brow_thickness: float
    brow_arch: float
    brow_slope: float
    nose_width: float
    nose_length: float
    mouth_width: float
    mouth_level: float
    upper_lip: float
    lower_lip: float
    forehead: float
    asymmetry: float
    resting: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator, resting: float = 0.4) -> "Identity":
        """Draws a random person. `resting` is the maximum offset of an action unit in the resting face."""

        def pick(options):
            return options[rng.integers(len(options))]

        def around(center: float, spread: float) -> float:
            return float(center + spread * np.clip(rng.standard_normal(), -2, 2))

        def color(base, spread: float) -> np.ndarray:
            return np.clip(np.array(base) * rng.uniform(1 - spread, 1 + spread) + rng.normal(0, 4, 3), 8, 250)

        skin_tone, age = pick(list(SKIN_TONES)), float(rng.uniform() ** 1.5)
        hair_colors = ["black", "brown"] if skin_tone in ("brown", "dark") else ["black", "brown", "red", "blond"]
        hair_color = "grey" if age > 0.6 and rng.uniform() < 0.6 else pick(hair_colors)
        skin = color(SKIN_TONES[skin_tone], 0.07)
        return cls(
            skin_tone=skin_tone,
            skin=skin,
            hair_color=hair_color,
            hair=color(HAIR_COLORS[hair_color], 0.15),
            hair_style=pick(HAIR_STYLES),
            beard=pick(BEARDS),
            glasses=bool(rng.uniform() < 0.2),
            eye_color=(eye_color := pick(list(EYE_COLORS)) if skin_tone in ("light", "tan") else "brown"),
            iris=color(EYE_COLORS[eye_color], 0.15),
            lips=skin * rng.uniform([0.80, 0.52, 0.52], [0.96, 0.68, 0.70]),
            age=age,
            head_width=around(1, 0.05),
            jaw_width=around(1, 0.07),
            chin_width=around(1, 0.15),
            chin_length=around(1, 0.12),
            eye_distance=around(1, 0.045),
            eye_width=around(1, 0.06),
            eye_height=around(1, 0.11),
            eye_slant=around(0, 0.6),
            eye_level=around(0, 1),
            brow_level=around(0, 0.9),
            brow_thickness=around(1, 0.2),
            brow_arch=around(1, 0.35),
            brow_slope=around(0, 0.5),
            nose_width=around(1, 0.12),
            nose_length=around(1, 0.1),
            mouth_width=around(1, 0.07),
            mouth_level=around(0, 1),
            upper_lip=around(1, 0.22),
            lower_lip=around(1, 0.2),
            forehead=around(1, 0.15),
            asymmetry=around(0, 0.06),
            resting=_resting_face(rng, resting),
        )

    def shown(self, action_units: np.ndarray) -> np.ndarray:
        """Returns the visible action units (A,): a movement (A,) added to the resting face."""
        return np.clip(action_units + self.resting, 0, 1)


def _resting_face(rng: np.random.Generator, maximum: float) -> np.ndarray:
    """Draws the offsets (A,) of a resting face. Most of them are 0, and half of all people have none."""
    offsets = np.zeros(len(ACTION_UNITS))
    units = [INDEX[name] for name in RESTING]
    offsets[units] = rng.uniform(0, maximum, len(units)) * (rng.uniform(size=len(units)) < 0.5)
    return offsets * (rng.uniform() < 0.5)
