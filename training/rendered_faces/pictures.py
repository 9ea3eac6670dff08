"""Pictures that show what is drawn: a sheet of apex frames, and film strips with the truth below."""

from collections.abc import Sequence

import numpy as np

from tgdfer.training.rendered_faces.dataset import sample_clip, sample_person
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.prototypes import EMOTIONS, apex, check_labels


def contact_sheet(
    faces: RenderedFaces | None = None,
    people: int = 8,
    seed: int = 0,
    split: str = "test",
    labels: Sequence[str] = EMOTIONS,
) -> np.ndarray:
    """Apex frames, uint8 RGB: a row for each person, a column for each label in the given order.

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
            painter = FacePainter(person, clip.setting, faces)
            row.append(painter.draw(apex(label, rng), clip.course.poses[0], side=clip.course.side))
        rows.append(np.hstack(row))
    return np.vstack(rows)
