"""All that can be chosen about rendered faces: the generator, a person, a setting."""

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
OCCLUDERS = ("hand on the chin", "hand on the cheek", "hand on the brow", "cup", "phone", "microphone")
BEARDS = ("none", "none", "none", "none", "none", "stubble", "moustache", "goatee", "full")


@dataclass(frozen=True)
class RenderedFaces:
    """Parameters of the generator; a data set is a function of these, the numbers of clips and people, and a seed.

    Ranges are `(lowest, highest)` and are drawn from evenly, once a clip.

    Attributes:
        size: Width and height of a frame in pixels.
        supersampling: Faces are drawn this many times larger and averaged down.
        fps: Frames a second.
        frames: Frames a clip.
        strength: Scale of the action units at the apex; 1 is the full prototype.
        share: Share of the frames in which the emotion is at half of its apex or more.
        onset: Seconds from neutral to apex.
        offset: Seconds from apex to neutral.
        posed_onset: The same of a posed smile, which is quicker.
        posed_offset: The same of a posed smile, which ends at once.
        lookalikes: Share of the clips in which something happens that only its course in time tells from an emotion: a
            posed smile, brows that go up in speech, lids that close slowly; neutral clips always hold one.
        movements: Unrelated movements of single action units in a clip; a neutral clip gets more, to move as much.
        movement: Intensity of such a movement.
        blinks: Blinks a second.
        speech: Share of the clips in which the person speaks for a while.
        resting: Largest offset of an action unit in a person's resting face.
        turn: Largest turn of the head to a side, in degrees.
        nod: Largest turn of the head up or down, in degrees.
        tilt: Largest in-plane rotation, in degrees.
        shift: Largest shift of the face, in 112ths of the frame.
        scale: Size of the face; at 1 the head fills the frame from top to bottom, as aligned faces do.
        restlessness: How far pose drifts within a clip, as a share of `turn`, `nod`, `tilt` and `shift`.
        shake: Standard deviation of the camera's shake from frame to frame, in 112ths of the frame.
        light_drift: Largest change of brightness and of the light's side within a clip, as a share of their range.
        occlusion: Share of the clips in which a hand or an object hides a part of the face for a while.
        shutter: Share of the time between two frames in which the shutter is open, which blurs what moves.
        noise: Standard deviation of the sensor noise in grey levels.
        crf: Constant rate factor of the H.264 encoder; 18 loses nothing the eye sees, 32 shows blocks.
    """

    size: int = 112
    supersampling: int = 3
    fps: int = 25
    frames: tuple[int, int] = (16, 96)
    strength: tuple[float, float] = (0.6, 1.0)
    share: tuple[float, float] = (0.15, 0.6)
    onset: tuple[float, float] = (0.2, 0.8)
    offset: tuple[float, float] = (0.2, 1.2)
    posed_onset: tuple[float, float] = (0.04, 0.12)
    posed_offset: tuple[float, float] = (0.04, 0.1)
    lookalikes: float = 0.3
    movements: tuple[int, int] = (0, 2)
    movement: tuple[float, float] = (0.25, 0.7)
    blinks: float = 0.3
    speech: float = 0.2
    resting: float = 0.4
    turn: float = 20.0
    nod: float = 10.0
    tilt: float = 9.0
    shift: float = 4.0
    scale: tuple[float, float] = (0.86, 1.06)
    restlessness: float = 0.3
    shake: float = 0.3
    light_drift: float = 0.3
    occlusion: float = 0.2
    shutter: tuple[float, float] = (0.0, 0.8)
    noise: tuple[float, float] = (0.0, 5.0)
    crf: tuple[int, int] = (18, 30)


