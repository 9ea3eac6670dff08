"""Action units of the Facial Action Coding System (Ekman & Friesen, 1978)."""

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
    """Intensities by name as a vector (A,) in the order of `ACTION_UNITS`; those not named are 0.

    Raises:
        KeyError: For a name that is not in `ACTION_UNITS`.
    """
    vector = np.zeros(len(ACTION_UNITS))
    for name, value in intensities.items():
        vector[INDEX[name]] = value
    return vector
