"""Remedies for class imbalance in the loss: weights of the classes, and logit adjustment."""

from typing import Any

import torch
from torch import Tensor

from tgdfer.training.config import OptimisationConfig

# A class weight of several labels is the number of clips without the label per clip with it, at most this value.
MAX_POSITIVE_WEIGHT = 100.0


def balancing_inputs(data: Any, options: OptimisationConfig, several: bool = False) -> dict[str, Tensor]:
    """Returns the inputs of the network that counter class imbalance, depending on `class_balance`.

    Args:
        data (`Any`): Training data with `targets` and, for several labels and for votes, `soft_targets`.
        options (`OptimisationConfig`): Options of the updates.
        several (`bool`, *optional*, defaults to `False`): Whether a clip may have several labels.

    Returns:
        With "weights" `class_weights` (K,), which are inversely proportional to the number of clips or votes. With
        "adjustment" `logit_adjustment` (K,), the logarithm of the share of each class (Menon et al., 2021, equation
        10), or with several labels the logarithm of its odds. Otherwise nothing.
    """
    soft = getattr(data, "soft_targets", None)
    if soft is None:
        counts, total = torch.bincount(torch.tensor(data.targets)).float(), float(len(data.targets))
    else:
        counts, total = soft.sum(0), float(len(soft))
    counts = counts.clamp(min=1e-3)
    if options.class_balance == "weights":
        if several:
            return {"class_weights": ((total - counts) / counts).clamp(1 / MAX_POSITIVE_WEIGHT, MAX_POSITIVE_WEIGHT)}
        return {"class_weights": total / (len(counts) * counts)}
    if options.class_balance == "adjustment":
        share = (counts / total).clamp(max=1 - 1e-6)
        return {"logit_adjustment": share.logit() if several else share.log()}
    return {}
