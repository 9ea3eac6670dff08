"""Rendered faces: clips of parametric faces whose action units are known in every frame.

Like clips recorded in the wild, they have one label each and show the emotion in only some of their frames. Unlike
those, they come with the intensity of every frame. A seed determines everything.
"""

from tgdfer.training.rendered_faces.action_units import (
    ACTION_UNITS,
    EMOTIONS,
    INDEX,
    PROTOTYPES,
    action_unit_vector,
    apex,
)
from tgdfer.training.rendered_faces.courses import Course, Segment, sample_course, sample_long_course
from tgdfer.training.rendered_faces.dataset import write_dataset, write_long_videos
from tgdfer.training.rendered_faces.draw import FacePainter
from tgdfer.training.rendered_faces.parameters import RenderedFaces
from tgdfer.training.rendered_faces.people import HAIR_COLORS, SKIN_TONES, Identity
from tgdfer.training.rendered_faces.pictures import contact_sheet, film_strip
from tgdfer.training.rendered_faces.poses import Pose
from tgdfer.training.rendered_faces.rendered_clip import RenderedClip, sample_clip, sample_long_clip, sample_person
from tgdfer.training.rendered_faces.setting import Setting

__all__ = [
    "ACTION_UNITS",
    "EMOTIONS",
    "HAIR_COLORS",
    "INDEX",
    "PROTOTYPES",
    "SKIN_TONES",
    "Course",
    "FacePainter",
    "Identity",
    "Pose",
    "RenderedClip",
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
]
