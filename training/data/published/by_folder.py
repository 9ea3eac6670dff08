"""FERV39k and AFEW: clips in folders of their labels."""

from pathlib import Path

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.data.published.listing import SPLITS, ClipsOnDisk, FoldLists, ListedClip
from tgdfer.training.data.published.lists import clip_key, find_list, read_list
from tgdfer.training.data.published.on_disk import clips_below
from tgdfer.training.errors import UserError

DIGITS = 4
SEVEN_CLASSES = ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear")
_FERV39K_CLIPS = "2_ClipsforFaceCrop"
_FERV39K_LISTS = "4_setups/All_scenes/{split}_All.csv"
# AFEW publishes no labels of its test split, so its validation split is used for testing.
_AFEW_FOLDERS = {"train": ("train", "Train", "training"), "test": ("validation", "Validation", "val", "Val")}


def ferv39k_lists(root: Path, fold: int) -> FoldLists:
    """Reads the lists of all scenes of FERV39k (Wang et al., 2022).

    The label is the folder in the path. The column of the label is only checked, because two orders of numbers are in
    use.

    Raises:
        UserError: If a list is missing, a path has no scene, emotion and number, or path and label disagree.
    """
    splits: FoldLists = {}
    for split in SPLITS:
        places = [_FERV39K_LISTS.format(split=split), f"{split}_All.csv"]
        splits[split] = []
        for row in read_list(find_list(root, places, f"list of the {split} clips")):
            key = clip_key(row.name, DIGITS, parts=3)
            parts = key.split("/")
            label = canonical_label(parts[1]) if len(parts) == 3 else None
            if label not in SEVEN_CLASSES:
                raise UserError(
                    f"{row.name!r} in {row.where} is no path of scene, emotion and number, such as Action/Happy/0267:"
                    " restore the list of the data set."
                )
            if not row.label.isdecimal() and canonical_label(row.label) != label:
                raise UserError(
                    f"{row.where} says {row.label!r}, but the path is {row.name!r}: restore the list of the data set."
                )
            splits[split].append(ListedClip(key, label, frames=row.frames, group=parts[0]))
    return splits


def ferv39k_clips(root: Path) -> ClipsOnDisk:
    """Finds the clips of FERV39k: `SCENE/EMOTION/NUMBER`, where the number is unique in a scene and emotion only."""
    for pattern in (_FERV39K_CLIPS, f"*/{_FERV39K_CLIPS}"):
        if folders := sorted(root.glob(pattern)):
            paths = clips_below(folders[0], depth=3)
            return ClipsOnDisk({clip_key(path.as_posix(), DIGITS, parts=3): path for path in paths})
    raise UserError(f"{root} has no folder {_FERV39K_CLIPS}: give the folder of the unpacked data set as --data-root.")


def afew_lists(root: Path, fold: int) -> FoldLists:
    """Reads the clips of AFEW (Dhall et al., 2012) from its folders, `{train,validation}/EMOTION/CLIP`."""
    splits: FoldLists = {split: [] for split in SPLITS}
    for split in SPLITS:
        for key in _afew_paths(root, split):
            label = canonical_label(key.split("/")[1])
            if label not in SEVEN_CLASSES:
                raise UserError(
                    f"{root} has the folder {key.split('/')[1]!r}, which is no emotion of AFEW: remove or rename it."
                )
            splits[split].append(ListedClip(key, label))
    return splits


def afew_clips(root: Path) -> ClipsOnDisk:
    """Finds the clips of AFEW: folders of frames, or videos."""
    return ClipsOnDisk({key: path for split in SPLITS for key, path in _afew_paths(root, split).items()})


def _afew_paths(root: Path, split: str) -> dict[str, Path]:
    """Returns the clips of a split by their key, `SPLIT/EMOTION/CLIP`, because numbers are unique in a split only."""
    names = _AFEW_FOLDERS[split]
    for folder in [place / name for name in names for place in (root, *sorted(root.glob("*")))]:
        if folder.is_dir():
            return {f"{split}/{path.parent.name}/{path.stem}": path for path in clips_below(folder, depth=2)}
    raise UserError(
        f"{root} has no folder {names[0]!r}: give the folder with train/EMOTION/CLIP and"
        " validation/EMOTION/CLIP as --data-root."
    )
