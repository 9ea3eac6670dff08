"""Zero-shot classification with CLIP, from class names or from descriptions."""

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.baseline import normalised_features
from tgdfer.training.features import FrameFeatures


class FeatureSource(Protocol):
    """Interface of a data set for zero-shot classification."""

    @property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]: ...

    def features(self, split: str, seed: int = 0) -> FrameFeatures: ...


def class_words(classes: Sequence[str]) -> dict[str, list[str]]:
    """Returns the name of each class as its only description."""
    return {label: [label] for label in classes}


@torch.no_grad()
def zero_shot(
    dataset: FeatureSource, descriptions: Mapping[str, Sequence[str]] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns scaled cosines between the frames of the test clips and the class texts.

    Args:
        dataset (`FeatureSource`): Data set with N test clips of T frames and K classes.
        descriptions (`Mapping[str, Sequence[str]]`, *optional*): Texts of each class. None uses the descriptions of
            the processor.

    Returns:
        `tuple[Tensor, Tensor, Tensor]`: Mean over the frames (N, K), logits of the frames (N, T, K), and the mask of
        the frames (N, T).
    """
    network, processor = dataset.network
    model = copy.deepcopy(network)  # The classes of the copy are changed, and other rows share the network.
    model.set_classes(processor.class_prompts(descriptions))
    features = dataset.features("test")
    texts, scale = model.get_text_features().pooler_output, model.tgdfer.clip.logit_scale.exp()
    frames = scale * (torch.from_numpy(normalised_features(features)[0]) @ texts.T)
    mask = features.frame_mask[0]
    return (frames * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True), frames, mask
