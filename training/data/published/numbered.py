"""DFEW and MAFW: clips whose names are numbers, and lists of five folds."""

from collections.abc import Sequence
from pathlib import Path

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.data.published.listing import SPLITS, ClipsOnDisk, FoldLists, ListedClip
from tgdfer.training.data.published.lists import Row, clip_key, find_list, read_list
from tgdfer.training.data.published.on_disk import numbered_clips
from tgdfer.training.errors import UserError

DIGITS = 5
DFEW_CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
MAFW_CLASSES = (
    *("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"),
    *("contempt", "anxiety", "helplessness", "disappointment"),
)
_DFEW_LISTS = ("EmoLabel_DataSplit/{split}(single-labeled)/set_{fold}.csv", "set_{fold}_{split}.*")
_MAFW_LISTS = (
    "Train_Test_Set/single/no_caption/set_{fold}/{split}.txt",
    "Train_Test_Set/single/with_caption/set_{fold}/{split}.txt",
)
_DFEW_CLIPS = (
    *("Clip/clip_224x224", "clip_224x224", "Clip/clip_224x224_16f", "clip_224x224_16f", "Clip/jpg_256", "jpg_256"),
    *("Clip/original", "original"),
)
_MAFW_CLIPS = (
    *("data/faces", "faces", "frames_crop_align_224", "data/frames", "frames"),
    *("data/clips", "clips", "data/videos", "videos"),
)


def dfew_lists(root: Path, fold: int) -> FoldLists:
    """Reads the lists of a fold of DFEW (Jiang et al., 2020).

    The labels are numbers from 1 to 7. Lists that are passed on with code have numbers from 0 to 6, with the same
    header. The lowest number tells them apart.

    Raises:
        UserError: If the lists are missing, or the numbers may be of either kind.
    """
    rows = _rows(root, fold, _DFEW_LISTS)
    every = [row for split in rows.values() for row in split]
    first = _first_number(every)
    names: dict[str, str] = {str(first + number): label for number, label in enumerate(DFEW_CLASSES)}
    return _clips(rows, lambda row: names.get(row.label) or _named(row, DFEW_CLASSES))


def mafw_lists(root: Path, fold: int) -> FoldLists:
    """Reads the lists of a fold of MAFW (Liu et al., 2022), with 11 single labels.

    Raises:
        UserError: If the lists are missing, or the labels are numbers, whose order differs between lists.
    """
    return _clips(_rows(root, fold, _MAFW_LISTS), lambda row: _named(row, MAFW_CLASSES))


def dfew_clips(root: Path) -> ClipsOnDisk:
    """Finds the clips of DFEW: folders of frames with names of five digits, or videos."""
    return numbered_clips(root, _DFEW_CLIPS, DIGITS)


def mafw_clips(root: Path) -> ClipsOnDisk:
    """Finds the clips of MAFW: folders of frames with names of five digits, or videos."""
    return numbered_clips(root, _MAFW_CLIPS, DIGITS)


def _rows(root: Path, fold: int, patterns: Sequence[str]) -> dict[str, list[Row]]:
    found = {}
    for split in SPLITS:
        places = [pattern.format(split=split, fold=fold) for pattern in patterns]
        found[split] = read_list(find_list(root, places, f"list of the {split} clips of fold {fold}"))
    return found


def _clips(rows: dict[str, list[Row]], label_of) -> FoldLists:
    return {
        split: [ListedClip(clip_key(row.name, DIGITS), label_of(row), frames=row.frames) for row in found]
        for split, found in rows.items()
    }


def _first_number(rows: list[Row]) -> int:
    """Returns the number of the first class, 0 or 1, of labels that are numbers. It is 1 for labels that are words."""
    numbers = {int(row.label) for row in rows if row.label.isdecimal()}
    if not numbers:
        return 1
    if min(numbers) == 0 and max(numbers) <= 6:
        return 0
    if min(numbers) == 1 and max(numbers) == 7:
        return 1
    raise UserError(
        f"The labels of DFEW are numbers from {min(numbers)} to {max(numbers)} ({rows[0].where}), so it is unclear"
        " whether happiness is 0 or 1: use lists with all seven classes, from 1 to 7 or from 0 to 6."
    )


def _named(row: Row, classes: Sequence[str]) -> str:
    label = canonical_label(row.label)
    if row.label.isdecimal():
        raise UserError(
            f"The label {row.label!r} in {row.where} is a number, but several orders of the classes are in use: use"
            " lists with the names of the classes."
        )
    if label not in classes:
        raise UserError(f"The label {row.label!r} in {row.where} is none of {', '.join(classes)}: restore the list.")
    return label
