"""Face crops of a data set. `tgdfer faces` cuts the faces out once, before training."""

from tgdfer.training.face_crops.annotations import read_annotations
from tgdfer.training.face_crops.crop_folder import crop_settings_of
from tgdfer.training.face_crops.crop_report import print_report
from tgdfer.training.face_crops.cut import cut_faces

__all__ = ["crop_settings_of", "cut_faces", "print_report", "read_annotations"]
