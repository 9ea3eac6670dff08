"""Patches of frames as features, and heads on them: parts of other methods that work before the patches are averaged.

The last feature map of a frozen ResNet has C channels at P places, which are called patches. Their mean, projected, is
the frame feature that all other heads get. At the start, the heads here compute the same features from the patches.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness.benchmark_dataset import BenchmarkDataset
from benchmarks.harness.heads import TextGuidedHead
from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import blocks_of
from tgdfer.modeling_tgdfer.layers_tgdfer import masked_mean
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.features import FrameFeatures

# Frames that are encoded in one step.
_STEP = 512


@dataclass
class PatchDataset(BenchmarkDataset):
    """The clips of a data set with the patches of their frames, instead of one feature per frame.

    Training clips have `Settings.lora_views` views, because patches need far more memory than features.
    """

    _patches: dict[tuple[str, int], FrameFeatures] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, dataset: BenchmarkDataset) -> "PatchDataset":
        """Returns the clips of another data set with their patches."""
        return cls(**{one.name: getattr(dataset, one.name) for one in fields(BenchmarkDataset)})

    @property
    def tower(self) -> Any:
        """The vision tower.

        Raises:
            ValueError: If it is not a ResNet of timm, whose frame feature is the mean of its patches.
        """
        tower = self.network[0].tgdfer.clip.vision_model
        if not isinstance(getattr(tower, "timm_model", None), ResNet):
            raise ValueError(
                f"The rows on patches need a ResNet of timm as vision tower, not a {type(tower).__name__}; leave these"
                " rows out."
            )
        return tower

    @property
    def channels(self) -> int:
        """Number of channels C of a patch."""
        return self.tower.timm_model.num_features

    def features(self, split: str, seed: int = 0) -> FrameFeatures:
        """Returns the patches of a split, (V, N, T, C * P): the values of the first channel come first."""
        key = (split, 0 if split == "test" else seed)
        if key not in self._patches:
            blocks = blocks_of(self.tower)
            inputs = self.activations(split, len(blocks) - 1, seed)
            shape, last = inputs.features.shape, blocks[-1][1].eval()
            maps: Tensor | None = None
            with torch.inference_mode():
                for start, states in enumerate(inputs.features.flatten(0, 2).split(_STEP)):
                    step = last(states.float()).flatten(1).half()
                    if maps is None:
                        maps = step.new_empty(shape[0] * shape[1] * shape[2], step.shape[1])
                    maps[start * _STEP : start * _STEP + len(step)] = step
            assert maps is not None
            # The block gives masked frames a value other than zero.
            features = maps.unflatten(0, shape[:3]).masked_fill(~inputs.frame_mask.unsqueeze(-1), 0.0)
            self._patches[key] = FrameFeatures(features.clone(), inputs.frame_mask, inputs.timestamps)
        return self._patches[key]


class GlobalConvolutionAttention(nn.Module):
    """Global convolution-attention block (Li et al., 2022, arXiv 2208.10335): weights of the channels of each frame.

    A depthwise convolution over the whole map gives one value per channel. A bottleneck of C / 16 turns them into
    weights between 0 and 2. The weight of a channel in a frame is the geometric mean of its own weight and the mean
    weight of the clip. All weights are 1 at the start.

    Args:
        channels (`int`): Number of channels C.
        places (`int`): Number of places P of the map.
    """

    def __init__(self, channels: int, places: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, channels, places, groups=channels)
        self.down = nn.Linear(channels, max(channels // 16, 1))
        self.up = nn.Linear(max(channels // 16, 1), channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, maps: Tensor, frame_mask: Tensor) -> Tensor:
        """Computes the weights of the channels: maps (B, T, C, P), mask (B, T) -> (B, T, C)."""
        values = self.convolution(maps.flatten(0, 1)).squeeze(-1).unflatten(0, maps.shape[:2])
        weights = 2 * torch.sigmoid(self.up(F.relu(self.down(values))))
        return (weights * masked_mean(weights, frame_mask).unsqueeze(1)).sqrt()


class PatchAdapter(nn.Module):
    """A bottleneck of C / 16 on each patch, which is added to the patch. It adds zero at the start.

    Args:
        channels (`int`): Number of channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.down = nn.Linear(channels, max(channels // 16, 1))
        self.up = nn.Linear(max(channels // 16, 1), channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Adapts patches: (..., C) -> (..., C)."""
        return patches + self.up(F.gelu(self.down(self.norm(patches))))


class PatchHead(nn.Module):
    """TG-DFER on patches: a part that changes them, their mean, the frozen projection of CLIP, and the network.

    Args:
        model (`TGDFERForVideoClassification`): Model with a frozen CLIP, which is trained in place.
        channels (`int`): Number of channels C of a patch.
        part (`nn.Module`): `GlobalConvolutionAttention` or `PatchAdapter`.
        patch_loss (`Callable`, *optional*): `patch_loss(patches, frame_mask, targets)` is added to the loss. The
            patches have the shape (B, T, P, D) and are in the space of the texts.
    """

    scores_are_relevance = True

    def __init__(
        self,
        model: TGDFERForVideoClassification,
        channels: int,
        part: nn.Module,
        patch_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.head, self.channels, self.part, self.patch_loss = TextGuidedHead(model), channels, part, patch_loss

    @property
    def model(self) -> TGDFERForVideoClassification:
        """The network."""
        return self.head.model

    def groups(self, rate: float) -> list[dict[str, Any]]:
        """Returns the parameter groups of the optimizer: weight decay only for matrices and convolutions."""
        own = list(self.part.parameters())
        return [
            *self.head.groups(rate),
            {"params": [p for p in own if p.ndim > 1], "lr": rate},
            {"params": [p for p in own if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        ]

    def forward(self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor) -> tuple[Tensor, Tensor]:
        """Maps patches (B, T, C * P), mask and seconds (B, T) to logits (B, K) and frame scores (B, T, K)."""
        return self.head(self._features(self._patches(frames), frame_mask), frame_mask, timestamps)

    def loss(
        self, frames: Tensor, frame_mask: Tensor, timestamps: Tensor, targets: Tensor, smoothing: float
    ) -> Tensor:
        """Returns the loss of the network, and the loss of the patches if there is one."""
        patches = self._patches(frames)
        loss = self.head.loss(self._features(patches, frame_mask), frame_mask, timestamps, targets, smoothing)
        if self.patch_loss is not None:
            loss = loss + self.patch_loss(self._project(patches), frame_mask, targets)
        return loss

    def _patches(self, frames: Tensor) -> Tensor:
        """Returns the patches, changed by a `PatchAdapter`: (B, T, C * P) -> (B, T, P, C)."""
        patches = frames.unflatten(-1, (self.channels, -1)).transpose(-1, -2)
        return self.part(patches) if isinstance(self.part, PatchAdapter) else patches

    def _features(self, patches: Tensor, frame_mask: Tensor) -> Tensor:
        """Returns frame features: patches (B, T, P, C), mask (B, T) -> (B, T, D)."""
        pooled = patches.mean(-2)
        if isinstance(self.part, GlobalConvolutionAttention):
            pooled = pooled * self.part(patches.transpose(-1, -2), frame_mask)
        return self._project(pooled)

    def _project(self, states: Tensor) -> Tensor:
        """Projects states of the tower into the space of the texts: (..., C) -> (..., D)."""
        clip: Any = self.model.tgdfer.clip
        return clip.visual_projection(states)
