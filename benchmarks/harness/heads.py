"""Heads that answer for a bag of frames. All take `(frames, frame_mask, timestamps)` and give two sets of logits.

Shapes: B clips, T frames, K classes, D the width of a frame feature.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.modeling_tgdfer.temporal_tgdfer import masked_mean

# What "top" averages of the frames.
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
    count = (frame_mask.sum(1, keepdim=True) * share).ceil().clamp(min=1)  # (B, 1)
    ranked = scores.masked_fill(~frame_mask.unsqueeze(-1), -torch.inf).sort(dim=1, descending=True).values
    taken = (torch.arange(scores.shape[1], device=scores.device) < count).unsqueeze(-1)
    return ranked.masked_fill(~taken, 0.0).sum(1) / count


class LinearHead(nn.Module):
    """A linear layer on every frame, and the answer of the clip by "mean" or "top" pooling of what it says.

    Args:
        mean: (D,) of the training frames, which are centred by it.
        spread: (D,) their standard deviation, to which they are scaled.
        classes: K.
        pooling: "mean", which is a linear layer on the mean of the frames, or "top".
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, mean: Tensor, spread: Tensor, classes: int, pooling: str) -> None:
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
        pool = masked_mean if self.pooling == "mean" else top_mean
        return pool(scores, frame_mask), scores


class AdaptedHead(nn.Module):
    """The last blocks of CLIP's vision tower with LoRA, and a linear head on what they see.

    It starts from what enters the first of these blocks, and as LoRA starts at zero, from what the frozen CLIP says.

    Args:
        model: with LoRA attached to its last `lora_layers` vision blocks; its modules are trained in place.
        head: on frame features: linear, or all of TG-DFER after CLIP.
        head_rate: learning rate of the head; that of LoRA is the one to be chosen.
    """

    def __init__(self, model: TGDFERForVideoClassification, head: nn.Module, head_rate: float) -> None:
        super().__init__()
        clip, layers = model.tgdfer.clip, model.config.lora_layers
        self.head: Any = head
        self.head_rate = head_rate
        self.blocks = clip.vision_model.encoder.layers[-layers:]
        self.norm, self.projection = clip.vision_model.post_layernorm, clip.visual_projection

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser."""
        lora = [parameter for parameter in self.blocks.parameters() if parameter.requires_grad]
        return [{"params": lora, "lr": rate}, *self.head.groups(self.head_rate)]

    def see(self, tokens: Tensor) -> Tensor:
        """What enters the first adapted block (N, P, C) -> frame features (N, D)."""
        for block in self.blocks[:-1]:
            tokens = block(tokens, attention_mask=None)
        return self.projection(self.norm(_class_token(self.blocks[-1], tokens)))

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What enters the first adapted block (B, T, P, C), mask (B, T) -> logits (B, K), frame scores (B, T, K)."""
        return self.head(self._features(frames, frame_mask), frame_mask, timestamps)

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """That of the head."""
        return head_loss(self.head, (self._features(frames, frame_mask), frame_mask, timestamps), targets, smoothing)

    def _features(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        features = frames.new_zeros(*frame_mask.shape, self.projection.out_features)
        features[frame_mask] = self.see(frames[frame_mask]).to(features.dtype)
        return features


def head_loss(head: Any, bag: tuple[Tensor, Tensor, Tensor], targets: Tensor, smoothing: float) -> Tensor:
    """The loss of a head on frames, mask and seconds: its own, or else the cross-entropy of its logits."""
    if hasattr(head, "loss"):
        return head.loss(*bag, targets, smoothing)
    return F.cross_entropy(head(*bag)[0].float(), targets, label_smoothing=smoothing)


def _class_token(block: Any, tokens: Tensor) -> Tensor:
    """The class token after the last block, (N, P, C) -> (N, C): nobody reads the others, so they are not computed."""
    attention, normed = block.self_attn, block.layer_norm1(tokens)

    def split(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    query, key, value = attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed)
    mixed = F.scaled_dot_product_attention(
        split(query), split(key), split(value), scale=1 / math.sqrt(attention.head_dim)
    )
    token = tokens[:, 0] + attention.out_proj(mixed.transpose(1, 2).flatten(2))[:, 0]
    return token + block.mlp(block.layer_norm2(token))
