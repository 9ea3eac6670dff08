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
from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, num_processes, of_all_processes
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.errors import UserError
from tgdfer.training.objectives.objective import Objective

# Share of the scatters of earlier batches that is kept when a batch is added.
MOMENTUM = 0.95


def scatters(frames: Tensor, frame_mask: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the scatter matrices of the identity and of the emotion in a batch.

    The *identity* of a clip is its mean frame, minus the mean of the clips with the same label. The *emotion* is what
    changes within the clips, and the differences between the labels.

    Args:
        frames (`torch.Tensor` of shape `(B, T, D)`): Frames before the split.
        frame_mask (`torch.Tensor` of shape `(B, T)`): True for valid frames.
        labels (`torch.Tensor` of shape `(B,)`): Class indices. Clips with -100 do not contribute.

    Returns:
        `tuple[Tensor, Tensor]`: The sums of `x x^T` over the differences `x`, both (D, D). The scatter of the identity
        is zero if no two clips have the same label.
    """
    known = (labels != IGNORED).unsqueeze(1)
    means = masked_mean(frames, frame_mask)
    clips = means * known  # (B, D)
    same = ((labels.unsqueeze(0) == labels.unsqueeze(1)) & known).to(clips.dtype)
    of_label = same @ clips / same.sum(1, keepdim=True).clamp(min=1)
    overall = clips.sum(0) / known.sum().clamp(min=1)
    identity, between = (clips - of_label) * known, (of_label - overall) * known
    changes = (frames - means.unsqueeze(1)) * (frame_mask & known).unsqueeze(-1)
    # The mean over the frames of a clip, so that clips of any length count alike.
    within = (changes / frame_mask.sum(1).clamp(min=1).sqrt().view(-1, 1, 1)).flatten(0, 1)
    return identity.T @ identity, within.T @ within + between.T @ between


def identity_loss(identity: Tensor, emotion: Tensor, basis: Tensor) -> Tensor:
    """Computes the share of the identity outside the residue plus the share of the emotion inside it.

    The share of the residue in a scatter `S` is `tr(Q^T S Q) / tr(S)`. The loss is zero if the residue has the whole
    identity and no emotion, and it is at most 2.

    Args:
        identity (`torch.Tensor` of shape `(D, D)`): Scatter of the identity.
        emotion (`torch.Tensor` of shape `(D, D)`): Scatter of the emotion.
        basis (`torch.Tensor` of shape `(D, R)`): Orthonormal basis `Q` of the residue.

    Returns:
        `Tensor`: The loss, a scalar. A residue has no share of a scatter that is zero.
    """

    def share(scatter: Tensor) -> Tensor:
        return (basis * (scatter @ basis)).sum() / scatter.trace().clamp(min=1e-12)

    return 1 - share(identity) + share(emotion)


class Identity(Objective):
    """The loss of the directions of the residue. It trains nothing else.

    The scatters are running sums over the batches, because a single batch has few clips of each label. They are those
    of the clips of all processes.

    Args:
        model (`TGDFERForVideoClassification`): As in `Objective`.

    Raises:
        UserError: If the model has no residue.
    """

    identity: Tensor
    emotion: Tensor

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__(model)
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
        dim = len(residue.directions)
        self.register_buffer("identity", torch.zeros(dim, dim))
        self.register_buffer("emotion", torch.zeros(dim, dim))
        # A list, so that the weights are no part of this module.
        self.residue = [residue]

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Adds the frames of the last pass of the network to the scatters, and computes the loss: `identity_loss`."""
        frames = self.captured.pop().float()
        mask = batch.get("frame_mask", torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)).bool()
        own, processes = (frames, mask, self.labels(batch)), num_processes()
        found = scatters(*(of_all_processes(values, processes) for values in own))
        for total, scatter in zip((self.identity, self.emotion), found, strict=True):
            total.mul_(MOMENTUM).add_(scatter)
        return identity_loss(self.identity.clone(), self.emotion.clone(), self.residue[0].basis())