@dataclass(frozen=True)
class Identity:
    """What stays the same in every clip of a person; lengths are factors around 1, colours are RGB 0..255.

    `resting` (A,) is the face at rest: offsets in the order of `ACTION_UNITS`, to which all movement is added.
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
        """Draw a person whose action units at rest reach `resting` at most."""

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
        """What the face shows: movement (A,) on top of the resting face."""
        return np.clip(action_units + self.resting, 0, 1)


def _resting_face(rng: np.random.Generator, largest: float) -> np.ndarray:
    """Offsets (A,) at rest, of which most are 0: half of all people look neutral when they are."""
    offsets = np.zeros(len(ACTION_UNITS))
    units = [INDEX[name] for name in RESTING]
    offsets[units] = rng.uniform(0, largest, len(units)) * (rng.uniform(size=len(units)) < 0.5)
    return offsets * (rng.uniform() < 0.5)


def _muted(rng: np.random.Generator, colors: int) -> np.ndarray:
    """Colours (colors, 3) of rooms and clothes: mostly grey."""
    return rng.uniform(25, 225, (colors, 1)) * rng.uniform(0.8, 1.2, (colors, 3)) + rng.uniform(-18, 18, (colors, 3))


@dataclass(frozen=True)
class Occluder:
    """A hand or an object that hides a part of the face for a while.

    Attributes:
        kind: One of `OCCLUDERS`.
        begin: Second at which it starts to come; before 0 it is there from the first frame on.
        end: Second at which it is gone.
        side: -1 it comes from the left of the picture, 1 from the right.
        place: Where its tip rests, (x, y) from the usual place, in 112ths of the frame.
        angle: Degrees it is turned by.
        size: Factor around 1.
        color: RGB of an object.
    """

    kind: str
    begin: float
    end: float
    side: int
    place: np.ndarray
    angle: float
    size: float
    color: np.ndarray

    @classmethod
    def sample(cls, rng: np.random.Generator, seconds: float) -> "Occluder":
        """Draw what comes into a clip of `seconds` seconds; in a still of 0 seconds it is there at once."""
        begin, lasts = rng.uniform(-0.6, max(0.4, seconds - 0.4)), rng.uniform(0.8, max(1.0, 0.6 * seconds))
        return cls(
            kind=str(rng.choice(OCCLUDERS)),
            begin=float(begin) if seconds else -1.0,
            end=float(begin + lasts) if seconds else 1.0,
            side=int(rng.choice([-1, 1])),
            place=rng.normal(0, 2.0, 2).clip(-4, 4),
            angle=float(rng.uniform(-12, 12)),
            size=float(rng.uniform(0.85, 1.15)),
            color=_muted(rng, 1)[0],
        )

    def presence(self, seconds: float) -> float:
        """How far it has come: 0 out of sight .. 1 in its place."""
        return float(np.clip(min(seconds - self.begin, self.end - seconds) / 0.35, 0, 1))


@dataclass(frozen=True)
class Setting:
    """Light, background and camera of a clip.

    Attributes:
        light_side: -1 light from the left of the picture .. 1 from the right.
        light_contrast: How much darker the far side of the face is, 0..1.
        brightness: Gain of the picture.
        light_side_drift: How far the light wanders to either side within the clip.
        brightness_drift: How far the brightness swings up and down within the clip.
        drift_period: Seconds of a full swing.
        warmth: -1 bluish .. 1 yellowish light.
        backdrop: Two RGB colours, top and bottom of the background.
        backdrop_seed: Seed of what stands in the background.
        clothes: RGB.
        noise: Standard deviation of the sensor noise in grey levels.
        blur: Standard deviation of the lens blur in pixels.
        shutter: Share of the time between two frames in which the shutter is open.
        crf: Constant rate factor of the H.264 encoder.
        occluder: What hides a part of the face for a while, if anything does.
    """

    light_side: float
    light_contrast: float
    brightness: float
    light_side_drift: float
    brightness_drift: float
    drift_period: float
    warmth: float
    backdrop: np.ndarray
    backdrop_seed: int
    clothes: np.ndarray
    noise: float
    blur: float
    shutter: float
    crf: int
    occluder: Occluder | None

    @classmethod
    def sample(cls, rng: np.random.Generator, faces: RenderedFaces, seconds: float = 0.0) -> "Setting":
        """Draw the setting of a clip of `seconds` seconds, or of a still."""
        return cls(
            light_side=float(rng.uniform(-1, 1)),
            light_contrast=float(rng.uniform(0.1, 0.8)),
            brightness=float(rng.uniform(0.75, 1.2)),
            light_side_drift=float(rng.uniform(-1, 1) * faces.light_drift),
            brightness_drift=float(rng.uniform(-0.25, 0.25) * faces.light_drift),
            drift_period=float(rng.uniform(2, 8)),
            warmth=float(rng.uniform(-1, 1)),
            backdrop=_muted(rng, 2),
            backdrop_seed=int(rng.integers(2**31)),
            clothes=_muted(rng, 1)[0],
            noise=float(rng.uniform(*faces.noise)),
            blur=float(max(0.0, rng.uniform(-0.6, 0.7))),
            shutter=float(rng.uniform(*faces.shutter)),
            crf=int(rng.integers(faces.crf[0], faces.crf[1] + 1)),
            occluder=Occluder.sample(rng, seconds) if rng.uniform() < faces.occlusion else None,
        )

    def light_at(self, seconds: float) -> tuple[float, float]:
        """Side of the light (-1..1) and gain of the picture at a time in the clip."""
        swing = float(np.sin(2 * np.pi * seconds / self.drift_period))
        side = float(np.clip(self.light_side + swing * self.light_side_drift, -1, 1))
        return side, self.brightness * (1 + swing * self.brightness_drift)
