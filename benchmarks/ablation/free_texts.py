"""TG-DFER with learnt class vectors in place of class texts, for features that no text tower belongs to."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification


class FreeTexts(nn.Module):
    """One learnt vector per class in place of the class texts.

    Args:
        classes: number of classes K.
        dim: width D.
    """

    description_mask: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.context = nn.Embedding(classes, dim)  # by which the model knows that texts are trained
        # Length one. At the usual length sqrt(D) a step hardly turns them, and the temporal network learns instead.
        nn.init.normal_(self.context.weight, std=dim**-0.5)
        self.register_buffer("description_mask", torch.ones(classes, 1, dtype=torch.bool))

    @property
    def description_weight(self) -> Tensor:
        """The parameter whose precision is that of the model."""
        return self.context.weight

    def forward(self, read: Any, description_embeds: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """As of the text guidance: class vectors (K, D) of length one, the same as (K, 1, D), and a mask (K, 1)."""
        texts = F.normalize(self.context.weight, dim=-1)
        return texts, texts.unsqueeze(1), self.description_mask


def free_text_model(classes: list[str], dim: int, num_frames: int, **options: Any) -> TGDFERForVideoClassification:
    """TG-DFER for frame features of width `dim`, with a placeholder for CLIP and learnt class vectors."""
    shell = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = CLIPConfig(
        text_config={**shell, "vocab_size": 8, "projection_dim": dim, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**shell, "image_size": 8, "patch_size": 8, "projection_dim": dim},
        projection_dim=dim,
    )
    config = TGDFERConfig(clip_config=clip, id2label=dict(enumerate(classes)), num_frames=num_frames, **options)
    model = TGDFERForVideoClassification(config)
    model.tgdfer.text_guidance = FreeTexts(len(classes), dim)
    model.freeze_clip()
    return model
