"""Training of a head on cached frames, and the choice of its rate and epochs by cross-validation over people."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich import get_console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness.heads import head_loss
from tgdfer.training.data.batches import derived_seed
from tgdfer.training.features import FrameFeatures

Fold = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Recipe:
    """How a head is trained: AdamW at a constant rate, so that an epoch of a longer training is a shorter training.

    Attributes:
        rate: learning rate.
        epochs: passes over the clips.
        batch_size: clips a step.
        weight_decay: of AdamW.
        smoothing: of the labels.
        frames: frames of a clip that a step sees, drawn anew every time; None takes all.
        bf16: whether the forward pass is in bfloat16.
    """

    rate: float = 1e-3
    epochs: int = 20
    batch_size: int = 32
    weight_decay: float = 0.05
    smoothing: float = 0.1
    frames: int | None = None
    bf16: bool = False


def train_epochs(
    head: Any, bags: FrameFeatures, targets: Tensor, indices: np.ndarray, recipe: Recipe, seed: int
) -> Iterator[int]:
    """Trains a head; yields the number of each epoch, from 1, when it is over.

    Args:
        head: a module with `groups(rate)`, whose `forward(frames, frame_mask, timestamps)` gives the logits first. It
            may have a `loss(frames, frame_mask, timestamps, targets, smoothing)` in place of the cross-entropy of the
            logits, and a `start_epoch(epoch)`.
        bags: V views of N clips; a step sees any view of a clip.
        targets: (N,) class of each clip.
        indices: the clips to train on.
        recipe: how.
        seed: decides order, views, frames and dropout.
    """
    optimizer = torch.optim.AdamW(head.groups(recipe.rate), weight_decay=recipe.weight_decay)
    clips, views = torch.from_numpy(indices), len(bags.features)
    for epoch in range(1, recipe.epochs + 1):
        head.train()
        if hasattr(head, "start_epoch"):
            head.start_epoch(epoch)
        torch.manual_seed(derived_seed(seed, epoch))
        for chosen in clips[torch.randperm(len(clips))].split(recipe.batch_size):
            bag = _pick(bags, torch.randint(views, (len(chosen),)), chosen, recipe.frames)
            with torch.autocast(bags.features.device.type, torch.bfloat16, enabled=recipe.bf16):
                loss = head_loss(head, bag, targets[chosen], recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield epoch


def _pick(bags: FrameFeatures, views: Tensor, clips: Tensor, frames: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, mask and seconds of the clips, each in its view; of `frames` random frames each, in their order."""
    mask, seconds = bags.frame_mask[views, clips], bags.timestamps[views, clips]
    if frames is None or frames >= mask.shape[1]:
        return bags.features[views, clips].float(), mask, seconds
    # Masked frames come last: they are taken only where a clip has no others.
    chance = torch.rand(mask.shape).masked_fill(~mask, 2.0)
    kept = chance.argsort(1)[:, :frames].sort(1).values
    seen = bags.features[views.unsqueeze(1), clips.unsqueeze(1), kept].float()
    return seen, mask.gather(1, kept), seconds.gather(1, kept)


@torch.no_grad()
def predict(
    head: nn.Module, bags: FrameFeatures, indices: np.ndarray | None = None, bf16: bool = False
) -> tuple[Tensor, Tensor]:
    """What a head says of the plain view of clips: logits (N, K) and frame scores (N, T, K) in float32.

    Of a head that says nothing of frames, the scores are NaN.
    """
    head.eval()
    clips = torch.arange(bags.features.shape[1]) if indices is None else torch.from_numpy(indices)
    answers = []
    for chosen in clips.split(64):
        bag = _pick(bags, torch.zeros_like(chosen), chosen, None)
        with torch.autocast(bags.features.device.type, torch.bfloat16, enabled=bf16):
            logits, scores = head(*bag)
        if scores is None:
            scores = logits.new_full((*bag[1].shape, logits.shape[1]), torch.nan)
        answers.append((logits.float(), scores.float()))
    logits, frame_scores = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return logits, frame_scores


def uar(logits: Tensor, targets: Tensor) -> float:
    """Mean of the recalls of the classes that occur."""
    right = (logits.argmax(-1) == targets).float()
    return float(torch.stack([right[targets == label].mean() for label in targets.unique()]).mean())


def goodness(logits: Tensor, targets: Tensor) -> tuple[float, float]:
    """What is chosen by: UAR, and where that ties the lower loss."""
    return uar(logits, targets), -float(F.cross_entropy(logits, targets))


@dataclass(frozen=True)
class Choice:
    """What cross-validation has chosen.

    Attributes:
        recipe: with the rate and the epochs chosen.
        uar: of held-out people, with these.
        tried: (rate, epochs, UAR) of the best epoch of every rate.
        held_out: (N,) class of each clip, said of it while it was held out, with these; None without folds.
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
    """Chooses rate and epochs by the UAR of held-out people, all folds together: some have one person of a class.

    Args:
        make: makes a head, given the clips to fit on and a seed.
        bags: of all training clips.
        targets: (N,) their classes.
        folds: clips to fit on and clips to check on, of different people.
        recipe: all that is not chosen; `epochs` is the most that are tried.
        rates: learning rates to try.
        seed: decides the training.
        what: name of the progress bar.

    Returns:
        The choice; the recipe as it is, with its first rate, where there are no folds to choose by.
    """
    if not folds:
        return Choice(replace(recipe, rate=rates[0]), float("nan"), [])
    order = np.concatenate([check for _, check in folds])
    checked = targets[order]
    results, answers = [], {}
    jobs = track([(rate, fold) for rate in rates for fold in range(len(folds))], what, console=get_console())
    held_out: list[list[Tensor]] = []
    for rate, fold in jobs:
        fit, check = folds[fold]
        head = make(fit, seed)
        training = train_epochs(head, bags, targets, fit, replace(recipe, rate=rate), seed)
        held_out.append([predict(head, bags, check)[0] for _ in training])
        if fold == len(folds) - 1:
            by_epoch = [torch.cat(parts) for parts in zip(*held_out, strict=True)]
            answers[rate] = by_epoch
            results.append((*max((*goodness(logits, checked), -e) for e, logits in enumerate(by_epoch, 1)), rate))
            held_out = []
    best, _, epochs, rate = max(results)
    tried = [(rate, -epochs, round(value, 4)) for value, _, epochs, rate in results]
    said = torch.full_like(targets, -1)
    said[order] = answers[rate][-epochs - 1].argmax(-1)
    return Choice(replace(recipe, rate=rate, epochs=-epochs), best, tried, said)


def frame_statistics(bags: FrameFeatures, indices: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the unmasked frames of clips, each frame of length one."""
    chosen = torch.from_numpy(indices)
    frames = F.normalize(bags.features[:, chosen][bags.frame_mask[:, chosen]].float(), dim=-1)
    return frames.mean(0), frames.std(0).clamp(min=1e-4)
