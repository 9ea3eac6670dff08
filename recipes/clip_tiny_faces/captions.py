"""Captions of rendered faces, and the facts about a picture from which they are made.

Every caption consists of phrases, and every phrase requires some facts. For every picture the facts are known. It is
therefore known whether any caption is true of any picture. In training, a caption that is also true of another picture
is not a negative for that picture.
"""

from collections.abc import Mapping

import numpy as np

from tgdfer.training.rendered_faces import (
    ACTION_UNITS,
    HAIR_COLORS,
    SKIN_TONES,
    Identity,
    Pose,
    Setting,
)

# Phrases about the face, by the facts that they require. A fact that starts with "no " is an absent action unit.
FACE: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("AU01",): (
        "inner brows raised",
        "the inner ends of the brows pulled up",
        "inner corners of the eyebrows lifted",
    ),
    ("AU02",): ("outer brows raised", "the outer ends of the brows lifted"),
    ("AU01", "AU02", "no AU04"): (
        "both brows raised high in round arches",
        "raised eyebrows",
        "brows lifted high, long wrinkles across the forehead",
        "brows shooting up and wrinkles straight across the forehead",
    ),
    ("AU01", "AU04", "no AU02"): (
        "inner brows raised and drawn together",
        "brows slanting down to the outside, a furrowed middle of the forehead",
        "inner ends of the brows up in a pleading slant",
        "brows drawn up in the middle",
    ),
    ("AU01", "AU02", "AU04"): (
        "brows raised and pulled together",
        "brows raised and drawn together into a flat line",
        "short wrinkles in the middle of the forehead between lifted, knitted brows",
    ),
    ("AU04",): ("brows drawn together", "knitted brows", "a crease between the brows"),
    ("AU04", "no AU01", "no AU02"): (
        "brows lowered and drawn together",
        "brows pulled low and tight together",
        "a frown with upright creases between the brows",
        "lowered brows, a deep crease between them",
    ),
    ("AU05",): (
        "eyes wide open",
        "upper lids raised",
        "white showing above the iris",
        "eyes opened wide and round",
        "staring, wide eyes",
    ),
    ("AU05", "AU04", "no AU01"): ("glaring eyes", "eyes fixed in a hard stare under lowered brows"),
    ("AU06",): ("cheeks raised", "lifted cheeks", "fine wrinkles fanning out from the outer corners of the eyes"),
    ("AU07",): ("tense lower lids", "lids tightened", "eyes narrowed", "narrow, tense eyes"),
    ("AU06", "AU12"): (
        "eyes narrowed by lifted cheeks",
        "a smile that lifts the cheeks",
        "cheeks bunched up by a smile",
        "lip corners pulled up and cheeks raised",
    ),
    ("AU09",): (
        "nose wrinkled",
        "a wrinkled nose",
        "nose wrinkled along its bridge, nostrils drawn up",
        "nostrils lifted",
    ),
    ("AU10",): (
        "upper lip raised",
        "upper lip lifted high toward the nose",
        "deep folds from the nostrils to the corners of the mouth and a raised upper lip",
        "the upper lip curled up",
    ),
    ("AU10", "AU25"): ("bared teeth under a raised upper lip", "upper lip lifted, teeth showing"),
    ("AU12",): (
        "lip corners pulled up",
        "a smile",
        "smiling",
        "lip corners pulled up and back into a smile",
        "corners of the mouth raised",
    ),
    ("AU12", "AU25"): (
        "broad open smile that shows the upper teeth",
        "smiling with parted lips",
        "a wide smile showing teeth",
    ),
    ("AU12", "AU26"): ("laughing with the mouth wide open", "an open laugh"),
    ("AU14",): (
        "dimples pressed into the cheeks",
        "corners of the mouth tightened and pulled in",
        "lip corners tucked in",
    ),
    ("AU15",): (
        "lip corners pulled down",
        "corners of the mouth sinking",
        "mouth turned down",
        "down-turned lip corners",
    ),
    ("AU15", "AU17"): (
        "lip corners turned down and chin pushed up",
        "a mouth shrug",
        "lower lip pushed up as if about to cry",
    ),
    ("AU17",): ("chin raised", "chin wrinkled and pushed up", "chin wrinkled and lower lip pushed up"),
    ("AU20",): (
        "lips stretched sideways",
        "lip corners stretched straight back toward the ears",
        "mouth stretched wide and flat",
    ),
    ("AU20", "AU25"): ("mouth stretched and slightly open", "lips stretched apart, mouth tense"),
    ("AU23",): ("lips tightened", "tight lips", "lips taut and narrow"),
    ("AU23", "AU25"): ("taut lips around an open mouth", "mouth open with tight lips, shouting"),
    ("AU24",): ("lips pressed together", "lips pressed firmly into a thin line", "thin, pressed lips"),
    ("AU28",): ("lips sucked in", "lips rolled in over the teeth", "no red of the lips to be seen"),
    ("AU25",): ("lips parted", "mouth slightly open", "open mouth", "parted lips"),
    ("AU25", "AU26"): ("jaw dropped", "mouth hanging open", "jaw lowered, mouth wide open", "a gaping mouth"),
    ("AU43", "no AU45"): ("upper lids drooping", "eyes half closed", "lowered lids"),
    ("AU45",): ("eyes closed", "a blink", "both eyes shut", "closed lids"),
    ("no AU25", "no AU24", "no AU23", "no AU28"): ("mouth closed", "lips closed"),
    ("no AU01", "no AU02", "no AU04"): ("smooth forehead", "level, relaxed brows", "brows at rest"),
    ("no AU05", "no AU06", "no AU07", "no AU43", "no AU45"): (
        "eyes open at their usual width",
        "calm and steady gaze",
    ),
    ("no AU12", "no AU15", "no AU20", "no AU14"): ("lip corners neither raised nor lowered", "straight mouth"),
    ("no AU06", "no AU09", "no AU10", "no AU12"): ("relaxed cheeks", "smooth cheeks"),
}

