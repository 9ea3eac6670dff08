"""The phrases of the benchmark."""

# A phrase for each action unit. They were written before anything was measured with them.
UNITS = {
    "AU01": "inner brows raised",
    "AU02": "outer brows raised",
    "AU04": "brows lowered and drawn together",
    "AU05": "eyes wide open",
    "AU06": "cheeks raised",
    "AU07": "lids tightened",
    "AU09": "nose wrinkled",
    "AU10": "upper lip raised",
    "AU12": "lip corners pulled up",
    "AU14": "lip corners tucked in",
    "AU15": "lip corners pulled down",
    "AU17": "chin raised",
    "AU20": "lips stretched sideways",
    "AU23": "lips tightened",
    "AU24": "lips pressed together",
    "AU25": "lips parted",
    "AU26": "jaw lowered",
    "AU28": "lips sucked in",
    "AU43": "eyelids half closed",
    "AU45": "eyes closed",
}

# Everyday phrases for the emotions of FER+. None of them is in the built-in descriptions. The first phrase of each
# emotion was measured before the others were added.
EMOTIONS = {
    "anger": ("somebody who looks angry", "an angry look", "mad at somebody"),
    "contempt": ("a scornful smirk", "a contemptuous look", "looking down on others"),
    "disgust": ("somebody who is disgusted", "a disgusted look", "grossed out"),
    "fear": ("a scared face", "a frightened look", "afraid of something"),
    "happiness": ("a big, happy smile", "a happy look", "laughing out loud"),
    "neutral": ("a blank face", "a calm look", "no expression at all"),
    "sadness": ("somebody who looks sad", "a sad look", "close to tears"),
    "surprise": ("an astonished face", "a surprised look", "caught off guard"),
}

# Pairs of action units are measured if both are visible together in at least this share of the frames.
MIN_SHARE = 0.01


def pair_phrase(first: str, second: str) -> str:
    """Returns the phrase for two action units together."""
    return f"{UNITS[first]}, {UNITS[second]}"
