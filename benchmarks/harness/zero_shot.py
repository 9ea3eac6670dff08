"""Classification by a CLIP that was not trained on the classes: by class words or by descriptions."""

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.processing.processing_tgdfer import TGDFERProcessor
from tgdfer.training.baseline import normalised_features
from tgdfer.training.features import FrameFeatures


class SeenClips(Protocol):
    """What zero-shot classification needs of a data set."""

    @property
    def network(self) -> tuple[TGDFERForVideoClassification, TGDFERProcessor]: ...

    def features(self, split: str, seed: int = 0) -> FrameFeatures: ...


def class_words(classes: Sequence[str]) -> dict[str, list[str]]:
    """The name of each class in place of its descriptions."""
    return {label: [label] for label in classes}


@torch.no_grad()
def zero_shot(
    dataset: SeenClips, descriptions: Mapping[str, Sequence[str]] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines between the frames of the test clips and the class texts, times the scale of CLIP.

    Args:
        dataset: N test clips of T frames and K classes.
        descriptions: texts of each class; None for the descriptions of the processor.

    Returns:
        Mean over the frames (N, K), the frames (N, T, K), and the mask of the frames (N, T).
    """
    network, processor = dataset.network
    model = copy.deepcopy(network)  # its classes are set, and other rows use the same network
    model.set_classes(processor.class_prompts(descriptions))
    seen = dataset.features("test")
    texts, scale = model.get_text_features().pooler_output, model.tgdfer.clip.logit_scale.exp()
    frames = scale * (torch.from_numpy(normalised_features(seen)[0]) @ texts.T)
    mask = seen.frame_mask[0]
    return (frames * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True), frames, mask
