"""Heads that classify a bag of frames: linear layers, TG-DFER after CLIP, and either on top of adapted CLIP blocks.

A head takes `(frames, frame_mask, timestamps)` and returns the logits of the clips and scores of the frames.
Shapes: B clips, T frames, K classes, frame features of width D.
"""

import math
from typing import Any

from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of, set_mode
from tgdfer.modeling_tgdfer.layers_tgdfer import masked_mean, top_frames
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification

# Options of TG-DFER on frozen features: CLIP and its texts stay as they are.
FROZEN_CLIP: dict[str, Any] = {"context": "none"}

# Share of the frames that "top" pooling averages.
TOP_SHARE = 0.25


def top_mean(scores: Tensor, frame_mask: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Mean of the highest `share` of the unmasked frames' scores, class by class, at least one frame.

    Args:
        scores: (B, T, K).
        frame_mask: (B, T).
        share: 0 to 1.

    Returns:
        (B, K).
    """
    top = top_frames(scores, frame_mask, share)
    return scores.masked_fill(~top, 0.0).sum(1) / top.sum(1)


class LinearHead(nn.Module):
    """A linear layer on every frame, whose scores are pooled over the frames of the clip.

    Args:
        mean: (D,) mean of the training frames, which is subtracted.
        spread: (D,) standard deviation of the training frames, by which frames are divided.
        classes: number of classes K.
        pooling: "mean", which equals a linear layer on the mean of the frames, or "top".
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor, classes: int, pooling: str = "mean") -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.pooling = pooling
        self.linear = nn.Linear(len(mean), classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""
        return [{"params": list(self.parameters()), "lr": rate}]

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frame features (B, T, D) of any length, mask (B, T) -> logits (B, K), frame logits (B, T, K)."""
        scores = self.linear((F.normalize(frames, dim=-1) - self.mean) / self.spread)
        return self.pool(scores, frame_mask), scores

    def pool(self, scores: Tensor, frame_mask: Tensor) -> Tensor:
        """Scores of the frames (B, T, K), mask (B, T) -> logits (B, K)."""
        return masked_mean(scores, frame_mask) if self.pooling == "mean" else top_mean(scores, frame_mask)


class TextGuidedHead(nn.Module):
    """Everything of TG-DFER after CLIP.

    Args:
        model: model whose CLIP is frozen.
    """

    says_relevance = True

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__()
        self.model = model

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser: only matrices have weight decay. LoRA is not part of the head."""
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
        """Loss of the model, whose own config decides the smoothing."""
        return self.model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps, labels=targets).loss


class AdaptedHead(nn.Module):
    """The last blocks of the vision tower of CLIP with LoRA, and a head on their frame features.

    It takes the cached inputs of the first of these blocks. LoRA starts at zero, so that training starts from the
    features of the frozen CLIP.

    Args:
        model: model with LoRA on its last `lora_layers` vision blocks, which are trained in place. Its vision tower is
            one of CLIP or a ResNet of timm: of other towers nothing here knows what follows the blocks.
        head: head on frame features: linear, or all of TG-DFER after CLIP.
        head_rate: learning rate of the head. `groups` sets that of LoRA.

    Raises:
        ValueError: the vision tower is another one.
    """

    def __init__(self, model: TGDFERForVideoClassification, head: nn.Module, head_rate: float) -> None:
        super().__init__()
        clip, layers = model.tgdfer.clip, model.config.lora_layers
        tower = clip.vision_model
        self.head: Any = head
        self.head_rate = head_rate
        self.blocks = nn.ModuleList([block for _, block in blocks_of(tower)[-layers:]])
        self.projection = clip.visual_projection if hasattr(clip, "visual_projection") else nn.Identity()
        self.is_resnet = hasattr(tower, "timm_model") and isinstance(tower.timm_model, ResNet)
        if self.is_resnet:
            self.pool = tower.timm_model.global_pool
        elif isinstance(tower, CLIPVisionModel):
            self.norm = tower.post_layernorm
        else:
            raise ValueError(
                f"The rows with LoRA need a vision tower of CLIP or a ResNet of timm, not a {type(tower).__name__}; "
                "leave these rows out."
            )

    def train(self, mode: bool = True) -> "AdaptedHead":
        """Changes the mode of all but the frozen layers."""
        super().train(mode)
        set_mode(self.blocks, mode)
        return self

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""
        lora = [parameter for parameter in self.blocks.parameters() if parameter.requires_grad]
        return [{"params": lora, "lr": rate}, *self.head.groups(self.head_rate)]

    def see(self, states: Tensor) -> Tensor:
        """Inputs of the first adapted block, (N, P, C) or (N, C, H, W) -> frame features (N, D)."""
        for block in self.blocks[:-1]:
            states = block(states) if self.is_resnet else block(states, attention_mask=None)
        if self.is_resnet:
            return self.projection(self.pool(self.blocks[-1](states)))
        return self.projection(self.norm(_class_token(self.blocks[-1], states)))

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs of the first adapted block (B, T, ...), mask (B, T) -> logits (B, K), frame scores (B, T, K)."""
        return self.head(self._features(frames, frame_mask), frame_mask, timestamps)

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Loss of the head."""
        return head_loss(self.head, (self._features(frames, frame_mask), frame_mask, timestamps), targets, smoothing)

    def _features(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        seen = self.see(frames[frame_mask])
        features = frames.new_zeros(*frame_mask.shape, seen.shape[-1])
        features[frame_mask] = seen.to(features.dtype)
        return features


def head_loss(head: Any, bag: tuple[Tensor, Tensor, Tensor], targets: Tensor, smoothing: float) -> Tensor:
    """Loss of a head on frames, mask and seconds: its own if it has one, otherwise the cross-entropy of its logits."""
    if hasattr(head, "loss"):
        return head.loss(*bag, targets, smoothing)
    return F.cross_entropy(head(*bag)[0].float(), targets, label_smoothing=smoothing)


def _class_token(block: Any, tokens: Tensor) -> Tensor:
    """The class token after the last block, (N, P, C) -> (N, C). The other tokens are not read, so not computed."""
    attention, normed = block.self_attn, block.layer_norm1(tokens)

    def split(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    query, key, value = attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed)
    mixed = F.scaled_dot_product_attention(
        split(query), split(key), split(value), scale=1 / math.sqrt(attention.head_dim)
    )
    token = tokens[:, 0] + attention.out_proj(mixed.transpose(1, 2).flatten(2))[:, 0]
    return token + block.mlp(block.layer_norm2(token))
