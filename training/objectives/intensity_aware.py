"""Intensity-aware loss (Li et al., 2022, arXiv 2208.10335).

Expressions of low intensity look like those of another class. The loss is the cross-entropy over two logits only:
that of the label and that of its strongest rival. So it pushes apart the pair that is confused.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, mean_of_clips, num_processes
from tgdfer.training.objectives.objective import Objective


def intensity_aware_loss(logits: Tensor, labels: Tensor, processes: int = 1) -> Tensor:
    """Computes the mean of `softplus(z_rival - z_label)` over the labelled clips.

    The rival is the class with the highest logit besides the label. All other classes have a gradient of zero.

    Args:
        logits (`torch.Tensor` of shape `(B, K)`): Logits of the clips.
        labels (`torch.Tensor` of shape `(B,)`): Class indices, where -100 is ignored.
        processes (`int`, *optional*, defaults to 1): Number of processes that share the batch.

    Returns:
        `Tensor`: The loss, a scalar. It is zero if no clip is labelled.
    """
    known = labels != IGNORED
    index = labels.clamp(min=0).unsqueeze(1)
    others = logits.scatter(1, index, torch.finfo(logits.dtype).min)
    rival = others.max(1).values
    losses = F.softplus(rival - logits.gather(1, index).squeeze(1))
    return mean_of_clips((losses * known).sum(), known.sum(), processes)


class IntensityAware(Objective):
    """The intensity-aware loss of the logits of the clips. The paper weights it by 0.1."""

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the loss: see `intensity_aware_loss`."""
        return intensity_aware_loss(output.logits.float(), self.labels(batch), num_processes())
