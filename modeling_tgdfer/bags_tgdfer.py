"""Bags of frames: what is done with (B, T, ...) tensors of which some frames are masked, and the losses on them.

Masked frames may stand anywhere in a clip. The losses are those beside the cross-entropy on the bag.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


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


def top_frames(relevance: Tensor, frame_mask: Tensor, share: float) -> Tensor:
    """The `share` of the unmasked frames with the highest relevance (B, T): mask (B, T), at least one a clip."""
    count = (frame_mask.sum(1, keepdim=True) * share).ceil().clamp(min=1)
    rank = (
        relevance.detach().masked_fill(~frame_mask, -1.0).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    )
    return (rank < count) & frame_mask


def alignment_loss(video_embeds: Tensor, text_embeds: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """Supervised contrastive loss (Khosla et al., 2020) between the clips (B, D) and the texts (K, D) of their labels.

    Each class text that occurs in the batch should be closer to its own clips than to those of other classes.
    """
    similarity = scale * video_embeds @ text_embeds[labels].T  # clip i, text of clip j
    same = labels.unsqueeze(0) == labels.unsqueeze(1)
    log_probability = similarity.log_softmax(dim=0)
    return -(log_probability * same).sum(0).div(same.sum(0)).mean()


def separation_loss(text_embeds: Tensor) -> Tensor:
    """Mean squared cosine between the texts (K, D) of different classes."""
    cosines = text_embeds @ text_embeds.T
    others = ~torch.eye(len(text_embeds), dtype=torch.bool, device=text_embeds.device)
    return cosines[others].square().mean()


def smoothness_loss(relevance: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean over clips of the jumps in relevance (B, T) between adjacent unmasked frames."""
    previous, _ = neighbours(frame_mask)
    jumps = (relevance - relevance.gather(1, previous)).abs()
    return jumps.masked_fill(~frame_mask, 0.0).sum(1).mean()


def instance_loss(frame_logits: Tensor, labels: Tensor, frames: Tensor) -> Tensor:
    """Cross-entropy of the marked frames: `s` (B, T, K), labels (B,), mark (B, T)."""
    labels = labels.unsqueeze(1).expand_as(frames)
    return F.cross_entropy(frame_logits[frames], labels[frames])
