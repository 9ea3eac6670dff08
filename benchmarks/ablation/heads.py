"""TG-DFER as a head on cached frames, with class texts or with free class vectors where there is no text tower."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from tgdfer.modeling_tgdfer.configuration_tgdfer import TGDFERConfig
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification


class TextGuidedHead(nn.Module):
    """Everything of TG-DFER after CLIP.

    Args:
        model: with CLIP frozen.
    """

    says_relevance = True

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__()
        self.model = model

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser: matrices decay, all else does not; LoRA is not of the head."""
        trained = [p for name, p in self.model.named_parameters() if p.requires_grad and "lora_" not in name]
        return [
            {"params": [p for p in trained if p.ndim > 1], "lr": rate},
            {"params": [p for p in trained if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        """Frame features (B, T, D), mask and seconds (B, T) -> logits (B, K), frame relevance (B, T, K)."""
        output = self.model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps)
        return output.logits, output.frame_relevance

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """The loss of the model, whose config says the smoothing."""
        return self.model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps, labels=targets).loss


class FreeTexts(nn.Module):
    """Learnt class vectors in the place of class texts, for features that no text tower knows: one a class.

    Args:
        classes: K.
        dim: D.
    """

    description_mask: Tensor

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.context = nn.Embedding(classes, dim)  # what the model looks at to know whether texts are trained
        # About length one: at the usual sqrt(D) a step hardly turns them, and the rest learns in their place.
        nn.init.normal_(self.context.weight, std=dim**-0.5)
        self.register_buffer("description_mask", torch.ones(classes, 1, dtype=torch.bool))

    def encode(self, clip: CLIPModel) -> Tensor:
        """Class vectors of length one, (K, 1, D)."""
        return F.normalize(self.context.weight, dim=-1).unsqueeze(1)

    def forward(self, description_embeds: Tensor) -> Tensor:
        """(K, 1, D) -> (K, D)."""
        return description_embeds.squeeze(1)


def free_text_model(classes: list[str], dim: int, num_frames: int, **options: Any) -> TGDFERForVideoClassification:
    """TG-DFER for features of width `dim` alone: its CLIP is an empty shell, its class texts are learnt vectors."""
    shell = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = CLIPConfig(
        text_config={**shell, "vocab_size": 8, "projection_dim": dim, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**shell, "image_size": 8, "patch_size": 8, "projection_dim": dim},
        projection_dim=dim,
    )
    config = TGDFERConfig(clip_config=clip, id2label=dict(enumerate(classes)), num_frames=num_frames, **options)
    model = TGDFERForVideoClassification(config)
    model.tgdfer.text_guidance = FreeTexts(len(classes), dim)  # type: ignore[assignment]
    model.freeze_clip()
    return model
