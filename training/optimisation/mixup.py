"""Mixup (Zhang et al., 2018): a clip is mixed with another one of its batch, and its label with the other label."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED


class Mixup:
    """Mixes the clips of a batch in pairs, with random shares from a Beta distribution.

    A mixed clip keeps the mask and the times of the clip with the larger share. Its frames are mixed with the frames
    of the other clip at the same relative position among the unmasked frames. So masked frames are mixed into no
    frame, and the order of the frames stays the same. The random numbers come from the global generator of torch,
    which checkpoints contain.

    Args:
        alpha (`float`): Both parameters of the Beta distribution. The larger it is, the more equal are the shares.
        num_classes (`int`): Number of classes K.
    """

    def __init__(self, alpha: float, num_classes: int) -> None:
        self.shares = torch.distributions.Beta(torch.tensor(float(alpha)), torch.tensor(float(alpha)))
        self.num_classes = num_classes

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mixes a batch.

        Args:
            batch (`dict[str, Tensor]`): `pixel_values_videos` (B, T, 3, H, W) or `frame_features` (B, T, ...),
                `labels` (B,) or (B, K), and optionally `frame_mask` and `timestamps` (B, T).

        Returns:
            `dict[str, Tensor]`: The batch with mixed frames and with shares of the labels (B, K).
        """
        labels = self._as_shares(batch["labels"])
        share = self.shares.sample((len(labels),))
        share = torch.maximum(share, 1 - share).to(labels.device)
        other = torch.randperm(len(labels)).to(labels.device)
        name = "pixel_values_videos" if "pixel_values_videos" in batch else "frame_features"
        return batch | {
            name: _mix_frames(batch[name], batch.get("frame_mask"), share, other),
            "labels": _mix_labels(labels, share, other),
        }

    def _as_shares(self, labels: Tensor) -> Tensor:
        """Returns labels (B, K) in floating point. Clips without a label stay without one."""
        if labels.is_floating_point():
            return labels
        shares = F.one_hot(labels.clamp(min=0), self.num_classes).float()
        return shares.masked_fill((labels < 0).unsqueeze(-1), IGNORED)


def _mix_labels(labels: Tensor, share: Tensor, other: Tensor) -> Tensor:
    """Mixes labels (B, K). A mixture with a clip without a label has no label."""
    mixed = torch.lerp(labels[other], labels, share.unsqueeze(-1))
    known = (labels >= 0).all(-1) & (labels[other] >= 0).all(-1)
    return mixed.masked_fill(~known.unsqueeze(-1), IGNORED)


def _mix_frames(frames: Tensor, frame_mask: Tensor | None, share: Tensor, other: Tensor) -> Tensor:
    """Mixes frames (B, T, ...) with those of the other clips at the same relative positions."""
    if frame_mask is None:
        partners = frames[other]
    else:
        mask = frame_mask.bool()
        chosen = partner_frames(mask, mask[other])
        partners = frames[other.unsqueeze(1), chosen]
    share = share.to(frames.dtype).view(-1, *[1] * (frames.ndim - 1))
    return torch.lerp(partners, frames, share)


def partner_frames(mask: Tensor, partner_mask: Tensor) -> Tensor:
    """Returns the frame of the partner that each frame is mixed with: masks (B, T), (B, T) -> indices (B, T).

    The `k`-th of `n` unmasked frames is mixed with unmasked frame `k * m // n` of the `m` of the partner.
    """
    position = (mask.long().cumsum(1) - 1).clamp(min=0)
    own, theirs = mask.sum(1, keepdim=True).clamp(min=1), partner_mask.sum(1, keepdim=True)
    unmasked_first = (~partner_mask).long().argsort(dim=1, stable=True)
    return unmasked_first.gather(1, (position * theirs // own).clamp(max=mask.shape[1] - 1))
