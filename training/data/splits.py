"""Training clips and validation clips, separated by split or by person."""

import logging
import warnings
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from tgdfer.training.config import DataConfig
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.labels import with_labels
from tgdfer.training.data.loading import load_readable_clips, open_dataset
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)

# Number of folds of cross-validation over people, if there are enough people.
FOLDS = 5


@dataclass(frozen=True)
class Part:
    """Some of the clips of a split.

    Attributes:
        clips (`LabelledClips`): All clips of the split.
        indices (`list[int]`): Indices of the clips that belong to the part.
    """

    clips: LabelledClips
    indices: list[int]


def load_parts(data: DataConfig, seed: int, labels: list[str] | None = None) -> tuple[Part, Part | None, str | None]:
    """Loads the training clips of a run, and the validation clips, which select its best epoch.

    Args:
        data (`DataConfig`): Names the data set and its splits.
        seed (`int`): Seed of the choice of held-out people, if there is no validation split.
        labels (`list[str]`, *optional*): Labels to train on. Clips with other labels are left out. By default all.

    Returns:
        The training clips; the validation clips, or None if training uses all clips; and how they were separated: "by
        split", "by person", "by clip" or None.

    Raises:
        UserError: As in `load_readable_clips` and `hold_out`, or if the validation split is the test split.
    """

    def load(split: str) -> LabelledClips:
        clips = load_readable_clips(data.dataset, split, **data.reading)
        return clips if labels is None else with_labels(clips, labels, f"split {split!r} of {data.dataset}")

    clips = load(data.train_split)
    all_clips = Part(clips, list(range(len(clips))))
    if (split := validation_split_of(data)) is not None:
        require_no_fold(data, split)
        validation = load(split)
        return all_clips, Part(validation, list(range(len(validation)))), "by split"
    if not data.num_folds:
        return all_clips, None, None
    train, held_out = hold_out(clips, data.num_folds, data.held_out_fold, seed)
    if clips.people is None:
        logger.warning(
            "%s has no column 'person' that says who is in a clip, so validation clips are held out by clip. If people"
            " are in both parts, validation figures are too high.",
            data.dataset,
        )
    return Part(clips, train), Part(clips, held_out), "by clip" if clips.people is None else "by person"


def require_no_fold(data: DataConfig, split: str) -> None:
    """Checks that no fold is held out, because a validation split selects the best epoch.

    Raises:
        UserError: Otherwise. All folds would be the same.
    """
    if data.fold is not None and not data.is_published:
        raise UserError(
            f"fold is {data.fold}, but the split {split!r} of {data.dataset} is used for validation: leave out"
            " --fold or --folds."
        )


def validation_split_of(data: DataConfig) -> str | None:
    """Returns the split that selects the best epoch. None if people of the training split are held out instead."""
    split = data.validation_split
    if split is None and "validation" in open_dataset(data.dataset, **data.reading):
        split = None if "validation" in (data.train_split, data.test_split) else "validation"
    if split is not None and split == data.test_split:
        raise UserError(f"The test split {split!r} must not select the best epoch: name another --validation-split.")
    return split


def hold_out(clips: LabelledClips, num_folds: int, fold: int, seed: int) -> tuple[list[int], list[int]]:
    """Holds training clips out for validation: by person if the people are known, otherwise by clip.

    Copies of a file stay together, and so do people who share a file.

    Args:
        clips (`LabelledClips`): The training clips.
        num_folds (`int`): Number of folds.
        fold (`int`): Index of the fold that is held out.
        seed (`int`): Seed of the folds.

    Returns:
        Indices of the clips to train on, and indices of the held-out clips.

    Raises:
        UserError: If there are too few people or clips to leave clips of each class for training.
    """
    groups = _groups(clips)
    what = "people" if clips.people else "clips"
    train: list[int] = []
    held_out: list[int] = []
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    # sklearn warns about classes with few clips. For too few people it raises an error or leaves a fold empty.
    with warnings.catch_warnings(action="ignore"), suppress(ValueError):
        train, held_out = (part.tolist() for part in list(folds.split(groups, clips.labels, groups))[fold])
    lost = sorted(set(clips.classes) - clips.classes_of(train))
    if lost or not held_out:
        named = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        reason = f"no clips of {named} would be left to train on" if lost else "the fold is empty"
        if not train:  # sklearn makes no folds then.
            reason = f"every class has fewer than {num_folds} clips"
        if len(set(groups)) < num_folds:
            reason = f"there are only {len(set(groups))}"
            if len(set(groups)) < len(set(clips.people or range(len(clips)))):
                reason += ", and people who share a file are one" if clips.people else " different files"
        raise UserError(
            f"Too few {what} to hold out one of {num_folds} folds for validation ({reason}): set a larger"
            " --validation-fraction, up to 0.5, or 0 to hold none out, or name a --validation-split."
        )
    return train, held_out


def _groups(clips: LabelledClips) -> list[str]:
    """Returns what each clip must not be separated from, by name: its person or the clip itself, and their copies."""
    groups = clips.people or [str(index) for index in range(len(clips))]
    first: dict[str, str] = {}  # For each file, the group in which it was seen first.
    joined: dict[str, str] = {}

    def joined_group(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for index, group in enumerate(groups):
        one, other = joined_group(first.setdefault(clips.fingerprint_of(index), group)), joined_group(group)
        if one != other:
            joined[other] = one
    return [joined_group(group) for group in groups]


def people_folds(targets: np.ndarray, groups: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Makes folds for cross-validation over people.

    Args:
        targets (`np.ndarray` of shape `(N,)`): Label of each sample.
        groups (`np.ndarray` of shape `(N,)`): Person of each sample.
        seed (`int`): Seed of the folds.

    Returns:
        For each fold, the indices of the samples to fit on and to validate on. The people are different, and every
        class occurs in the samples to fit on. There are `FOLDS` folds, or fewer if a class has fewer people, or none
        if a class has only one person.
    """
    number = min(FOLDS, *(len(set(groups[targets == label])) for label in set(targets)))
    if number < 2:
        return []
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings(action="ignore"):  # sklearn warns about classes with few clips, as checked below.
        folds = list(splitter.split(targets, targets, groups))
    return [(fit, validation) for fit, validation in folds if len(validation) and set(targets[fit]) == set(targets)]
