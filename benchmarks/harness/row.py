"""A row of a benchmark: a method on a data set, and what is kept of its runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness.feature_dataset import AnyDataset
from tgdfer.training.data.splits import people_folds

Run = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A method on a data set.

    Attributes:
        name: name of its file.
        title: name in reports.
        parts: what is run and kept one by one, in this order. Parts that predict the test clips are the runs.
        config: everything that decides the figures beside the data set and the weights.
        run: `run(part, earlier, folder)` runs a part. It is given the results of earlier parts and an empty folder
            that it may write to. It returns what `comparison.outcomes` takes, or what a later part needs.
        by_default: whether the row is run without being named.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    run: Callable[[str, Mapping[str, Run], Path], Run]
    config: dict[str, Any] = field(default_factory=dict)
    by_default: bool = True


def answers(
    dataset: AnyDataset, logits: Tensor, frame_scores: Tensor, frame_mask: Tensor, are_logits: bool = True
) -> Run:
    """What is kept of a run: the predicted labels, and the score of every frame for the true class.

    Args:
        dataset: N test clips of K classes.
        logits: (N, K).
        frame_scores: (N, T, K); NaN if the method does not score frames.
        frame_mask: (N, T).
        are_logits: whether frame scores are logits; then the log-probability of the true class is kept.
    """
    names = dataset.classes
    scores = F.log_softmax(frame_scores, dim=-1) if are_logits else frame_scores
    predicted = [names[index] for index in logits.argmax(-1).tolist()]
    if scores.isnan().all():
        return {"predicted": predicted, "scores": None}
    return {
        "predicted": predicted,
        "scores": [
            [rounded(score) for score in clip[mask][:, names.index(label)].tolist()]
            for clip, mask, label in zip(scores, frame_mask, dataset.test.labels, strict=True)
        ],
    }


def targets_of(dataset: AnyDataset) -> Tensor:
    """Class index of each training clip, (N,)."""
    return torch.tensor([dataset.classes.index(label) for label in dataset.train.labels])


def folds_of(dataset: AnyDataset, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training clips to fit on and to check on, of different people: five folds, fewer if there are few people."""
    return people_folds(np.array(dataset.train.labels), np.array(dataset.people), seed)


def seed_parts(dataset: AnyDataset) -> tuple[str, ...]:
    """Names of the parts of a row that is run once for each seed."""
    return tuple(f"seed {seed}" for seed in dataset.settings.seeds)


def seed_of(part: str) -> int:
    """The seed of a part that `seed_parts` named."""
    return int(part.removeprefix("seed "))


def each_seed(run: Callable[[int], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
    """`Row.run` for a function of the seed alone."""
    return lambda part, earlier, folder: run(seed_of(part))


def rounded(score: float) -> float:
    """Rounds to seven significant digits, so that rounding does not make frames equal."""
    return float(f"{score:.7g}")
