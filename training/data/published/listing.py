"""What a published data set says about itself: its facts, and the clips that its lists or its file names name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# The splits of a fold. The lists of a data set are by split, too.
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ListedClip:
    """A clip that a data set lists.

    Attributes:
        key (`str`): Name of the clip that is unique in the data set, such as "00025" or "Action/Happy/0267".
        label (`str`): Canonical label.
        person (`str`, *optional*): Person in the clip, if known.
        frames (`int`, *optional*): Number of frames that the list states.
        group (`str`, *optional*): Group of the clip by which results are reported, such as the scene.
    """

    key: str
    label: str
    person: str | None = None
    frames: int | None = None
    group: str | None = None


# The clips of each split of a fold.
FoldLists = dict[str, list[ListedClip]]


@dataclass(frozen=True)
class ClipsOnDisk:
    """The clips that were found below the folder of a data set.

    Attributes:
        paths (`dict[str, Path]`): Video or folder of frames of each clip, by its key.
        ignored (`dict[str, str]`): Other videos, with the reasons why they are no clips of the data set.
    """

    paths: dict[str, Path]
    ignored: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedDataset:
    """A published data set.

    Attributes:
        name (`str`): Name for `--dataset`, such as "dfew".
        title (`str`): Name in texts, such as "DFEW".
        layout (`str`): What its folder contains, for messages.
        classes (`tuple[str, ...]`): Canonical labels, in the published order.
        num_clips (`int`): Published number of listed clips.
        fold_sizes (`tuple[tuple[int, int], ...]`): Published number of clips for training and for testing of each
            fold. Empty if they are not published.
        folds (`int`): Number of folds. 1 if there is a single split into training and test clips.
        read_lists (`Callable[[Path, int], FoldLists]`): Reads the clips of a fold, numbered from 1.
        find_clips (`Callable[[Path], ClipsOnDisk]`): Finds the clips below the folder.
        class_counts (`Mapping[str, Mapping[str, int]]`): Published number of clips by class, for each split of the
            first fold.
    """

    name: str
    title: str
    layout: str
    classes: tuple[str, ...]
    num_clips: int
    fold_sizes: tuple[tuple[int, int], ...]
    folds: int
    read_lists: Callable[[Path, int], FoldLists]
    find_clips: Callable[[Path], ClipsOnDisk]
    class_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def published_size(self, fold: int, split: str) -> int | None:
        """Returns the published number of clips of a split of a fold. None if it is not published."""
        return self.fold_sizes[fold - 1][SPLITS.index(split)] if self.fold_sizes else None


@dataclass(frozen=True)
class Listing:
    """A published data set in a folder.

    Attributes:
        dataset (`PublishedDataset`): The data set.
        root (`Path`): Absolute path of its folder.
        fold (`int`): Number of the fold, from 1.
        splits (`FoldLists`): Listed clips of each split of the fold.
        on_disk (`ClipsOnDisk`): Clips that were found.
    """

    dataset: PublishedDataset
    root: Path
    fold: int
    splits: FoldLists
    on_disk: ClipsOnDisk

    def missing(self, split: str) -> list[str]:
        """Returns the listed clips of a split that are not on the disk."""
        return [clip.key for clip in self.splits[split] if clip.key not in self.on_disk.paths]

    @property
    def unlisted(self) -> dict[str, Path]:
        """The clips on the disk that no list of the fold names."""
        listed = {clip.key for clips in self.splits.values() for clip in clips}
        return {key: path for key, path in self.on_disk.paths.items() if key not in listed}
