"""Table of the action units that each built-in description mentions, for checking explanations.

The codes are those of the Facial Action Coding System (Ekman, Friesen & Hager, 2002). Movements of the tongue, the
head and the gaze and a few others are listed for completeness. The renderer does not show them, so they are not
measured.
"""

from collections.abc import Mapping

from tgdfer.training.rendered_faces import ACTION_UNITS

NOT_RENDERED = {
    "AU16": "lower lip depressor",
    "AU19": "tongue show",
    "AU31": "jaw clencher",
    "AU32": "lip bite",
    "AU38": "nostril dilator",
    "AU53": "head up",
    "AU55": "head tilt",
    "AU58": "head back",
    "AU61": "eyes turned",
    "AU63": "eyes up",
    "AU64": "eyes down",
    "AU80": "swallow",
    "AU84": "head shake",
}

# Action units of each description, by label and in the order of the YAML files. Descriptions of neutral say what a
# face does not do. The last description of each label is a situation without action units, so it is not listed.
NAMED_UNITS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "anger": {
        "brows pulled low and tight together, two deep creases upright between them, eyes fixed in a hard stare": (
            "AU04",
            "AU05",
        ),
        "glaring eyes with tense lower lids under lowered brows, nostrils flared": ("AU04", "AU05", "AU07", "AU38"),
        "lips pressed firmly into a thin line, jaw clenched, brows knitted": ("AU04", "AU24", "AU31"),
        "mouth opened square with bared, clenched teeth, lips taut, shouting under lowered brows": (
            "AU04",
            "AU10",
            "AU16",
            "AU23",
            "AU25",
        ),
    },
    "disgust": {
        "nose wrinkled along its bridge, nostrils drawn up, eyes narrowed": ("AU07", "AU09"),
        "upper lip lifted high toward the nose, deep folds from the nostrils to the corners of the mouth": ("AU10",),
        "mouth half open with the lower lip turned down and the tongue pushed forward, as if about to gag": (
            "AU16",
            "AU19",
            "AU25",
            "AU26",
        ),
        "cheeks pushed up by the raised upper lip, brows lowered, head drawn back and turned away": (
            "AU04",
            "AU10",
            "AU58",
        ),
    },
    "fear": {
        "brows raised and pulled together into a flat line, short wrinkles in the middle of the forehead": (
            "AU01",
            "AU02",
            "AU04",
        ),
        "eyes wide open with the white showing above the iris, lower lids tense, staring": ("AU05", "AU07"),
        "lip corners stretched straight back toward the ears, mouth tense and slightly open": ("AU20", "AU25"),
        "head pulled back, eyes frozen wide, mouth open to gasp or scream": ("AU05", "AU25", "AU26", "AU58"),
    },
    "happiness": {
        "lip corners pulled up and back into a smile, cheeks raised": ("AU06", "AU12"),
        "eyes narrowed by lifted cheeks, fine wrinkles fanning out from their outer corners": ("AU06",),
        "broad open smile that shows the upper teeth, smooth forehead, bright eyes": ("AU12", "AU25"),
        "laughing with the mouth wide open, cheeks bunched up and eyes nearly closed": (
            "AU06",
            "AU12",
            "AU25",
            "AU26",
        ),
    },
    "neutral": {
        "smooth forehead, level brows and a closed mouth with straight, relaxed lips": (),
        "eyes open at their usual width, calm and steady gaze, no muscle of the face tensed": (),
        "relaxed cheeks and jaw, lip corners neither raised nor lowered": (),
        "lips moving in quiet, even speech while brows and eyes stay still": ("AU25", "AU26"),
    },
    "sadness": {
        "inner ends of the brows raised and drawn together, brows slanting down to the outside": ("AU01", "AU04"),
        "lip corners pulled down, chin wrinkled and lower lip pushed up as if about to cry": ("AU15", "AU17"),
        "upper lids drooping, eyes wet and cast down, dull gaze": ("AU43", "AU64"),
        "crying with tears on the cheeks, trembling lips and a furrowed middle of the forehead": ("AU01", "AU04"),
    },
    "surprise": {
        "both brows raised high in round arches, long wrinkles straight across the forehead": ("AU01", "AU02"),
        "eyes wide open and round, white showing above the iris, lower lids relaxed": ("AU05",),
        "jaw dropped, mouth hanging open, lips parted and relaxed": ("AU25", "AU26"),
        "head jerked back for a moment, brows shooting up, a short gasp": ("AU01", "AU02", "AU25", "AU26", "AU58"),
    },
    "anxiety": {
        "inner brows lifted and drawn together, forehead tense, eyes restless and darting aside": (
            "AU01",
            "AU04",
            "AU61",
        ),
        "lips bitten, sucked in or pressed together again and again, throat swallowing hard": (
            "AU24",
            "AU28",
            "AU32",
            "AU80",
        ),
        "fast blinking over tense lower lids, gaze jumping between places, jaw tight": (
            "AU07",
            "AU31",
            "AU45",
            "AU61",
        ),
        "strained, twitching mouth with lip corners drawn slightly back, breath held": ("AU20",),
    },
    "contempt": {
        "one corner of the mouth tightened and raised, the other side of the face unmoved": ("AU12", "AU14"),
        "a one-sided smirk with a dimple pressed into one cheek and no smile in the eyes": ("AU12", "AU14"),
        "chin lifted and head tilted back, eyes looking down past the nose through lowered lids": (
            "AU43",
            "AU53",
            "AU64",
        ),
        "one brow raised, lips closed with one corner pulled in, a scornful look from the side": (
            "AU02",
            "AU14",
            "AU61",
        ),
    },
    "disappointment": {
        "lips pressed together with corners sinking, gaze dropping to the ground": ("AU15", "AU24", "AU64"),
        "a smile that fades, cheeks and upper lids going slack, inner brows slightly raised": (
            "AU01",
            "AU12",
            "AU43",
        ),
        "a long sigh through barely open lips, head slowly shaking, eyes lowered": ("AU25", "AU64", "AU84"),
        "mouth pulled down at one corner, brows drawn up in the middle, looking away": (
            "AU01",
            "AU04",
            "AU15",
            "AU61",
        ),
    },
    "helplessness": {
        "inner brows raised in a pleading slant, eyes looking up or around for help": ("AU01", "AU04", "AU63"),
        "chin pushed up and lip corners turned down in a shrug of the mouth, brows lifted": (
            "AU01",
            "AU02",
            "AU15",
            "AU17",
        ),
        "mouth half open without a word, slack cheeks, lost and empty gaze": ("AU25", "AU26"),
        "head tilted or shaking, trembling lower lip, eyes filling with tears": ("AU55", "AU84"),
    },
}


def rendered_units(description: str) -> tuple[str, ...]:
    """Returns the action units that a description mentions and that the renderer shows.

    The result is empty if the description is not built in.
    """
    for descriptions in NAMED_UNITS.values():
        if description in descriptions:
            return tuple(unit for unit in descriptions[description] if unit in ACTION_UNITS)
    return ()
