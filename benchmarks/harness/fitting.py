"""Training of heads on cached frames, and the choice of rate and epochs by cross-validation over people."""

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
from tgdfer.training.train import TrainingLoop, start_accelerator

Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """How a head is trained.

    Heads are trained by the loop of `tgdfer train`, with its options `lr_schedule="constant"`, `warmup=0` and no limit
    on the norm of the gradients. At a constant rate the first epochs of a long training are a shorter training, so one
    training per fold is enough to choose the number of epochs.

    Attributes:
        rate: learning rate.
        epochs: passes over the clips.
        batch_size: clips per step.
        weight_decay: weight decay of AdamW.
        smoothing: label smoothing.
        frames: random frames of a clip that a step sees; None for all frames.
        bf16: whether the forward pass is in bfloat16.
    """

    rate: float = 1e-3
    epochs: int = 20
    batch_size: int = 32
    weight_decay: float = 0.05
    smoothing: float = 0.1
    frames: int | None = None
    bf16: bool = False

    def options(self) -> OptimisationConfig:
        """The options of the training loop."""
        return OptimisationConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr_schedule="constant",
            warmup=0.0,
            weight_decay=self.weight_decay,
            max_grad_norm=float("inf"),
        )


class _WithLoss(nn.Module):
    """A head as the training loop calls it: with the batch of `FeatureDataset`, for an output with a loss."""

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
    """Trains a head with the training loop of the product.

    Args:
        head: a module with `groups(rate)`, whose `forward(frames, frame_mask, timestamps)` returns the logits first.
            It may have a `loss(frames, frame_mask, timestamps, targets, smoothing)` in place of the cross-entropy of
            the logits, and a `start_epoch(epoch)` that is called before each epoch, counted from 1.
        bags: V views of N clips. A step sees a random view of a clip.
        targets: (N,) class index of each clip.
        indices: clips to train on.
        recipe: options of the training.
        seed: seed of order, views, frames and dropout.
        after_epoch: called with the number of each epoch, counted from 1, after it.

    Raises:
        UserError: the loss is not finite.
    """
    data = FeatureDataset(bags, indices.tolist(), targets[indices].tolist(), True, seed, recipe.frames)
    accelerator = start_accelerator("bf16" if recipe.bf16 else "no")
    model = _WithLoss(head, recipe.smoothing)
    loop = TrainingLoop(model, data, head.groups(recipe.rate), recipe.options(), accelerator, seed)
    for epoch in range(recipe.epochs):
        if hasattr(head, "start_epoch"):
            head.start_epoch(epoch + 1)
        loop.train_epoch(epoch)
        if after_epoch is not None:
            after_epoch(epoch + 1)
    head.to(bags.features.device)  # predictions are compared there


@torch.no_grad()
def predict(
    head: nn.Module, bags: FrameFeatures, indices: np.ndarray | None = None, bf16: bool = False
) -> tuple[Tensor, Tensor]:
    """Predictions of a head for the first view of clips.

    Returns:
        Logits (N, K) and frame scores (N, T, K) in float32. The scores are NaN if the head does not score frames.
    """
    head.eval()
    device = next(head.parameters()).device
    clips = torch.arange(bags.features.shape[1]) if indices is None else torch.from_numpy(indices)
    answers = []
    for chosen in clips.split(64):
        bag = (bags.features, bags.frame_mask, bags.timestamps)
        frames, mask, seconds = (part[0, chosen].to(device) for part in bag)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits, scores = head(frames.float(), mask, seconds)
        if scores is None:
            scores = logits.new_full((*mask.shape, logits.shape[1]), torch.nan)
        answers.append((logits.float().cpu(), scores.float().cpu()))
    logits, frame_scores = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return logits, frame_scores


def uar(logits: Tensor, targets: Tensor) -> float:
    """Mean of the recalls of the classes that occur."""
    right = (logits.argmax(-1) == targets).float()
    return float(torch.stack([right[targets == label].mean() for label in targets.unique()]).mean())


def goodness(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """What rates and epochs are chosen by: the UAR, and the lower loss if it ties."""
    return uar(logits, targets), -float(F.cross_entropy(logits, targets))


@dataclass(frozen=True)
class Choice:
    """What cross-validation has chosen.

    Attributes:
        recipe: recipe with the chosen rate and epochs.
        uar: UAR on held-out people with this recipe.
        tried: (rate, epochs, UAR) of the best epoch of every rate.
        held_out: (N,) class that is predicted for each clip while it is held out; None without folds.
    """

    recipe: Recipe
    uar: float
    tried: list[tuple[float, int, float]]
    held_out: Tensor | None = None


def cross_validate(
    make: Callable[[np.ndarray, int], Any],
    bags: FrameFeatures,
    targets: Tensor,
    folds: Sequence[Fold],
    recipe: Recipe,
    rates: Sequence[float],
    seed: int,
    what: str = "Cross-validation",
) -> Choice:
    """Chooses rate and epochs by the UAR on held-out people.

    The UAR is that of all folds together, because a single fold may have one person of a class.

    Args:
        make: makes a head, given the clips to fit on and a seed.
        bags: features of all training clips.
        targets: (N,) class index of each clip.
        folds: clips to fit on and clips to check on, of different people.
        recipe: everything that is not chosen; `epochs` is the maximum.
        rates: learning rates to try.
        seed: seed of the trainings.
        what: text of the progress bar.

    Returns:
        The choice. Without folds it is the recipe with the first rate.
    """
    if not folds:
        return Choice(replace(recipe, rate=rates[0]), float("nan"), [])
    order = np.concatenate([check for _, check in folds])
    checked = targets[order]
    held_out: dict[float, list[list[Tensor]]] = {rate: [] for rate in rates}
    for rate, fold in track(list(product(rates, folds)), what, console=get_console()):
        held_out[rate].append(_held_out_logits(make, bags, targets, fold, replace(recipe, rate=rate), seed))
    results, by_rate = [], {}
    for rate in rates:
        by_epoch = by_rate[rate] = [torch.cat(parts) for parts in zip(*held_out[rate], strict=True)]
        # The fewest epochs of equally good ones.
        results.append((*max((*goodness(logits, checked), -e) for e, logits in enumerate(by_epoch, 1)), rate))
    best, _, epochs, rate = max(results)
    tried = [(rate, -epochs, round(value, 4)) for value, _, epochs, rate in results]
    predicted = torch.full_like(targets, -1)
    predicted[order] = by_rate[rate][-epochs - 1].argmax(-1)
    return Choice(replace(recipe, rate=rate, epochs=-epochs), best, tried, predicted)


def _held_out_logits(
    make: Callable[[np.ndarray, int], Any],
    bags: FrameFeatures,
    targets: Tensor,
    fold: Fold,
    recipe: Recipe,
    seed: int,
) -> list[Tensor]:
    """Logits of the clips that a fold checks on, after every epoch."""
    fit, check = fold
    head = make(fit, seed)
    logits: list[Tensor] = []
    train_head(head, bags, targets, fit, recipe, seed, lambda epoch: logits.append(predict(head, bags, check)[0]))
    return logits


def frame_statistics(bags: FrameFeatures, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the unmasked frames of clips, each frame normalised to length one."""
    chosen = torch.from_numpy(indices)
    frames = F.normalize(bags.features[:, chosen][bags.frame_mask[:, chosen]].float(), dim=-1)
    return frames.mean(0), frames.std(0).clamp(min=1e-4)
