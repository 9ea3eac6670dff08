"""Heads that classify a bag of frames: linear layers, TG-DFER without its CLIP, and heads on CLIP blocks with LoRA.

A head takes `(frames, frame_mask, timestamps)` and returns the logits of the clips and the scores of the frames.
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
from tgdfer.training.measure import frame_scores

# Options of TG-DFER on frozen features. The CLIP and the prompts are not trained.
FROZEN_CLIP: dict[str, Any] = {"context": "none"}

# Share of the frames over which "top" pooling averages.
TOP_SHARE = 0.25


def top_mean(scores: Tensor, frame_mask: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Averages the scores of the top frames, separately for each class.

    Args:
        scores (`torch.Tensor` of shape `(B, T, K)`): Scores of the frames for each class.
        frame_mask (`torch.Tensor` of shape `(B, T)`): Boolean mask.
        share (`float`, *optional*, defaults to `TOP_SHARE`): Share (0 to 1) of the unmasked frames with the highest
            scores that are averaged, at least one frame.

    Returns:
        `Tensor`: Mean scores (B, K).
    """
    top = top_frames(scores, frame_mask, share)
    return scores.masked_fill(~top, 0.0).sum(1) / top.sum(1)


class LinearHead(nn.Module):
    """Linear layer on each standardised frame, followed by pooling over the frames of the clip.

    Args:
        mean (`torch.Tensor` of shape `(D,)`): Mean of the training frames.
        spread (`torch.Tensor` of shape `(D,)`): Standard deviation of the training frames.
        classes (`int`): Number of classes K.
        pooling (`str`, *optional*, defaults to `"mean"`): "mean", which equals a linear layer on the mean of the
            frames, or "top", which averages the frames with the highest scores; see `top_mean`.
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
        """Returns the parameter groups of the optimizer, with the learning rate `rate`."""
        return [{"params": list(self.parameters()), "lr": rate}]

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps frame features (B, T, D) and their mask (B, T) to logits (B, K) and frame logits (B, T, K).

        The features need not be normalised.
        """
        scores = self.linear((F.normalize(frames, dim=-1) - self.mean) / self.spread)
        return self.pool(scores, frame_mask), scores

    def pool(self, scores: Tensor, frame_mask: Tensor) -> Tensor:
        """Pools frame scores (B, T, K) with mask (B, T) to logits (B, K)."""
        return masked_mean(scores, frame_mask) if self.pooling == "mean" else top_mean(scores, frame_mask)


class TextGuidedHead(nn.Module):
    """The part of TG-DFER that follows the CLIP.

    Args:
        model (`TGDFERForVideoClassification`): Model with a frozen CLIP.
    """

    scores_are_relevance = True

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__()
        self.model = model

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Returns the parameter groups of the optimizer: weight decay only for matrices, and no LoRA weights."""
        trained = [p for name, p in self.model.named_parameters() if p.requires_grad and "lora_" not in name]
        return [
            {"params": [p for p in trained if p.ndim > 1], "lr": rate},
            {"params": [p for p in trained if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps frame features (B, T, D), mask and seconds (B, T) to logits (B, K) and frame scores (B, T, K)."""
        output = self.model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps)
        return output.logits, frame_scores(output, frame_mask, self.model.config)

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Returns the loss of the model. The smoothing comes from its config, and the argument is ignored."""
        return self.model(frame_features=frames, frame_mask=frame_mask, timestamps=timestamps, labels=targets).loss


class AdaptedHead(nn.Module):
    """The last blocks of CLIP's vision tower with LoRA adapters, followed by a head on their frame features.

    The inputs are the cached inputs of the first of these blocks. LoRA starts at zero, so training starts from the
    features of the frozen CLIP.

    Args:
        model (`TGDFERForVideoClassification`): Model with LoRA adapters on its last `lora_layers` vision blocks, which
            are trained in place. The vision tower must be a CLIP tower or a ResNet of timm.
        head (`nn.Module`): Head on frame features, such as `LinearHead` or `TextGuidedHead`.
        head_rate (`float`): Learning rate of the head. `groups` sets the learning rate of LoRA.

    Raises:
        ValueError: If the vision tower is of another type.
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
        """Sets training or evaluation mode for all layers except the frozen ones."""
        super().train(mode)
        set_mode(self.blocks, mode)
        return self

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Returns the parameter groups of the optimizer, with the learning rate `rate`."""
        lora = [parameter for parameter in self.blocks.parameters() if parameter.requires_grad]
        return [{"params": lora, "lr": rate}, *self.head.groups(self.head_rate)]

    def frame_features(self, states: Tensor) -> Tensor:
        """Maps the inputs of the first adapted block, (N, P, C) or (N, C, H, W), to frame features (N, D)."""
        for block in self.blocks[:-1]:
            states = block(states) if self.is_resnet else block(states, attention_mask=None)
        if self.is_resnet:
            return self.projection(self.pool(self.blocks[-1](states)))
        return self.projection(self.norm(_class_token(self.blocks[-1], states)))

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns logits (B, K) and frame scores (B, T, K).

        Args:
            frames (`torch.Tensor` of shape `(B, T, ...)`): Inputs of the first adapted block.
            frame_mask (`torch.Tensor` of shape `(B, T)`): Boolean mask.
            timestamps (`torch.Tensor` of shape `(B, T)`, *optional*): Times in seconds.
        """
        return self.head(self._clip_features(frames, frame_mask), frame_mask, timestamps)

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Returns the loss of the head."""
        bag = (self._clip_features(frames, frame_mask), frame_mask, timestamps)
        return head_loss(self.head, bag, targets, smoothing)

    def _clip_features(self, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Returns frame features (B, T, D), with zeros for masked frames."""
        unmasked = self.frame_features(frames[frame_mask])
        features = frames.new_zeros(*frame_mask.shape, unmasked.shape[-1])
        features[frame_mask] = unmasked.to(features.dtype)
        return features


def head_loss(head: Any, bag: tuple[Tensor, Tensor, Tensor], targets: Tensor, smoothing: float) -> Tensor:
    """Returns the loss of a head: its method `loss` if it has one, otherwise the cross-entropy of its logits.

    Args:
        head (`Any`): The head.
        bag (`tuple[Tensor, Tensor, Tensor]`): Frames (B, T, ...), mask (B, T) and times in seconds (B, T).
        targets (`torch.Tensor` of shape `(B,)`): Class indices.
        smoothing (`float`): Label smoothing.
    """
    if hasattr(head, "loss"):
        return head.loss(*bag, targets, smoothing)
    return F.cross_entropy(head(*bag)[0].float(), targets, label_smoothing=smoothing)


def _class_token(block: Any, tokens: Tensor) -> Tensor:
    """Returns the class token (N, C) after the last block, given its input tokens (N, P, C).

    The outputs of the other tokens are not needed and not computed.
    """
    attention, normed = block.self_attn, block.layer_norm1(tokens)

    def split(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    query, key, value = attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed)
    mixed = F.scaled_dot_product_attention(
        split(query), split(key), split(value), scale=1 / math.sqrt(attention.head_dim)
    )
    token = tokens[:, 0] + attention.out_proj(mixed.transpose(1, 2).flatten(2))[:, 0]
    return token + block.mlp(block.layer_norm2(token))
