"""Action units of the Facial Action Coding System (FACS), and the emotions as combinations of action units.

Source: Ekman & Friesen (1978), "Facial Action Coding System".
"""

from collections.abc import Mapping

import numpy as np

ACTION_UNITS = {
    "AU01": "inner brow raiser",
    "AU02": "outer brow raiser",
    "AU04": "brow lowerer",
    "AU05": "upper lid raiser",
    "AU06": "cheek raiser",
    "AU07": "lid tightener",
    "AU09": "nose wrinkler",
    "AU10": "upper lip raiser",
    "AU12": "lip corner puller",
    "AU14": "dimpler",
    "AU15": "lip corner depressor",
    "AU17": "chin raiser",
    "AU20": "lip stretcher",
    "AU23": "lip tightener",
    "AU24": "lip pressor",
    "AU25": "lips part",
    "AU26": "jaw drop",
    "AU28": "lip suck",
    "AU43": "eyes closed",
    "AU45": "blink",
}
INDEX = {name: i for i, name in enumerate(ACTION_UNITS)}


def action_unit_vector(intensities: Mapping[str, float]) -> np.ndarray:
    """Creates a vector of action units.

    Args:
        intensities (`Mapping[str, float]`): Intensity of each action unit. Action units that are not named have
            intensity 0.

    Returns:
        Vector (A,) in the order of `ACTION_UNITS`.

    Raises:
        KeyError: If a name is not in `ACTION_UNITS`.
    """
    vector = np.zeros(len(ACTION_UNITS))
    for name, value in intensities.items():
        vector[INDEX[name]] = value
    return vector


