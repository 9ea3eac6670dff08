"""Everything along time: operations on the frames of a clip under their mask, and the multi-grained temporal network.

The network has two grains: what changes within a few frames, and how the emotion flows over the clip. Each grain works
behind a narrow bottleneck and ends in a projection that starts at zero. Masked frames may stand anywhere in a clip.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.processing_utils import Unpack
from transformers.utils.generic import TransformersKwargs, maybe_autocast

from .configuration_tgdfer import TGDFERConfig


def at_least_fp32(values: Tensor) -> Tensor:
    """The values in float32 where they are in half precision."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) divided by their length, in their own dtype; zeros stay zeros.

    The division is in float32: the smallest length that `normalize` divides by is zero in float16.
    """
    return F.normalize(at_least_fp32(vectors), dim=-1).to(vectors.dtype)


def cosines(frames: Tensor, texts: Tensor) -> Tensor:
    """Products (..., T, K) of vectors of length one, (..., T, D) and (..., K, D), in float32 even under autocast."""
    with maybe_autocast(frames.device.type, enabled=False):
        return at_least_fp32(frames) @ at_least_fp32(texts.to(frames.device)).transpose(-1, -2)


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax in which masked elements have no part; exactly zero there, and everywhere if all are masked.

    The result is in float32 where the scores are in half precision.
    """
    scores = at_least_fp32(scores)
    scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim).masked_fill(~mask, 0.0)


def masked_mean(frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean over time of the unmasked frames: (B, T, C), (B, T) -> (B, C)."""
    weight = frame_mask.unsqueeze(-1).to(at_least_fp32(frames).dtype)
    return ((frames * weight).sum(1) / weight.sum(1).clamp(min=1.0)).to(frames.dtype)


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

    def __init__(self, config: TGDFERConfig, width: int):
        super().__init__()
        self.config = config
        self.is_causal = False
        self.head_dim = width // config.temporal_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def frequencies(self, device: torch.device | None = None) -> Tensor:
        """Radians a second, from a period of 32 s (the flow of a clip) to one of 1/4 s (a blink).

        They are computed anew each time. A buffer would be rounded for good when the model is converted to bfloat16.
        """
        octaves = torch.linspace(-5.0, 2.0, self.head_dim // 2, dtype=torch.float32, device=device)
        return 2 * math.pi * octaves.exp2()

    def rotate(self, states: Tensor, timestamps: Tensor) -> Tensor:
        """Rotates pairs of channels by time: (B, heads, T, C), (B, T) in seconds -> (B, heads, T, C)."""
        angle = (timestamps.unsqueeze(-1) * self.frequencies(timestamps.device)).unsqueeze(1)  # (B, 1, T, C / 2)
        cos, sin = angle.cos().to(states.dtype), angle.sin().to(states.dtype)
        first, second = states.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    def forward(
        self, hidden_states: Tensor, timestamps: Tensor, frame_attention: Any, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[Tensor, Tensor | None]:
        """Attends.

        Args:
            hidden_states: (B, T, C).
            timestamps: (B, T) seconds.
            frame_attention: Which frames see each other, as `create_bidirectional_mask` gives it for the attention
                implementation of the config.
            **kwargs: Of the attention implementation.

        Returns:
            (B, T, C), and the weights (B, heads, T, T) where the implementation has them.
        """
        shape = (*hidden_states.shape[:-1], -1, self.head_dim)
        queries, keys, values = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = self.rotate(queries, timestamps), self.rotate(keys, timestamps)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attend(
            self, queries, keys, values, frame_attention, scaling=self.head_dim**-0.5, dropout=0.0, **kwargs
        )
        return self.out_proj(output.flatten(2)), weights


class TGDFERShortTerm(nn.Module):
    """Short-term grain: differences to the adjacent frames and attention within +-w frames.

    For onsets and micro-movements. It returns what is to be added to the frames: zero at the start of training.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        width = config.short_term_width
        self.config = config
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
        # Distances are counted in unmasked frames. At least one frame is near each frame, so that no row is empty.
        rank = frame_mask.long().cumsum(1)

        def near(clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (rank[clip, query] - rank[clip, key]).abs() <= self.window

        seen = create_bidirectional_mask(self.config, hidden, frame_mask, and_mask_function=near)
        # Flash attention leaves out masked frames and counts the others, as `near` does.
        options = {"sliding_window": self.window + 1} if "flash" in self.config._attn_implementation else {}
        attended, _ = self.attention(self.attention_norm(hidden), timestamps, seen, **options)
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
        self, hidden_states: Tensor, timestamps: Tensor, frame_attention: Any, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        attended, _ = self.attention(self.attention_norm(hidden_states), timestamps, frame_attention, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


class TGDFERLongRange(nn.Module):
    """Long-range grain: a small Transformer over the whole clip, for the flow of the emotion.

    It returns what is to be added to the frames: zero at the start of training.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.config = config
        self.input_norm = nn.LayerNorm(dim)
        self.down = nn.Linear(dim, config.long_range_width)
        self.layers = nn.ModuleList(TGDFERLongRangeLayer(config) for _ in range(config.long_range_layers))
        self.output_norm = nn.LayerNorm(config.long_range_width)
        self.up = TGDFERZeroLinear(config.long_range_width, dim)

    def forward(
        self, frames: Tensor, timestamps: Tensor, frame_mask: Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> Tensor:
        """(B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.down(self.input_norm(frames))
        # With a mask function the mask is made without a look at its values, for which a GPU would have to wait.
        seen = create_bidirectional_mask(self.config, hidden, frame_mask, and_mask_function=_anything)
        for layer in self.layers:
            hidden = layer(hidden, timestamps, seen, **kwargs)
        output = self.up(F.gelu(self.output_norm(hidden)))
        drop = self.config.long_range_dropout
        if self.training and drop:  # stochastic depth (Huang et al., 2016), a clip at a time
            keep = torch.rand(output.shape[0], 1, 1, device=output.device) >= drop
            output = output * keep / (1 - drop)
        return output


def _anything(clip: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """A mask function that allows every pair of frames."""
    return query >= 0
