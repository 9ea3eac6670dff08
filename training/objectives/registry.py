"""The objectives by the names that `tgdfer train --objectives` knows, and their weighted sum."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tgdfer.modeling_tgdfer.modeling_tgdfer import TGDFERForVideoClassification
from tgdfer.training.errors import UserError, did_you_mean
from tgdfer.training.objectives.identity import Identity
from tgdfer.training.objectives.intensity_aware import IntensityAware
from tgdfer.training.objectives.neighbour_memory import NeighbourMemory
from tgdfer.training.objectives.objective import Objective
from tgdfer.training.objectives.transport import Transport

OBJECTIVES: dict[str, type[Objective]] = {
    "ial": IntensityAware,
    "memory": NeighbourMemory,
    "transport": Transport,
    "identity": Identity,
}


def check_weights(weights: Mapping[str, Any]) -> None:
    """Checks the names and the weights of objectives.

    Raises:
        UserError: If a name is unknown (the message suggests a similar one), or a weight is not a positive number.
    """
    for name, weight in weights.items():
        if name not in OBJECTIVES:
            raise UserError(f"objectives has the unknown name {name!r}{did_you_mean(str(name), OBJECTIVES)}")
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not is_number or not 0 < weight < float("inf"):
            raise UserError(f"objectives has {name}={weight}, but the weight must be a number above 0.")


class Objectives(nn.Module):
    """The weighted sum of objectives.

    Args:
        weights (`Mapping[str, Any]`): Weight of each objective, by its name in `OBJECTIVES`.
        model (`TGDFERForVideoClassification`): Model to train.
        epochs (`int`): Number of epochs of the training.
        frozen_features (`bool`, *optional*, defaults to `False`): Whether the training uses cached features.

    Raises:
        UserError: As in `check_weights`, or if an objective cannot be computed for this model or from frozen features.
    """

    def __init__(
        self,
        weights: Mapping[str, Any],
        model: TGDFERForVideoClassification,
        epochs: int,
        frozen_features: bool = False,
    ) -> None:
        super().__init__()
        check_weights(weights)
        self.weights, self.epochs = dict(weights), epochs
        for name in weights:
            if frozen_features and OBJECTIVES[name].needs_pixels:
                raise UserError(
                    f"The objective {name!r} needs the patches of the frames, which frozen features lack: train"
                    " without frozen_features, or leave the objective out."
                )
        self.parts = nn.ModuleDict({name: OBJECTIVES[name](model) for name in weights})

    def start_epoch(self, epoch: int) -> None:
        """Is called before each epoch, with its index from 0."""
        for part in self.parts.values():
            part.start_epoch(epoch, self.epochs)  # type: ignore[operator]

    def forward(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Computes the weighted sum for the output of the network and its batch."""
        return torch.stack([weight * self.parts[name](output, batch) for name, weight in self.weights.items()]).sum()
