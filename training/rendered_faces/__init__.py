"""Rendered faces: parametric faces driven by action units, in clips whose every frame is known.

Like clips from the wild they carry one label each and show the emotion in a part of their frames; unlike those, they
know in which. Everything is a function of a seed.
"""

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, action_unit_vector
from tgdfer.training.rendered_faces.dataset import (
    Clip,
    contact_sheet,
    sample_clip,
    sample_person,
    write_dataset,
    write_video,
)
from tgdfer.training.rendered_faces.draw import FacePainter, Pose
from tgdfer.training.rendered_faces.emotions import EMOTIONS, PROTOTYPES, Course, apex, sample_course
from tgdfer.training.rendered_faces.parameters import Identity, RenderedFaces, Setting

__all__ = [
    "ACTION_UNITS",
    "EMOTIONS",
    "PROTOTYPES",
    "Clip",
    "Course",
    "FacePainter",
    "Identity",
    "Pose",
    "RenderedFaces",
    "Setting",
    "action_unit_vector",
    "apex",
    "contact_sheet",
    "sample_clip",
    "sample_course",
    "sample_person",
    "write_dataset",
    "write_video",
]