# Prototypes and variants from Ekman, Friesen & Hager (2002), "FACS investigator's guide", table 10-1, without the
# action units that rendered faces lack (11, 16, 22 and 27). Contempt is from Ekman & Friesen (1986), "A new
# pan-cultural facial expression of emotion". The comments quote the codes of the table. Action units in brackets are
# frequent additions. If the table gives no level, we chose the strengths.
PROTOTYPES: Mapping[str, tuple[Mapping[str, float], ...]] = {
    "anger": (
        {"AU04": 1.0, "AU05": 0.6, "AU07": 0.8, "AU23": 0.9},  # 4+5+7+23
        {"AU04": 1.0, "AU05": 0.6, "AU07": 0.8, "AU17": 0.6, "AU24": 0.9},  # 4+5+7+17+24
        {"AU04": 1.0, "AU07": 0.8, "AU17": 0.5, "AU24": 0.9},  # the same without 5
        {"AU04": 0.9, "AU05": 0.7, "AU07": 0.7, "AU10": 0.5, "AU23": 0.6, "AU25": 0.7},  # 4+5+7+10+23+25
        {"AU04": 1.0, "AU05": 0.7, "AU07": 0.6, "AU23": 0.6, "AU25": 0.8, "AU26": 0.5},  # 4+5+7+23+26
    ),
    # Unilateral 14, alone or with 12. `Course.side` is the side.
    "contempt": (
        {"AU14": 1.0},
        {"AU14": 1.0, "AU12": 0.4},  # 12+14
    ),
    "disgust": (
        {"AU09": 1.0, "AU04": 0.3, "AU07": 0.3},  # 9 (4, 7)
        {"AU09": 0.9, "AU17": 0.7, "AU04": 0.2},  # 9+17 (4)
        {"AU09": 0.9, "AU10": 0.5, "AU25": 0.6, "AU15": 0.2},  # 9+16+15 with parted lips (10), which 16 helps to part
        {"AU10": 1.0, "AU07": 0.3},  # 10 (7)
        {"AU10": 1.0, "AU17": 0.7, "AU07": 0.3},  # 10+17 (7)
        {"AU10": 1.0, "AU09": 0.3, "AU25": 0.7, "AU26": 0.3},  # 10+16+26 (9)
    ),
    "fear": (
        {"AU01": 1.0, "AU02": 0.6, "AU04": 0.8, "AU05": 1.0, "AU20": 0.9, "AU25": 0.7},  # 1+2+4+5+20+25
        {"AU01": 0.9, "AU02": 0.5, "AU04": 0.8, "AU05": 1.0, "AU20": 0.7, "AU25": 0.8, "AU26": 0.5},  # and 26
        {"AU01": 0.9, "AU02": 0.4, "AU04": 0.8, "AU05": 1.0, "AU25": 0.7},  # 1+2+4+5+25
        {"AU01": 1.0, "AU02": 0.5, "AU04": 0.9, "AU05": 1.0},  # 1+2+4+5
        {"AU05": 1.0, "AU20": 1.0, "AU25": 0.6},  # 5+20+25
    ),
    "happiness": (
        {"AU06": 0.8, "AU12": 0.9},  # 6+12
        {"AU06": 0.8, "AU12": 1.0, "AU25": 0.8},
        {"AU06": 1.0, "AU12": 1.0, "AU25": 1.0, "AU26": 0.5},
        {"AU12": 0.8, "AU06": 0.4, "AU25": 0.5},
        {"AU12": 0.8},  # 12 alone, level C or D
    ),
    "neutral": ({},),
    "sadness": (
        {"AU01": 1.0, "AU04": 0.7, "AU15": 0.9},  # 1+4+15
        {"AU01": 0.9, "AU04": 0.7, "AU15": 0.6, "AU17": 0.7},  # 1+4+15+17
        # The same while the eyes look down (64), which lowers the lids.
        {"AU01": 1.0, "AU04": 0.6, "AU15": 0.9, "AU43": 0.5},
        {"AU01": 0.9, "AU04": 0.8, "AU15": 0.5, "AU17": 0.7, "AU43": 0.4},
        {"AU06": 0.6, "AU15": 1.0, "AU01": 0.4},  # 6+15 (1)
    ),
    "surprise": (
        {"AU01": 1.0, "AU02": 1.0, "AU05": 0.6, "AU25": 1.0, "AU26": 0.8},  # 1+2+5B+26
        {"AU01": 0.9, "AU02": 1.0, "AU05": 0.4, "AU25": 1.0, "AU26": 1.0},
        {"AU01": 0.9, "AU02": 1.0, "AU25": 1.0, "AU26": 1.0},  # 1+2+26
        {"AU01": 1.0, "AU02": 1.0, "AU05": 0.7},  # 1+2+5B
        {"AU05": 0.7, "AU01": 0.3, "AU02": 0.3, "AU25": 0.9, "AU26": 0.7},  # 5B+26 (1, 2)
    ),
}
# Contempt is rendered only on request.
EMOTIONS = tuple(label for label in PROTOTYPES if label != "contempt")


def check_labels(labels: tuple[str, ...]) -> None:
    """Checks that rendered faces can show these labels.

    Raises:
        ValueError: If there are no labels, a label is unknown, or a label occurs twice.
    """
    for label in labels:
        if label not in PROTOTYPES:
            raise ValueError(f"{label!r} is not an emotion of rendered faces: choose from {', '.join(PROTOTYPES)}.")
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"labels are {', '.join(labels) or 'none'}: name at least one, and each of them once.")


def apex(label: str, rng: np.random.Generator) -> np.ndarray:
    """Draws the action units at an apex of an emotion: a random variant of it with random strengths.

    Args:
        label (`str`): One of `PROTOTYPES`.
        rng (`np.random.Generator`): Random generator.

    Returns:
        Action units (A,) in the order of `ACTION_UNITS`.
    """
    variant = PROTOTYPES[label][rng.integers(len(PROTOTYPES[label]))]
    return np.clip(action_unit_vector(variant) * rng.uniform(0.8, 1.15, len(ACTION_UNITS)), 0, 1)
