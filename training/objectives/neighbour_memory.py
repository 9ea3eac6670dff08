"""Soft targets from the nearest neighbours in a memory (S2D, Chen et al., 2023, arXiv 2312.05447).

Labels of expressions are ambiguous. The memory keeps the features and the predictions of the last clips of each class.
The predictions for the two clips that resemble a clip most are its soft targets (self-distillation). Several processes
remember the clips of all of them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tgdfer.modeling_tgdfer.dual_encoders_tgdfer import embedding_width
from tgdfer.modeling_tgdfer.layers_tgdfer import unit
from tgdfer.modeling_tgdfer.losses_tgdfer import IGNORED, mean_of_clips, num_processes, of_all_processes
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.objectives.objective import Objective

# Clips of each class in the memory, and neighbours of a clip, as in the paper.
SLOTS, NEIGHBOURS = 16, 2
# Weight of the loss from these shares of the training on. The paper has them at epochs 30, 50, 60 and 80 of 100.
SCHEDULE = ((0.3, 0.01), (0.5, 0.1), (0.6, 0.5), (0.8, 1.0))


def weight_at(progress: float) -> float:
    """Returns the weight of the loss after a share `progress` of the training: it rises from 0 to 1."""
    return max((weight for start, weight in SCHEDULE if progress >= start), default=0.0)


class NeighbourMemory(Objective):
    """Kullback-Leibler divergence of the predictions from the soft targets of the memory.

    Args:
        model (`TGDFERForVideoClassification`): As in `Objective`.
    """

    features: Tensor
    predictions: Tensor
    written: Tensor

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__(model)
        classes = len(model.bias)
        # The last row is never read. Clips without a label are written there, which needs no values on the host.
        rows = (classes + 1, SLOTS)
        self.register_buffer("features", torch.zeros(*rows, embedding_width(model.config.clip_config)))
        self.register_buffer("predictions", torch.zeros(*rows, classes))
        self.register_buffer("written", torch.zeros(classes + 1, dtype=torch.long))
        self.weight = 0.0

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Sets the weight of the loss, which rises over the training: see `weight_at`."""
        self.weight = weight_at(epoch / epochs)

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the loss of the clips with at least two earlier clips of their class, and remembers all clips."""
        labels, logits = self.labels(batch), output.logits.float()
        clips = unit(output.video_embeds.detach().float())
        targets, known = self.soft_targets(clips, labels)
        losses = F.kl_div(logits.log_softmax(-1), targets, reduction="none").sum(-1)
        processes, predictions = num_processes(), logits.detach().softmax(-1)
        self.remember(*(of_all_processes(values, processes) for values in (clips, predictions, labels)))
        return self.weight * mean_of_clips((losses * known).sum(), known.sum(), processes)

    def soft_targets(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the mean prediction for the two clips of the same class that are most similar.

        Args:
            clips (`torch.Tensor` of shape `(B, D)`): Features of unit length.
            labels (`torch.Tensor` of shape `(B,)`): Class indices, or -100.

        Returns:
            `tuple[Tensor, Tensor]`: Probabilities (B, K), and a mask (B,) of the clips that have neighbours.
        """
        rows = labels.clamp(min=0)
        filled = torch.arange(SLOTS, device=labels.device) < self.written[rows].unsqueeze(1)  # (B, S)
        cosine = torch.einsum("bd,bsd->bs", clips, self.features[rows]).masked_fill(~filled, -2.0)
        nearest = cosine.topk(NEIGHBOURS, dim=1).indices
        found = self.predictions[rows].gather(1, nearest.unsqueeze(-1).expand(-1, -1, self.predictions.shape[-1]))
        return found.mean(1), (labels != IGNORED) & (self.written[rows] >= NEIGHBOURS)

    @torch.no_grad()
    def remember(self, clips: Tensor, predictions: Tensor, labels: Tensor) -> None:
        """Writes clips into the memory, where they replace the oldest of their class: (B, D), (B, K), (B,)."""
        last = len(self.written) - 1
        rows = torch.where(labels == IGNORED, last, labels)
        same = rows.unsqueeze(0) == rows.unsqueeze(1)
        earlier = same.tril(-1).sum(1)  # clips of the same class before this one in the batch
        later = same.triu(1).sum(1)
        slots = (self.written[rows] + earlier) % SLOTS
        # If a batch has more clips of a class than the memory, the last ones stay.
        target = torch.where(later < SLOTS, rows, last)
        self.features[target, slots] = clips.to(self.features.dtype)
        self.predictions[target, slots] = predictions.to(self.predictions.dtype)
        self.written += F.one_hot(rows, last + 1).sum(0)
