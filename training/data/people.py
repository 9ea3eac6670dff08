"""People who are in two splits, so that figures say little about faces that a model has not seen."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from itertools import combinations

from tgdfer.training.config import DataConfig
from tgdfer.training.data.loading import people_of
from tgdfer.training.data.splits import Part
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)

# What people in two splits mean for the second one, by the first one.
_CONSEQUENCES = {
    "photographs": "unless only their names are the same, its figures say little about faces that the model has not"
    " seen.",
    "train": "its figures say little about faces that the model has not seen.",
    "validation": "the best epoch and the calibration are chosen on faces of people who are tested.",
}


def count_shared_people(data: DataConfig, train: Part, validation: Part | None) -> dict[str, dict[str, int]]:
    """Counts the people who are in two of training, validation and test clips and photographs, and warns about them.

    Args:
        data (`DataConfig`): Names the data set, its test split and the photographs, of which only people are read.
        train (`Part`): Training clips.
        validation (`Part`, *optional*): Validation clips, if any. People who are held out of the training split are no
            split of their own.

    Returns:
        The number of people of "validation" and "test" who are also in other splits, by the names "photographs",
        "train" and "validation". Without such people it is empty.
    """
    splits: dict[str, tuple[str, set[str]]] = {}
    if data.stills is not None:
        with suppress(UserError):  # Photographs that were trained on earlier may be gone.
            splits["photographs"] = (f"the photographs of {data.stills}", people_of(data.stills, "train"))
    splits["train"] = (repr(data.train_split), set(train.clips.people or ()))
    if validation is not None and validation.clips is not train.clips:
        splits["validation"] = (repr(data.validation_split or "validation"), set(validation.clips.people or ()))
    if any(people for _, people in splits.values()):
        splits["test"] = (repr(data.test_split), people_of(data.dataset, data.test_split, **data.reading))
    return _warn_about_pairs(splits)


def _warn_about_pairs(splits: Mapping[str, tuple[str, set[str]]]) -> dict[str, dict[str, int]]:
    """Compares the people of each two splits, whose names and people are given in the order of their use."""
    shared: dict[str, dict[str, int]] = {}
    for one, other in combinations(splits, 2):
        (first, known), (second, people) = splits[one], splits[other]
        if other == "train" or not (number := len(known & people)):  # Both may show the same people.
            continue
        shared.setdefault(other, {})[one] = number
        logger.warning(
            "%d of the %d people of the split %s are also in %s: %s",
            *(number, len(people), second, first, _CONSEQUENCES[one]),
        )
    return shared
