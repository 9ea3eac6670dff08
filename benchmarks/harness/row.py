"""A row of a benchmark: a method on a ground, and what is kept of its runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness.given_features import AnyGround
from tgdfer.training.data.splits import people_folds

Run = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A method on a ground.

    Attributes:
        name: of its file.
        title: for people.
        parts: what is run and kept one by one, in this order; those that predict the test clips are its runs.
        config: all that decides its figures beside the ground and its weights.
        run: `run(part, earlier, folder)` runs a part, given what the earlier ones have given and an empty folder that
            it may write to; gives what `comparison.outcomes` takes, or what a later part needs to know.
        by_default: whether it is run unless it is asked for.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    run: Callable[[str, Mapping[str, Run], Path], Run]
    config: dict[str, Any] = field(default_factory=dict)
    by_default: bool = True


def answers(
    ground: AnyGround, logits: Tensor, frame_scores: Tensor, frame_mask: Tensor, are_logits: bool = True
) -> Run:
    """What is kept of a run: predicted labels, and what every frame says for the true class.

    Args:
        ground: N test clips of K classes.
        logits: (N, K).
        frame_scores: (N, T, K); NaN where a method says nothing of frames.
        frame_mask: (N, T).
        are_logits: whether a frame says the log-probability of the true class by its scores, or its score for it.
    """
    names = ground.classes
    scores = F.log_softmax(frame_scores, dim=-1) if are_logits else frame_scores
    predicted = [names[index] for index in logits.argmax(-1).tolist()]
    if scores.isnan().all():
        return {"predicted": predicted, "scores": None}
    return {
        "predicted": predicted,
        "scores": [
            [rounded(score) for score in clip[mask][:, names.index(label)].tolist()]
            for clip, mask, label in zip(scores, frame_mask, ground.test.labels, strict=True)
        ],
    }


def targets_of(ground: AnyGround) -> Tensor:
    """Class of each training clip, (N,)."""
    return torch.tensor([ground.classes.index(label) for label in ground.train.labels])


def folds_of(ground: AnyGround, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training clips to fit on and to check on, of different people: five folds, or fewer where people are few."""
    return people_folds(np.array(ground.train.labels), np.array(ground.people), seed)


def rounded(score: float) -> float:
    """To seven digits, however small it is: rounding must not make frames equal."""
    return float(f"{score:.7g}")
