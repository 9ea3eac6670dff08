"""Everything along time: operations on the frames of a clip under their mask, and the multi-grained temporal network.

The network has two grains: what changes within a few frames, and how the emotion flows over the clip. Each grain works
behind a narrow bottleneck and ends in a projection that starts at zero. Masked frames may stand anywhere in a clip.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs

from .configuration_tgdfer import TGDFERConfig


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax in which masked elements have no part; exactly zero there, and everywhere if all are masked."""
    scores = scores.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    return scores.softmax(dim).masked_fill(~mask, 0.0)


def masked_mean(frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean over time of the unmasked frames: (B, T, C), (B, T) -> (B, C)."""
    weight = frame_mask.to(frames.dtype).unsqueeze(-1)
    return (frames * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def neighbours(frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the previous and of the next unmasked frame; a frame without one is its own. (B, T) each."""
    index = torch.arange(frame_mask.shape[1], device=frame_mask.device)
    earlier = frame_mask.unsqueeze(1) & (index.unsqueeze(0) < index.unsqueeze(1))  # (B, T, T)
    later = frame_mask.unsqueeze(1) & (index.unsqueeze(0) > index.unsqueeze(1))
    previous = torch.where(earlier, index, -1).amax(-1)
    following = torch.where(later, index, index.shape[0]).amin(-1)
    previous = torch.where(previous < 0, index, previous)
    following = torch.where(following == index.shape[0], index, following)
    return previous, following


def gather_frames(frames: Tensor, index: Tensor) -> Tensor:
    """Frames at `index`: (B, T, C), (B, T) -> (B, T, C)."""
    return frames.gather(1, index.unsqueeze(-1).expand(-1, -1, frames.shape[-1]))


def top_frames(scores: Tensor, frame_mask: Tensor, share: float) -> Tensor:
    """Marks the `share` of the unmasked frames with the highest scores, at least one frame a clip.

    Args:
        scores: (B, T), or (B, T, K) to rank the frames for each class.
        frame_mask: (B, T).
        share: 0 to 1; 0 marks the one highest frame.

    Returns:
        Mask of the shape of `scores`. Among equal scores the earlier frame comes first.
    """
    mask = frame_mask if scores.ndim == 2 else frame_mask.unsqueeze(-1)
    count = (mask.sum(1, keepdim=True) * share).ceil().clamp(min=1)
    order = scores.detach().masked_fill(~mask, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return (order.argsort(dim=1) < count) & mask


class TGDFERZeroLinear(nn.Linear):
    """A projection that starts at zero, so that a branch which ends in it starts as an exact identity.

    A class of its own, because transformers initialises custom code module by module, and passes over modules that
    hold no parameter themselves: a parent could not zero its child.
    """


class TGDFERTemporalAttention(nn.Module):
    """Attention between frames that knows time by a rotation on seconds (RoFormer, Su et al., 2021).

    It never knows positions. Only differences in time matter, so an emotion may come anywhere in a clip.
    """

    time_frequencies: Tensor

    def __init__(self, config: TGDFERConfig, width: int):
        super().__init__()
        self.config = config
        self.is_causal = False
        self.head_dim = width // config.temporal_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.register_buffer("time_frequencies", self.frequencies(), persistent=False)

    def frequencies(self) -> Tensor:
        """Radians a second, from a period of 32 s (the flow of a clip) to one of 1/4 s (a blink)."""
        return 2 * math.pi * torch.logspace(math.log2(1 / 32), math.log2(4), self.head_dim // 2, base=2.0)

    def rotate(self, states: Tensor, timestamps: Tensor) -> Tensor:
        """Rotates pairs of channels by time: (B, heads, T, C), (B, T) in seconds -> (B, heads, T, C)."""
        angle = (timestamps.unsqueeze(-1) * self.time_frequencies).unsqueeze(1)  # (B, 1, T, C / 2)
        cos, sin = angle.cos().to(states.dtype), angle.sin().to(states.dtype)
        first, second = states.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    def forward(
        self, hidden_states: Tensor, timestamps: Tensor, allowed: Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, C), seconds (B, T), who may see whom (B, T, T) -> (B, T, C) and the weights (B, heads, T, T)."""
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        queries, keys, values = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = self.rotate(queries, timestamps), self.rotate(keys, timestamps)
        bias = torch.zeros_like(allowed, dtype=queries.dtype)
        bias = bias.masked_fill(~allowed, torch.finfo(queries.dtype).min).unsqueeze(1)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(self, queries, keys, values, bias, scaling=self.head_dim**-0.5, dropout=0.0, **kwargs)
        return self.out_proj(output.flatten(2)), weights


class TGDFERShortTerm(nn.Module):
    """Short-term grain: differences to the adjacent frames and attention within +-w frames.

    For onsets and micro-movements. It returns what is to be added to the frames: zero at the start of training.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        width = config.short_term_width
        self.window = config.short_term_window
        self.input_norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, width)
        self.change = nn.Linear(3 * width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TGDFERTemporalAttention(config, width)
        self.output_norm = nn.LayerNorm(width)
        self.up = TGDFERZeroLinear(width, dim)

    def forward(self, frames: Tensor, timestamps: Tensor, frame_mask: Tensor) -> Tensor:
        """(B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.down(self.input_norm(frames))
        previous, following = neighbours(frame_mask)
        changes = [hidden - gather_frames(hidden, previous), gather_frames(hidden, following) - hidden]
        hidden = hidden + F.gelu(self.change(torch.cat([hidden, *changes], dim=-1)))
        # Distances are counted in unmasked frames; a masked frame sees itself, so that no row of weights is empty.
        rank = frame_mask.long().cumsum(1)
        near = (rank.unsqueeze(1) - rank.unsqueeze(2)).abs() <= self.window
        itself = torch.eye(frame_mask.shape[1], dtype=torch.bool, device=frames.device)
        attended, _ = self.attention(
            self.attention_norm(hidden), timestamps, (near & frame_mask.unsqueeze(1)) | itself
        )
        return self.up(F.gelu(self.output_norm(hidden + attended)))


class TGDFERLongRangeLayer(GradientCheckpointingLayer):
    """A pre-norm Transformer layer over the whole clip."""

    def __init__(self, config: TGDFERConfig):
        super().__init__()
        width = config.long_range_width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = TGDFERTemporalAttention(config, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(
        self, hidden_states: Tensor, timestamps: Tensor, allowed: Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        attended, _ = self.attention(self.attention_norm(hidden_states), timestamps, allowed, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class TGDFERLongRange(nn.Module):
    """Long-range grain: a small Transformer over the whole clip, for the flow of the emotion.

    It returns what is to be added to the frames: zero at the start of training.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.drop = config.long_range_dropout
        self.input_norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, config.long_range_width)
        self.layers = nn.ModuleList(TGDFERLongRangeLayer(config) for _ in range(config.long_range_layers))
        self.output_norm = nn.LayerNorm(config.long_range_width)
        self.up = TGDFERZeroLinear(config.long_range_width, dim)

    def forward(
        self, frames: Tensor, timestamps: Tensor, frame_mask: Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """(B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        itself = torch.eye(frame_mask.shape[1], dtype=torch.bool, device=frames.device)
        allowed = frame_mask.unsqueeze(1) | itself
        hidden = self.down(self.input_norm(frames))
        for layer in self.layers:
            hidden = layer(hidden, timestamps, allowed, **kwargs)
        output = self.up(F.gelu(self.output_norm(hidden)))
        if self.training and self.drop:  # stochastic depth (Huang et al., 2016), a clip at a time
            keep = torch.rand(output.shape[0], 1, 1, device=output.device) >= self.drop
            output = output * keep / (1 - self.drop)
        return output
