"""Separation of the emotion from the face that shows it, after PF-ViT (Li et al., 2022, arXiv 2207.11081).

The network splits a frame into an emotion part and an orthogonal residue (`TGDFERResidue`). PF-ViT trains the split
with a generator that draws the same person with a neutral face from the residue. This objective uses a property of
video instead, and needs no generator: within a clip the person stays the same, and only the expression changes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tgdfer.modeling_tgdfer.layers_tgdfer import masked_mean
from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.errors import UserError
from tgdfer.training.objectives.objective import Objective


def identity_loss(frames: Tensor, basis: Tensor, frame_mask: Tensor, labels: Tensor) -> Tensor:
    """Computes the share of the identity outside the residue plus the share of the emotion inside it.

    The *identity* of a clip is its mean frame, minus the mean of the clips with the same label in the batch. The
    *emotion* is what changes within the clips, and the differences between the labels. The share of the residue in
    differences `x` is `sum |Q^T x|^2 / sum |x|^2`. The loss is zero if the residue has the whole identity and no
    emotion, and it is at most 2.

    Args:
        frames (`torch.Tensor` of shape `(B, T, D)`): Frames before the split.
        basis (`torch.Tensor` of shape `(D, R)`): Orthonormal basis `Q` of the residue.
        frame_mask (`torch.Tensor` of shape `(B, T)`): True for valid frames.
        labels (`torch.Tensor` of shape `(B,)`): Class indices. Clips with -100 do not contribute.

    Returns:
        `Tensor`: The loss, a scalar. A share of nothing is zero, so a batch without two clips of a label has no
        identity outside the residue.
    """
    known = labels != IGNORED
    mask = frame_mask & known.unsqueeze(1)
    clips = masked_mean(frames, frame_mask) * known.unsqueeze(1)  # (B, D)
    same = ((labels.unsqueeze(0) == labels.unsqueeze(1)) & known).to(clips.dtype) * known.unsqueeze(1)
    of_label = same @ clips / same.sum(1, keepdim=True).clamp(min=1)
    overall = clips.sum(0) / known.sum().clamp(min=1)
    identity = (clips - of_label) * known.unsqueeze(1)
    changes = (frames - masked_mean(frames, frame_mask).unsqueeze(1)) * mask.unsqueeze(-1)
    # The mean over the frames, so that changes and labels count alike in clips of any length.
    changes = changes / frame_mask.sum(1).clamp(min=1).sqrt().view(-1, 1, 1)
    labels_differ = (of_label - overall) * known.unsqueeze(1)
    emotion = torch.cat([changes.flatten(0, 1), labels_differ])
    return _share(identity, identity - identity @ basis @ basis.T) + _share(emotion, emotion @ basis)


def _share(whole: Tensor, part: Tensor) -> Tensor:
    """Returns the share of the squares of one matrix in those of another, 0 if both are zero."""
    return part.square().sum() / whole.square().sum().clamp(min=1e-12)


class Identity(Objective):
    """The loss of the directions of the residue. It trains nothing else.

    Args:
        model (`TGDFERForVideoClassification`): As in `Objective`.
        frozen_features (`bool`, *optional*, defaults to `False`): As in `Objective`.

    Raises:
        UserError: If the model has no residue.
    """

    def __init__(self, model: TGDFERForVideoClassification, frozen_features: bool = False) -> None:
        super().__init__(model, frozen_features)
        residue = model.tgdfer.residue
        if residue is None:
            raise UserError(
                "The objective 'identity' needs a residue: add --model-options residue_width=32, or leave the"
                " objective out."
            )
        captured: list[Tensor] = []
        self.captured = captured

        def capture(module: Any, inputs: tuple[Tensor], found: Tensor) -> None:
            if torch.is_grad_enabled():  # not in validation
                captured[:] = [inputs[0].detach()]

        residue.register_forward_hook(capture)
        # A list, so that the weights are no part of this module.
        self.residue = [residue]

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the loss of the frames of the last pass of the network: see `identity_loss`."""
        frames = self.captured.pop().float()
        mask = batch.get("frame_mask", torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)).bool()
        return identity_loss(frames, self.residue[0].basis(), mask, self.labels(batch))
