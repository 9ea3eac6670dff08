"""Trains heads on cached frames, and selects learning rate and epochs by cross-validation over people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from benchmarks.harness.heads import head_loss
from tgdfer.training.config import OptimisationConfig
from tgdfer.training.features import FeatureDataset, FrameFeatures
from tgdfer.training.optimisation.loop import TrainingLoop, start_accelerator

Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """Training options of a head.

    Heads are trained by the loop of `tgdfer train` with `lr_schedule="constant"`, `warmup=0` and without gradient
    clipping. At a constant learning rate, the first epochs of a long training equal a shorter training. One training
    per fold is therefore enough to select the number of epochs.

    Attributes:
        rate (`float`, *optional*, defaults to `0.001`): Learning rate.
        epochs (`int`, *optional*, defaults to `20`): Number of epochs.
        batch_size (`int`, *optional*, defaults to `32`): Number of clips per step.
        weight_decay (`float`, *optional*, defaults to `0.05`): Weight decay of AdamW.
        smoothing (`float`, *optional*, defaults to `0.1`): Label smoothing.
        frames (`int`, *optional*): Number of randomly chosen frames of a clip that are used in a step. None uses all
            frames.
        bf16 (`bool`, *optional*, defaults to `False`): Whether the forward pass runs in bfloat16.
    """

    rate: float = 1e-3
    epochs: int = 20
    batch_size: int = 32
    weight_decay: float = 0.05
    smoothing: float = 0.1
    frames: int | None = None
    bf16: bool = False

    def options(self) -> OptimisationConfig:
        """Returns the options of the training loop."""
        return OptimisationConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr_schedule="constant",
            warmup=0.0,
            weight_decay=self.weight_decay,
            max_grad_norm=float("inf"),
        )


class _HeadWithLoss(nn.Module):
    """Gives a head the interface of the training loop: it takes a batch of `FeatureDataset` and returns the loss."""

    def __init__(self, head: Any, smoothing: float) -> None:
        super().__init__()
        self.head, self.smoothing = head, smoothing

    def forward(
        self, frame_features: Tensor, frame_mask: Tensor, timestamps: Tensor, labels: Tensor
    ) -> SequenceClassifierOutput:
        bag = (frame_features, frame_mask, timestamps)
        return SequenceClassifierOutput(loss=head_loss(self.head, bag, labels, self.smoothing))


def train_head(
    head: Any,
    bags: FrameFeatures,
    targets: Tensor,
    indices: np.ndarray,
    recipe: Recipe,
    seed: int,
    after_epoch: Callable[[int], None] | None = None,
) -> None:
    """Trains a head with the training loop of the package.

    Args:
        head (`Any`): Module with a method `groups(rate)` for the optimizer. The first output of its
            `forward(frames, frame_mask, timestamps)` must be the logits. The method
            `loss(frames, frame_mask, timestamps, targets, smoothing)` is optional and replaces the cross-entropy of
            the logits. The method `start_epoch(epoch)` is optional and is called before each epoch, counted from 1.
        bags (`FrameFeatures`): V views of N clips. A step uses a random view of each clip.
        targets (`torch.Tensor` of shape `(N,)`): Class index of each clip.
        indices (`np.ndarray`): Indices of the clips to train on.
        recipe (`Recipe`): Training options.
        seed (`int`): Random seed of the order of the clips, the views, the frames and dropout.
        after_epoch (`Callable`, *optional*): Called after each epoch with its number, counted from 1.

    Raises:
        UserError: If the loss is not finite.
    """
    data = FeatureDataset(bags, indices.tolist(), targets[indices].tolist(), True, seed, recipe.frames)
    accelerator = start_accelerator("bf16" if recipe.bf16 else "no")
    model = _HeadWithLoss(head, recipe.smoothing)
    loop = TrainingLoop(model, data, head.groups(recipe.rate), recipe.options(), accelerator, seed)
    for epoch in range(recipe.epochs):
        if hasattr(head, "start_epoch"):
            head.start_epoch(epoch + 1)
        loop.train_epoch(epoch)
        if after_epoch is not None:
            after_epoch(epoch + 1)
    head.to(bags.features.device)  # The predictions are evaluated on this device.


@torch.no_grad()
def predict(
    head: nn.Module, bags: FrameFeatures, indices: np.ndarray | None = None, bf16: bool = False
) -> tuple[Tensor, Tensor]:
    """Predicts the first view of clips.

    Args:
        head (`nn.Module`): Head on frames.
        bags (`FrameFeatures`): V views of clips.
        indices (`np.ndarray`, *optional*): Indices of the N clips to predict. None predicts all clips.
        bf16 (`bool`, *optional*, defaults to `False`): Whether the forward pass runs in bfloat16.

    Returns:
        `tuple[Tensor, Tensor]`: Logits (N, K) and frame scores (N, T, K) in float32. The scores are NaN if the head
        does not score frames.
    """
    head.eval()
    device = next(head.parameters()).device
    clips = torch.arange(bags.features.shape[1]) if indices is None else torch.from_numpy(indices)
    batches = []
    for batch in clips.split(64):
        bag = (bags.features, bags.frame_mask, bags.timestamps)
        frames, mask, seconds = (part[0, batch].to(device) for part in bag)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits, scores = head(frames.float(), mask, seconds)
        if scores is None:
            scores = logits.new_full((*mask.shape, logits.shape[1]), torch.nan)
        batches.append((logits.float().cpu(), scores.float().cpu()))
    logits, frame_scores = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return logits, frame_scores


def uar(logits: Tensor, targets: Tensor) -> float:
    """Returns the mean recall of the classes that occur in `targets`.

    Args:
        logits (`torch.Tensor` of shape `(N, K)`): Logits of the classes.
        targets (`torch.Tensor` of shape `(N,)`): Class indices.
    """
    right = (logits.argmax(-1) == targets).float()
    return float(torch.stack([right[targets == label].mean() for label in targets.unique()]).mean())


def selection_score(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """Returns the criterion for selecting learning rate and epochs: the UAR, then the lower loss to break ties."""
    return uar(logits, targets), -float(F.cross_entropy(logits, targets))


@dataclass(frozen=True)
class Choice:
    """Result of cross-validation.

    Attributes:
        recipe (`Recipe`): Recipe with the selected learning rate and epochs.
        uar (`float`): UAR on held-out people with this recipe.
        tried (`list[tuple[float, int, float]]`): Learning rate, epochs and UAR of the best epoch of each learning
            rate.
        held_out (`torch.Tensor` of shape `(N,)`, *optional*): Class that is predicted for each clip while it is held
            out. None without folds.
    """

    recipe: Recipe
    uar: float
    tried: list[tuple[float, int, float]]
    held_out: Tensor | None = None


def cross_validate(
    make_head: Callable[[np.ndarray, int], Any],
    bags: FrameFeatures,
    targets: Tensor,
    folds: Sequence[Fold],
    recipe: Recipe,
    rates: Sequence[float],
    seed: int,
    description: str = "Cross-validation",
) -> Choice:
    """Selects learning rate and epochs by the UAR on held-out people.

    The UAR is computed over all folds together, because a single fold may contain only one person of a class.

    Args:
        make_head (`Callable`): `make_head(indices, seed)` makes an untrained head for training on the clips `indices`.
        bags (`FrameFeatures`): Features of all training clips.
        targets (`torch.Tensor` of shape `(N,)`): Class index of each clip.
        folds (`Sequence[Fold]`): For each fold, the indices of the clips to train on and of the clips to validate on.
            They show different people.
        recipe (`Recipe`): Training options that are not selected. `epochs` is the maximum.
        rates (`Sequence[float]`): Learning rates to try.
        seed (`int`): Random seed of the trainings.
        description (`str`, *optional*, defaults to `"Cross-validation"`): Text of the progress bar.

    Returns:
        `Choice`: The selected recipe. Without folds it is the given recipe with the first learning rate.
    """
    if not folds:
        return Choice(replace(recipe, rate=rates[0]), float("nan"), [])
    order = np.concatenate([validation for _, validation in folds])
    ordered_targets = targets[order]
    held_out: dict[float, list[list[Tensor]]] = {rate: [] for rate in rates}
    for rate, fold in track(list(product(rates, folds)), description, console=get_console()):
        held_out[rate].append(_held_out_logits(make_head, bags, targets, fold, replace(recipe, rate=rate), seed))
    results, by_rate = [], {}
    for rate in rates:
        by_epoch = by_rate[rate] = [torch.cat(parts) for parts in zip(*held_out[rate], strict=True)]
        # Of equally good numbers of epochs, take the smallest.
        scores = ((*selection_score(logits, ordered_targets), -e) for e, logits in enumerate(by_epoch, 1))
        results.append((*max(scores), rate))
    best, _, epochs, rate = max(results)
    tried = [(rate, -epochs, round(value, 4)) for value, _, epochs, rate in results]
    predicted = torch.full_like(targets, -1)
    predicted[order] = by_rate[rate][-epochs - 1].argmax(-1)
    return Choice(replace(recipe, rate=rate, epochs=-epochs), best, tried, predicted)


def _held_out_logits(
    make_head: Callable[[np.ndarray, int], Any],
    bags: FrameFeatures,
    targets: Tensor,
    fold: Fold,
    recipe: Recipe,
    seed: int,
) -> list[Tensor]:
    """Trains on a fold, and returns the logits of its validation clips after every epoch."""
    training, validation = fold
    head = make_head(training, seed)
    logits: list[Tensor] = []

    def keep_logits(epoch: int) -> None:
        logits.append(predict(head, bags, validation)[0])

    train_head(head, bags, targets, training, recipe, seed, keep_logits)
    return logits


def frame_statistics(bags: FrameFeatures, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation (D,) of the unmasked frames of clips, each scaled to unit length."""
    clips = torch.from_numpy(indices)
    frames = F.normalize(bags.features[:, clips][bags.frame_mask[:, clips]].float(), dim=-1)
    return frames.mean(0), frames.std(0).clamp(min=1e-4)
