"""The zero-shot result of an untrained CLIP: the mean over the frames of their cosines with the class texts."""

from collections.abc import Sequence

import torch

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.config import FaceConfig, ModelConfig
from tgdfer.training.models import face_options, start_model

# A TG-DFER network with these options is its CLIP. Only training could make its other parts do something.
CLIP_ALONE = {"mil_pooling": "mean", "visual_prompts": False, "short_term": False, "long_range": False}


def zero_shot_model(
    clip: str, classes: Sequence[str], dataset: str, descriptions: str | None = None
) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]:
    """Makes a classifier of an untrained CLIP and the descriptions of the classes.

    A class text is the mean of the encoded descriptions of the class. The logits are the cosines of the frames and the
    class texts, multiplied by CLIP's own scale and averaged over the frames.

    Args:
        clip (`str`): Hub id or folder of a CLIP or another dual encoder, or `clip-tiny-faces`.
        classes (`Sequence[str]`): Canonical labels of the data set.
        dataset (`str`): Data set, from which the options of face crops that `tgdfer faces` wrote are read.
        descriptions (`str`, *optional*): YAML file of `label: [description, ...]`. By default the built-in ones.

    Raises:
        UserError: If the CLIP cannot be read, or a label has no descriptions.
    """
    options = ModelConfig(model=clip, descriptions=descriptions, frozen_features=True, model_options=CLIP_ALONE)
    model, processor = start_model(options, classes, face_options(FaceConfig(), dataset))
    with torch.no_grad():
        model.log_scale.copy_(model.tgdfer.clip.logit_scale)
    return model.eval(), processor