# Emotional context, and the name of the emotion.
CONTEXT: Mapping[str, tuple[str, ...]] = {
    "anger": (
        "anger",
        "an angry face",
        "an angry person",
        "furious",
        "an angry person in a quarrel",
        "rage at being wronged",
        "ready to attack",
        "an expression of anger",
    ),
    "contempt": (
        "contempt",
        "a contemptuous face",
        "a contemptuous person",
        "scorn for somebody",
        "a smirk of contempt",
        "looking down on somebody",
        "an expression of contempt",
    ),
    "disgust": (
        "disgust",
        "a disgusted face",
        "a disgusted person",
        "repelled by a foul smell",
        "about to gag at something revolting",
        "disgusted by a bad taste",
        "an expression of disgust",
    ),
    "fear": (
        "fear",
        "a fearful face",
        "a frightened person",
        "scared of a danger",
        "a frightened person who faces a threat",
        "about to flee, afraid",
        "terrified",
        "an expression of fear",
    ),
    "happiness": (
        "happiness",
        "a happy face",
        "a happy person",
        "joy at good news",
        "enjoying a joke with friends",
        "a happy person in the company of friends",
        "cheerful",
        "an expression of happiness",
    ),
    "neutral": (
        "neutral",
        "a neutral face",
        "a calm person",
        "no particular emotion",
        "a calm person who listens and waits",
        "a relaxed face, no muscle tensed",
        "a neutral expression",
    ),
    "sadness": (
        "sadness",
        "a sad face",
        "a sad person",
        "grieving over a loss",
        "a sad person at a farewell",
        "about to cry",
        "unhappy and sorrowful",
        "an expression of sadness",
    ),
    "surprise": (
        "surprise",
        "a surprised face",
        "a surprised person",
        "startled by something sudden",
        "a surprised person who did not expect this",
        "astonished",
        "a short gasp at something unexpected",
        "an expression of surprise",
    ),
}

