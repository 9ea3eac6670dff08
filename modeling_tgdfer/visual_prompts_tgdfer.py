"""Visual prompts of TG-DFER: a vector that is computed from the frames of a clip is added to each class text."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_tgdfer import TGDFERConfig
from .layers_tgdfer import TGDFERZeroLinear, at_least_fp32, by_class, masked_mean, masked_softmax, matmul_fp32, unit


class TGDFERVisualPrompts(nn.Module):
    """Adapts each class text to the difference between the relevant frames and the mean of the clip.

    The equations are `v_k = sum_t A_tk x_t - mean_t x_t`, `gamma_k = limit tanh(eta_k / limit)` and
    `t'_k = norm(t_k + gamma_k tanh(U gelu(W sqrt(D) v_k)) / sqrt(D))`. All classes share the weights `U` and `W`. The
    strength `eta_k` of each class is zero at the start of training. The limit is `config.visual_prompt_limit`.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames and texts.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.limit = float(config.visual_prompt_limit)
        # The elements of unit vectors are about 1 / sqrt(D). They are scaled to about one before the two layers and
        # scaled back afterwards. The length of a prompt is therefore at most |gamma_k|, and that of a text is one.
        self.rescale = math.sqrt(dim)
        self.down = nn.Linear(dim, config.visual_prompt_rank, bias=False)
        self.up = nn.Linear(config.visual_prompt_rank, dim, bias=False)
        self.strength = nn.Parameter(torch.zeros(config.num_labels))

    def forward(self, text_embeds: Tensor, frames: Tensor, relevance: Tensor, frame_mask: Tensor) -> Tensor:
        """Adapts the class texts: `t` (K, D), `x` (B, T, D), `A` (B, T, K), mask (B, T) -> `t'` (B, K, D)."""
        exact = at_least_fp32(frames)
        relevant = matmul_fp32(relevance.transpose(1, 2), exact)  # means of the frames, weighted by relevance
        contrast = relevant - masked_mean(exact, frame_mask).unsqueeze(1)
        prompts = torch.tanh(self.up(F.gelu(self.down((contrast * self.rescale).to(frames.dtype))))) / self.rescale
        strength = self.limit * torch.tanh(at_least_fp32(self.strength) / self.limit)
        return unit(at_least_fp32(text_embeds) + strength.unsqueeze(-1) * prompts)

    def set_classes(self, old_indices: Sequence[int | None]) -> None:
        """Replaces the classes, which are given by their current indices. The index of a new class is None."""
        self.strength = by_class(self.strength, old_indices)


class TGDFERCrossAttentionPrompts(nn.Module):
    """Adapts each class text to the frames that it attends to.

    The attention starts from the relevance of the frames to the class:
    `C_tk = softmax_t(log A_tk + (Q sqrt(D) t_k) . (K sqrt(D) x_t) / sqrt(r))`. The attended frames are compared with
    the mean of the clip, `v_k = sum_t C_tk x_t - mean_t x_t`. A feed-forward layer of rank r makes the visual prompt,
    `p_k = U gelu(W sqrt(D) v_k + c) / sqrt(D)`, whose length is bounded: `b(p) = limit tanh(|p| / limit) p / |p|`. It
    is added to the class text, `t'_k = norm(t_k + b(p_k))`.

    All classes share the weights, so new classes can use them. `Q` and `U` are zero at the start of training. The rank
    is `config.visual_prompt_rank`, and the limit is `config.visual_prompt_limit`.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames and texts.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.rank = config.visual_prompt_rank
        self.limit = float(config.visual_prompt_limit)
        # The elements of unit vectors are about 1 / sqrt(D). They are scaled to about one before each layer, and the
        # output is scaled back. So the layers can have their usual initial values.
        self.rescale = math.sqrt(dim)
        self.q_proj = TGDFERZeroLinear(dim, self.rank, bias=False)
        self.k_proj = nn.Linear(dim, self.rank, bias=False)
        self.down = nn.Linear(dim, self.rank)
        self.up = TGDFERZeroLinear(self.rank, dim, bias=False)

    def forward(self, text_embeds: Tensor, frames: Tensor, relevance: Tensor, frame_mask: Tensor) -> Tensor:
        """Adapts the class texts: `t` (K, D), `x` (B, T, D), `A` (B, T, K), mask (B, T) -> `t'` (B, K, D)."""
        unit_frames = unit(frames)
        queries = self.q_proj(text_embeds.to(frames.dtype) * self.rescale)  # (K, r)
        keys = self.k_proj(unit_frames * self.rescale)  # (B, T, r)
        # Relevance may underflow to zero. The logarithm must stay finite for unmasked frames.
        start = at_least_fp32(relevance).clamp(min=torch.finfo(torch.float32).tiny).log()
        scores = start + matmul_fp32(keys, queries.transpose(-1, -2)) / math.sqrt(self.rank)
        attention = masked_softmax(scores, frame_mask.unsqueeze(-1), dim=1)  # (B, T, K)
        exact = at_least_fp32(unit_frames)
        contrast = matmul_fp32(attention.transpose(1, 2), exact) - masked_mean(exact, frame_mask).unsqueeze(1)
        prompts = self.up(F.gelu(self.down((contrast * self.rescale).to(frames.dtype))))
        prompts = at_least_fp32(prompts) / self.rescale
        # The small constant keeps the gradient of the square root finite at the start, where prompts are zero.
        length = (prompts.square().sum(-1, keepdim=True) + 1e-8).sqrt()
        bounded = prompts * (self.limit * torch.tanh(length / self.limit) / length)
        return unit(at_least_fp32(text_embeds) + bounded)

    def set_classes(self, old_indices: Sequence[int | None]) -> None:
        """Does nothing: no weight belongs to a class."""


VisualPrompts = TGDFERVisualPrompts | TGDFERCrossAttentionPrompts

# The classes of the visual prompts by `config.visual_prompt_source`.
VISUAL_PROMPTS: dict[str, type[VisualPrompts]] = {
    "contrast": TGDFERVisualPrompts,
    "cross_attention": TGDFERCrossAttentionPrompts,
}
