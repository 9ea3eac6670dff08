"""Which clips are trained on and which are held out, by split or by people."""

import logging
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from tgdfer.training.config import DataConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.loading import load_clips, open_dataset
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)

# Folds of a cross-validation over people, where there are enough people.
FOLDS = 5


@dataclass(frozen=True)
class Part:
    """Some of the clips of a split: those at `indices`."""

    clips: LabelledClips
    indices: list[int]


def load_parts(data: DataConfig, seed: int) -> tuple[Part, Part | None, str | None]:
    """The clips that a run trains on and those that pick its best epoch.

    Args:
        data: names the data set and its splits.
        seed: decides who is held out where there is no validation split.

    Returns:
        The clips to train on; those to validate on, None if all are trained on; and how they were told apart: "by
        split", "by person", "by clip" or None.

    Raises:
        UserError: as `load_clips` and `hold_out`, or if the test split were to pick the best epoch.
    """
    clips = load_clips(data.dataset, data.train_split, **data.columns)
    everything = Part(clips, list(range(len(clips))))
    if (split := _validation_split(data)) is not None:
        validation = load_clips(data.dataset, split, **data.columns)
        return everything, Part(validation, list(range(len(validation)))), "by split"
    if not data.num_folds:
        return everything, None, None
    train, held_out = hold_out(clips, data.num_folds, data.fold, seed)
    if clips.people is None:
        logger.warning(
            "%s does not say who is seen in a clip (no column 'person'), so validation is held out by clip: people in"
            " both parts make it look better than it is.",
            data.dataset,
        )
    return Part(clips, train), Part(clips, held_out), "by clip" if clips.people is None else "by person"


def _validation_split(data: DataConfig) -> str | None:
    """The split that picks the best epoch; None if people of the training split are held out instead."""
    split = data.validation_split
    if split is None and "validation" in open_dataset(data.dataset, data.dataset_config):
        split = None if "validation" in (data.train_split, data.test_split) else "validation"
    if split is not None and split == data.test_split:
        raise UserError(f"The test split {split!r} must not pick the best epoch: name another --validation-split.")
    return split


def hold_out(clips: LabelledClips, num_folds: int, fold: int, seed: int) -> tuple[list[int], list[int]]:
    """Splits training clips for validation: by people where they are known, else by clip.

    Args:
        clips: the training clips.
        num_folds: into how many parts they are cut.
        fold: which part is held out.
        seed: decides the cut.

    Returns:
        Indices to train on and indices held out.

    Raises:
        UserError: if there are too few people or clips for a part of each class to be left to train on.
    """
    groups = clips.people or [str(index) for index in range(len(clips))]
    what = "people" if clips.people else "clips"
    train: list[int] = []
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    # sklearn warns of classes with few clips and refuses too few people: what matters is checked below.
    with warnings.catch_warnings(action="ignore"), suppress(ValueError):
        train, held_out = (part.tolist() for part in list(folds.split(groups, clips.labels, groups))[fold])
    lost = set(clips.classes) - {clips.labels[index] for index in train}
    if lost:
        raise UserError(
            f"Too few {what} to hold out one of {num_folds} folds for validation ({', '.join(sorted(lost))} would have"
            " none left to train on): name a --validation-split, or set --validation-fraction 0."
        )
    return train, held_out


def people_folds(targets: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds for cross-validation over people.

    Args:
        targets: (N,) label of each row.
        groups: (N,) who is seen in it.
        seed: decides the cut.

    Returns:
        For each fold the rows to fit on and the rows to check on, of different people; every class is among the
        former. `FOLDS` of them, fewer where a class has fewer people, none where one has a single person.
    """
    number = min(FOLDS, *(len(set(groups[targets == label])) for label in set(targets)))
    if number < 2:
        return []
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings(action="ignore"):  # of classes with few clips: what matters is checked here
        folds = list(splitter.split(targets, targets, groups))
    return [(fit, check) for fit, check in folds if len(check) and set(targets[fit]) == set(targets)]
