"""The interface of an objective: a loss that is computed from the output of the network and its batch."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tgdfer.modeling_tgdfer.losses_tgdfer import hard_labels
from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification


class Objective(nn.Module):
    """Base class of the objectives. An objective has no trainable weights. Its buffers are its state.

    Each of several processes has a part of the batch. The losses are those of the whole batch, scaled as in
    `losses_tgdfer.py`. The buffers are equal in all processes, because checkpoints have those of the main process.

    Args:
        model (`TGDFERForVideoClassification`): Model to train.

    Attributes:
        needs_pixels (`bool`): Whether batches must have `pixel_values_videos`, which frozen features replace.

    Raises:
        UserError: If the objective cannot be computed for this model.
    """

    needs_pixels = False

    def __init__(self, model: TGDFERForVideoClassification) -> None:
        super().__init__()
        self.several = model.config.problem_type == "multi_label_classification"

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Is called before each epoch.

        Args:
            epoch (`int`): Index of the epoch, from 0.
            epochs (`int`): Number of epochs of the training.
        """

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the loss, a scalar.

        Args:
            output (`TGDFEROutput`): Output of the network.
            batch (`Mapping[str, Tensor]`): Inputs of the network, with `labels`.
        """
        raise NotImplementedError

    def labels(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Returns the class index of each clip, (B,). It is -100 for clips without a single label."""
        return hard_labels(batch["labels"], self.several)