PERSON: Mapping[tuple[str, ...], tuple[str, ...]] = {
    **{(f"{color} hair",): (f"{color} hair", f"a person with {color} hair") for color in HAIR_COLORS},
    **{(f"{tone} skin",): (f"{tone} skin", f"a person with {tone} skin") for tone in SKIN_TONES},
    ("bald",): ("bald", "a bald person", "no hair"),
    ("long hair",): ("long hair", "a person with long hair"),
    ("glasses",): ("glasses", "a person who wears glasses", "wearing glasses"),
    ("full beard",): ("a full beard", "a bearded person"),
    ("moustache",): ("a moustache",),
    ("stubble",): ("stubble", "an unshaven chin"),
    ("old",): ("an older person", "an old face with wrinkles"),
    ("young",): ("a young person", "a young, smooth face"),
}

SCENE: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("turned left",): ("head turned to the left", "looking to the left side"),
    ("turned right",): ("head turned to the right", "looking to the right side"),
    ("facing",): ("facing the camera", "seen from the front"),
    ("tilted left",): ("head tilted to the left",),
    ("tilted right",): ("head tilted to the right",),
    ("head up",): ("head raised", "chin lifted"),
    ("head down",): ("head bowed", "head lowered"),
    ("light left",): ("light from the left",),
    ("light right",): ("light from the right",),
    ("dim",): ("dim light", "a dark picture"),
    ("bright",): ("bright light", "a bright picture"),
    ("warm",): ("warm, yellow light",),
    ("cold",): ("cold, blue light",),
    ("hand",): ("a hand in front of the face", "a hand hides a part of the face"),
    ("object",): ("something in front of the face", "an object hides a part of the face"),
}

OPENINGS = ("a photo of a face:",) * 4 + (
    "a photo of a face,",
    "a face:",
    "a picture of a person:",
    "a portrait:",
    "",
    "",
)

PHRASES = [
    *FACE.items(),
    *(((emotion,), phrases) for emotion, phrases in CONTEXT.items()),
    *PERSON.items(),
    *SCENE.items(),
]
FACTS = sorted({fact for required, _ in PHRASES for fact in required})
_INDEX = {fact: i for i, fact in enumerate(FACTS)}
# For each phrase, the facts that it requires.
_REQUIRED = np.zeros((len(PHRASES), len(FACTS)), bool)
for _i, (_facts, _) in enumerate(PHRASES):
    _REQUIRED[_i, [_INDEX[fact] for fact in _facts]] = True
# Ranges of the phrases about face, context, person and scene.
_KINDS = [range(len(FACE)), range(len(FACE), len(FACE) + len(CONTEXT))]
_KINDS += [range(_KINDS[1].stop, _KINDS[1].stop + len(PERSON)), range(_KINDS[1].stop + len(PERSON), len(PHRASES))]


