"""Overview pictures: a sheet of apex frames, and film strips with the intensity of each frame."""

from collections.abc import Sequence

import cv2
import numpy as np

from tgdfer.training.rendered_faces.action_units import EMOTIONS, INDEX, apex, check_labels
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.people import Identity
from tgdfer.training.rendered_faces.rendered_clip import RenderedClip, sample_clip, sample_person


def contact_sheet(
    faces: RenderedFaces | None = None,
    people: int = 8,
    seed: int = 0,
    split: str = "test",
    labels: Sequence[str] = EMOTIONS,
) -> np.ndarray:
    """Draws apex frames, with a row for each person and a column for each label.

    Args:
        faces (`RenderedFaces`, *optional*): Parameters of the generator.
        people (`int`, *optional*, defaults to 8): Number of people.
        seed (`int`, *optional*, defaults to 0): Seed of the people and their faces.
        split (`str`, *optional*, defaults to `"test"`): Split that the people belong to.
        labels (`Sequence[str]`, *optional*, defaults to `EMOTIONS`): Labels, in the order of the columns.

    Returns:
        uint8 RGB (people * size, K * size, 3).

    Raises:
        ValueError: If a label is unknown.
    """
    faces = faces or RenderedFaces()
    check_labels(tuple(labels))
    rows = []
    for number in range(people):
        person = sample_person(seed, split, number, faces.resting)
        row = []
        for i, label in enumerate(labels):
            rng = np.random.default_rng([seed, number, i])
            clip = sample_clip(label, person, faces, rng)
            painter, side = FacePainter(person, clip.setting, faces), clip.course.side[clip.course.intensity.argmax()]
            row.append(painter.draw(apex(label, rng), clip.course.poses[0], side=float(side)))
        rows.append(np.hstack(row))
    return np.vstack(rows)


# Rows of a film strip: an emotion, and the movement in a neutral clip that resembles it.
_COMPARED = (
    ("happiness", "posed smile"),
    ("surprise", "brows raised in speech"),
    ("sadness", "lids that close slowly"),
)
_PLOT, _INK, _GREY = 48, (20, 20, 20), (150, 150, 150)


def film_strip(faces: RenderedFaces | None = None, shown: int = 12, seed: int = 0, split: str = "test") -> np.ndarray:
    """Draws clips as rows of frames, with a plot below each row.

    Emotional clips alternate with neutral clips that have a movement which resembles the emotion. In the plots, black
    is the intensity of the emotion and grey is one of its action units.

    Args:
        faces (`RenderedFaces`, *optional*): Parameters of the generator.
        shown (`int`, *optional*, defaults to 12): Frames per row.
        seed (`int`, *optional*, defaults to 0): Seed of the clips.
        split (`str`, *optional*, defaults to `"test"`): Split that the people belong to.

    Returns:
        uint8 RGB (H, shown * size, 3).

    Raises:
        ValueError: If the parameters do not allow clips of two seconds.
    """
    faces = faces or RenderedFaces()
    rows = []
    for number, (label, lookalike) in enumerate(_COMPARED):
        person = sample_person(seed, split, number, faces.resting)
        unit = {"happiness": "AU12", "surprise": "AU02", "sadness": "AU43"}[label]
        for clip in (
            _find(label, "", unit, person, faces, seed),
            _find("neutral", lookalike, unit, person, faces, seed),
        ):
            frames = list(clip.draw())
            picked = np.linspace(0, len(frames) - 1, shown).round().astype(int)
            rows += [np.hstack([frames[i] for i in picked]), _plot(clip, unit, shown * faces.size)]
    return np.vstack(rows)


def _find(label: str, lookalike: str, unit: str, person: Identity, faces: RenderedFaces, seed: int) -> RenderedClip:
    """Finds a clip of at least two seconds with this label, this lookalike and a movement of this action unit."""
    for number in range(1000):
        clip = sample_clip(label, person, faces, np.random.default_rng([seed, INDEX[unit], number]))
        moved = clip.course.action_units[:, INDEX[unit]].max()
        if clip.course.lookalike == lookalike and len(clip) >= 2 * faces.fps and moved > 0.4:
            return clip
    raise ValueError("no clip of two seconds shows the movement: use more frames and a higher strength.")


def _plot(clip: RenderedClip, unit: str, width: int) -> np.ndarray:
    """Plots the curves of a clip (48, width, 3), aligned with the frames above."""
    top = 16
    plot = np.full((_PLOT, width, 3), 255, np.uint8)
    size = clip.faces.size
    x = np.linspace(size / 2, width - size / 2, len(clip))
    course = clip.course
    for curve, color in ((course.action_units[:, INDEX[unit]], _GREY), (course.intensity, _INK)):
        points = np.stack([x, _PLOT - 4 - (_PLOT - 4 - top) * curve], 1)
        cv2.polylines(plot, [np.rint(points * 16).astype(np.int32)], False, color, 1, cv2.LINE_AA, 4)
    name = course.label if course.label != "neutral" else f"neutral, with {course.lookalike}"
    cv2.putText(plot, f"{name} ({unit})", (4, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return plot
