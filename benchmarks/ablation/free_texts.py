"""TG-DFER with learned class vectors instead of class texts, for features without a matching text tower."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification


class LearnedClassVectors(nn.Module):
    """One learned vector per class, which replaces the class text.

    Args:
        classes (`int`): Number of classes K.
        dim (`int`): Width D of the features.
    """

    description_mask: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.context = nn.Embedding(classes, dim)  # The model trains the texts if this attribute exists.
        # The vectors have unit length. At the usual length sqrt(D), a training step hardly changes their direction,
        # and the temporal network learns instead of them.
        nn.init.normal_(self.context.weight, std=dim**-0.5)
        self.register_buffer("description_mask", torch.ones(classes, 1, dtype=torch.bool))

    @property
    def description_weight(self) -> Tensor:
        """Parameter from which the model reads its precision."""
        return self.context.weight

    def forward(self, read: Any, description_embeds: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns unit class vectors (K, D), the same as (K, 1, D), and a mask (K, 1), like the text guidance."""
        texts = F.normalize(self.context.weight, dim=-1)
        return texts, texts.unsqueeze(1), self.description_mask


def free_text_model(classes: list[str], dim: int, num_frames: int, **options: Any) -> TGDFERForVideoClassification:
    """Returns a TG-DFER model with learned class vectors for frame features of width `dim`.

    Args:
        classes (`list[str]`): Names of the classes.
        dim (`int`): Width of the frame features.
        num_frames (`int`): Number of frames per clip.
        **options: Fields of `TGDFERConfig`.
    """
    # The CLIP is a minimal placeholder, because the features are given.
    shell = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = CLIPConfig(
        text_config={**shell, "vocab_size": 8, "projection_dim": dim, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**shell, "image_size": 8, "patch_size": 8, "projection_dim": dim},
        projection_dim=dim,
    )
    config = TGDFERConfig(clip_config=clip, id2label=dict(enumerate(classes)), num_frames=num_frames, **options)
    model = TGDFERForVideoClassification(config)
    model.tgdfer.text_guidance = LearnedClassVectors(len(classes), dim)
    model.freeze_clip()
    return model
