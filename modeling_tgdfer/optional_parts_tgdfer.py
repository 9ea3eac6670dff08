"""Parts of neighbouring methods that are off by default: temporal adapter, weights of motion, and emotion part.

A part that is off has no weights and takes no time. `docs/reference/neighbours.md` says when to switch one on.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_tgdfer import TGDFERConfig
from .layers_tgdfer import (
    TGDFERTemporalAttention,
    TGDFERZeroLinear,
    at_least_fp32,
    attention_mask_of,
    gather_frames,
    masked_mean,
    masked_softmax,
    matmul_fp32,
    neighbours,
)


class TGDFERTemporalAdapter(nn.Module):
    """Temporal adapter of S2D (Chen et al., 2023, arXiv 2312.05447): temporal attention and a feed-forward layer.

    Both are residual bottlenecks of width D / 4 that end in zeros. Therefore the network starts from what it learned
    from still pictures. The paper has an adapter in every block of its ViT. Here there is one after CLIP, so that
    features of frames can be cached and shared by overlapping windows.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        self.config = config
        step = 2 * config.temporal_heads  # The attention rotates pairs of channels in each head.
        width = max(dim // 4 // step, 1) * step
        self.attention_norm = nn.LayerNorm(dim)
        self.attention_down = nn.Linear(dim, width)
        self.attention = TGDFERTemporalAttention(config, width)
        self.attention_up = TGDFERZeroLinear(width, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp_down = nn.Linear(dim, width)
        self.mlp_up = TGDFERZeroLinear(width, dim)

    def forward(self, frames: Tensor, timestamps: Tensor, frame_mask: Tensor) -> Tensor:
        """Adapts the frames: frames (B, T, D), seconds (B, T), mask (B, T) -> (B, T, D)."""
        hidden = self.attention_down(self.attention_norm(frames))
        attended, _ = self.attention(hidden, timestamps, attention_mask_of(self.config, hidden, frame_mask))
        frames = frames + self.attention_up(attended)
        return frames + self.mlp_up(F.gelu(self.mlp_down(self.mlp_norm(frames))))


def motion_weights(frames: Tensor, frame_mask: Tensor) -> Tensor:
    """Computes weights of frames by the motion in them, as in GRACE (Liu et al., 2025, arXiv 2507.11892).

    The motion of a frame is its mean squared distance `d_t` from the previous and the next unmasked frame. The weights
    are `softmax_t(d_t / mean_t d_t)`: a frame with twice the mean motion weighs e times as much as one with the mean.
    They are all equal for a still clip. They have no gradient. The paper does not give its form, so this one is ours.

    Args:
        frames (`Tensor` of shape `(B, T, D)`): Frames of unit length.
        frame_mask (`Tensor` of shape `(B, T)`): True for valid frames.

    Returns:
        `Tensor` of shape `(B, T)`: Weights with sum one over the unmasked frames, in float32. They are zero on masked
        frames.
    """
    frames = at_least_fp32(frames.detach())
    index = torch.arange(frame_mask.shape[1], device=frame_mask.device)
    total, count = frames.new_zeros(frame_mask.shape), frames.new_zeros(frame_mask.shape)
    for other in neighbours(frame_mask):
        total = total + (frames - gather_frames(frames, other)).square().sum(-1)
        count = count + (other != index)
    motion = total / count.clamp(min=1)
    mean = masked_mean(motion.unsqueeze(-1), frame_mask).squeeze(-1).unsqueeze(1)  # (B, 1)
    # Frames of a still clip differ only by rounding, which must not be taken for motion.
    return masked_softmax(motion / (mean + 1e-6), frame_mask, dim=1)


class TGDFERResidue(nn.Module):
    """Residue of a frame that is not its emotion, after PF-ViT (Li et al., 2022, arXiv 2207.11081).

    PF-ViT separates a face into an emotion part and an orthogonal residue, the "poker face". Here the residue is the
    projection `Q Q^T f` onto `config.residue_width` directions, and the emotion part is what remains of the frame. The
    columns of `Q` are the orthonormal basis of the learned directions. PF-ViT trains its separator with a generator of
    poker faces. Here the objective "identity" of `tgdfer train` trains the directions.

    Args:
        config (`TGDFERConfig`): The configuration.
        dim (`int`): Width D of the frames.

    Raises:
        ValueError: If the residue has as many directions as the frames.
    """

    def __init__(self, config: TGDFERConfig, dim: int):
        super().__init__()
        if config.residue_width >= dim:
            raise ValueError(f"`residue_width` is {config.residue_width}; it must be below the width {dim} of CLIP.")
        self.directions = nn.Parameter(torch.zeros(dim, config.residue_width))

    def basis(self) -> Tensor:
        """Returns the orthonormal basis `Q` (D, R) of the directions, in float32."""
        return torch.linalg.qr(at_least_fp32(self.directions))[0]

    def forward(self, frames: Tensor) -> Tensor:
        """Computes the residue: frames (B, T, D) -> (B, T, D)."""
        basis = self.basis().to(frames.device)
        return matmul_fp32(matmul_fp32(frames, basis), basis.T).to(frames.dtype)