def facts_of(
    person: Identity, setting: Setting, pose: Pose, action_units: np.ndarray, label: str | None, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the facts about a picture that are true, and those that may be true.

    Args:
        person (`Identity`): The person in the picture.
        setting (`Setting`): Light and occlusion.
        pose (`Pose`): Pose of the head.
        action_units (`np.ndarray`): Visible intensities (A,), including the resting face.
        label (`str`, *optional*): The emotion. None if action units were drawn without an emotion, so that any emotion
            may be true.
        strength (`float`): Strength of the emotion, 0 to 1.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Two boolean vectors (F,) over `FACTS`: facts that are certainly true, and
        facts that are true or doubtful, such as a weak action unit or a slight turn of the head.
    """

    def grade(value: float, low: float, high: float) -> int:
        """Returns 0 for false, 1 for doubtful and 2 for true."""
        return 0 if value < low else 1 if value < high else 2

    occluder = setting.occluder.kind if setting.occluder else None
    grades = {
        f"{person.hair_color} hair": 2 * (person.hair_style != "bald"),
        f"{person.skin_tone} skin": 2,
        "bald": 2 * (person.hair_style == "bald"),
        "long hair": 2 * (person.hair_style == "long"),
        "glasses": 2 * person.glasses,
        "full beard": 2 * (person.beard == "full"),
        "moustache": 2 * (person.beard == "moustache"),
        "stubble": 2 * (person.beard == "stubble"),
        "old": grade(person.age, 0.4, 0.65),
        "young": grade(-person.age, -0.35, -0.15),
        "turned left": grade(-pose.turn, 4, 9),
        "turned right": grade(pose.turn, 4, 9),
        "facing": grade(-abs(pose.turn), -7, -4),
        "tilted left": grade(-pose.tilt, 2, 5),
        "tilted right": grade(pose.tilt, 2, 5),
        "head up": grade(-pose.nod, 3, 6),
        "head down": grade(pose.nod, 3, 6),
        "light left": grade(-setting.light_side * setting.light_contrast, 0.05, 0.25),
        "light right": grade(setting.light_side * setting.light_contrast, 0.05, 0.25),
        "dim": grade(-setting.brightness, -0.95, -0.85),
        "bright": grade(setting.brightness, 1.05, 1.15),
        "warm": grade(setting.warmth, 0.2, 0.5),
        "cold": grade(-setting.warmth, 0.2, 0.5),
        "hand": 2 * (occluder is not None and occluder.startswith("hand")),
        "object": 2 * (occluder is not None and not occluder.startswith("hand")),
    }
    for name, value in zip(ACTION_UNITS, action_units, strict=True):
        grades[name] = grade(value, 0.15, 0.2 if name == "AU43" else 0.35)
        grades["no " + name] = grade(-value, -0.25, -0.1)
    for emotion in CONTEXT:
        if label is None:
            grades[emotion] = 1
        elif emotion == "neutral":
            grades[emotion] = 2 if label == "neutral" else grade(-strength, -0.35, -0.1)
        else:
            grades[emotion] = grade(strength, 0.2, 0.4) if emotion == label else 0
    values = np.array([grades.get(fact, 0) for fact in FACTS])
    return values == 2, values >= 1


def caption(certain: np.ndarray, rng: np.random.Generator) -> tuple[str, np.ndarray]:
    """Writes a random caption from the facts about a picture.

    Args:
        certain (`np.ndarray`): Boolean vector (F,) of the true facts.
        rng (`np.random.Generator`): Random generator.

    Returns:
        `tuple[str, np.ndarray]`: The caption, and a boolean vector (F,) of the facts that it requires.
    """
    is_true = ~(_REQUIRED & ~certain).any(1)
    face, context, person, scene = ([i for i in kind if is_true[i]] for kind in _KINDS)
    chosen: list[int] = []
    if face and (rng.uniform() < 0.75 or not context):
        # Phrases that require more present action units are more likely than those about absent ones.
        present = [sum(not FACTS[f].startswith("no ") for f in np.flatnonzero(_REQUIRED[i])) for i in face]
        weight = np.array(present) + 0.15
        count = min(len(face), int(rng.integers(1, 4)))
        chosen += rng.choice(face, count, replace=False, p=weight / weight.sum()).tolist()
    if context and (rng.uniform() < 0.55 or not chosen):
        chosen.insert(0 if rng.uniform() < 0.5 else len(chosen), int(rng.choice(context)))
    if person and (rng.uniform() < 0.25 or not chosen):
        chosen.insert(int(rng.integers(len(chosen) + 1)), int(rng.choice(person)))
    if scene and rng.uniform() < 0.2:
        chosen.append(int(rng.choice(scene)))
    phrases = [PHRASES[i][1][rng.integers(len(PHRASES[i][1]))] for i in chosen]
    text = f"{OPENINGS[rng.integers(len(OPENINGS))]} {', '.join(phrases)}".strip()
    return text, np.logical_or.reduce(_REQUIRED[chosen])
