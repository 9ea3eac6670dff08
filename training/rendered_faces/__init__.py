"""Rendered faces: parametric faces driven by action units, in clips whose every frame is known.

Like clips from the wild they carry one label each and show the emotion in a part of their frames; unlike those, they
know in which. Everything is a function of a seed.
"""

from tgdfer.training.rendered_faces.action_units import ACTION_UNITS, action_unit_vector
from tgdfer.training.rendered_faces.dataset import (
    Clip,
    sample_clip,
    sample_long_clip,
    sample_person,
    write_dataset,
    write_long_videos,
    write_video,
)
from tgdfer.training.rendered_faces.draw import FacePainter, Pose
from tgdfer.training.rendered_faces.emotions import Course, Segment, sample_course, sample_long_course
from tgdfer.training.rendered_faces.parameters import Identity, RenderedFaces, Setting
from tgdfer.training.rendered_faces.pictures import contact_sheet, film_strip
from tgdfer.training.rendered_faces.prototypes import EMOTIONS, PROTOTYPES, apex

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
    "Segment",
    "Setting",
    "action_unit_vector",
    "apex",
    "contact_sheet",
    "film_strip",
    "sample_clip",
    "sample_course",
    "sample_long_clip",
    "sample_long_course",
    "sample_person",
    "write_dataset",
    "write_long_videos",
    "write_video",
]
