"""A row of a benchmark: a method on a data set, and the stored result of its runs."""

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
    """A method that is measured on a data set.

    Attributes:
        name (`str`): Name of the row and of its file.
        title (`str`): Name in reports.
        parts (`tuple[str, ...]`): Names of the parts, which are run and stored one by one, in this order. Parts that
            predict the test clips are called runs.
        run (`Callable`): `run(part, earlier, folder)` runs a part. `earlier` holds the results of the earlier parts,
            and `folder` is an empty folder for temporary files. The function returns the input of
            `comparison.outcomes`, or values that a later part needs.
        config (`dict[str, Any]`, *optional*): All settings that determine the figures, apart from the data set and the
            weights.
        by_default (`bool`, *optional*, defaults to `True`): Whether the row is run without being named on the command
            line.
    """

    name: str
    title: str
    parts: tuple[str, ...]
    run: Callable[[str, Mapping[str, Run], Path], Run]
    config: dict[str, Any] = field(default_factory=dict)
    by_default: bool = True


def run_result(
    dataset: AnyDataset, logits: Tensor, frame_scores: Tensor, frame_mask: Tensor, are_logits: bool = True
) -> Run:
    """Returns the stored result of a run: the predicted labels, and the score of every frame for the true class.

    Args:
        dataset (`AnyDataset`): Data set with N test clips and K classes.
        logits (`torch.Tensor` of shape `(N, K)`): Logits of the clips.
        frame_scores (`torch.Tensor` of shape `(N, T, K)`): Scores of the frames. NaN if the method does not score
            frames.
        frame_mask (`torch.Tensor` of shape `(N, T)`): Boolean mask.
        are_logits (`bool`, *optional*, defaults to `True`): Whether the frame scores are logits. If so, the
            log-probability of the true class is stored.
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
    """Returns the class index of each training clip, (N,)."""
    return torch.tensor([dataset.classes.index(label) for label in dataset.train.labels])


def folds_of(dataset: AnyDataset, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits the training clips by person into five folds, or fewer if there are few people.

    Returns:
        `list[tuple[np.ndarray, np.ndarray]]`: For each fold, the indices of the clips to train on and of the clips to
        validate on.
    """
    return people_folds(np.array(dataset.train.labels), np.array(dataset.people), seed)


def seed_parts(dataset: AnyDataset) -> tuple[str, ...]:
    """Returns the names of the parts of a row that is run once per seed."""
    return tuple(f"seed {seed}" for seed in dataset.settings.seeds)


def seed_of(part: str) -> int:
    """Returns the seed of a part with a name from `seed_parts`."""
    return int(part.removeprefix("seed "))


def each_seed(run: Callable[[int], Run]) -> Callable[[str, Mapping[str, Run], Path], Run]:
    """Turns a function of the seed into a function for `Row.run`."""
    return lambda part, earlier, folder: run(seed_of(part))


def rounded(score: float) -> float:
    """Rounds to seven significant digits, which are enough to keep the scores of frames distinct."""
    return float(f"{score:.7g}")
