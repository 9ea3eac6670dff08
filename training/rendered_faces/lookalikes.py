"""Movements that look like an emotion in a single frame, and differ from it only in their course over time."""

from collections.abc import Sequence

import numpy as np

from tgdfer.training.rendered_faces.action_units import action_unit_vector, apex
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.timing import Window, overlay, pulse, syllables

# The emotion that each movement resembles.
LOOKALIKES = {"posed smile": "happiness", "brows raised in speech": "surprise", "lids that close slowly": "sadness"}


def add_lookalike(
    units: np.ndarray, name: str, windows: Sequence[Window], faces: RenderedFaces, rng: np.random.Generator
) -> None:
    """Adds a movement that resembles an emotion, and is as strong as a weak one, to the action units of a clip.

    Args:
        units (`np.ndarray`): Action units (T, A) of the clip, changed in place.
        name (`str`): One of `LOOKALIKES`.
        windows (`Sequence[Window]`): Times of the movement. Only `start` and `end` are used, because onset and offset
            depend on the movement.
        faces (`RenderedFaces`): Parameters of the generator.
        rng (`np.random.Generator`): Random generator.
    """
    strength = rng.uniform(faces.strength[0], sum(faces.strength) / 2)
    vector = apex(LOOKALIKES[name], rng)
    if name == "posed smile" and rng.uniform() < 0.5:
        # Half of the posed smiles do not reach the eyes. So the eyes alone do not show whether a smile is felt.
        vector = vector * (1 - action_unit_vector({"AU06": 1.0}))
    for window in windows:
        begin = int(np.floor(window.start))
        duration = window.end - window.start
        if name == "posed smile":
            curve = _posed(duration, window.start - begin, faces, rng)[:, None] * vector
        elif name == "brows raised in speech":
            curve = _raised_brows(duration, faces, rng)
        else:
            curve = _tired_lids(duration, faces, rng)
        overlay(units, begin, np.full(len(curve), strength), curve)


def _posed(duration: float, shift: float, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
    """Returns the intensity (N,) of a posed expression, which appears and disappears abruptly."""
    onset, offset = faces.fps * rng.uniform(*faces.posed_onset), faces.fps * rng.uniform(*faces.posed_offset)
    return pulse(onset, max(0.0, duration - (onset + offset) / 2), offset, shift)


def _raised_brows(duration: float, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
    """Returns action units (N, A) of brows that emphasise speech (Ekman, 1979, "About brows")."""
    raised = pulse(0.12 * faces.fps, duration, 0.2 * faces.fps)
    brows = action_unit_vector({"AU01": rng.uniform(0.8, 1), "AU02": rng.uniform(0.8, 1)})
    mouth = action_unit_vector({"AU25": 1.0, "AU26": rng.uniform(0.4, 0.8)})
    return raised[:, None] * (brows + syllables(len(raised), faces.fps, rng)[:, None] * mouth)


def _tired_lids(duration: float, faces: RenderedFaces, rng: np.random.Generator) -> np.ndarray:
    """Returns action units (N, A) of tired lids. They take up to a second to close, more than a whole blink."""
    sink, rise = faces.fps * rng.uniform([0.4, 0.12], [1.0, 0.24])
    curve = pulse(sink, max(0.0, duration - 0.5 * (sink + rise)), rise)
    tired = {"AU43": 1.0, "AU01": rng.uniform(0, 0.3), "AU17": rng.uniform(0, 0.6)}
    return np.minimum(curve[:, None] * rng.uniform(0.6, 1.3), 1) * action_unit_vector(tired)
