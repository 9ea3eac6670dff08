"""Videos below the folder of a data set that `datasets` does not read."""

import logging
import os
import re
from pathlib import Path

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.files import write_text

logger = logging.getLogger(__name__)

# More endings of videos than the videofolder builder of `datasets` reads.
VIDEO_NAME = re.compile(r"\.(3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)$", re.IGNORECASE)
# Folder names that `datasets` recognises as a split.
_SPLIT_FOLDERS = {
    "train": {"train", "training"},
    "validation": {"validation", "valid", "val", "dev"},
    "test": {"test", "testing", "eval", "evaluation"},
}


def write_left_out(folder: Path, split: str, clips: LabelledClips) -> None:
    """Writes the files of a split that `datasets` did not read to `folder/left_out_SPLIT.txt`, if there are any."""
    if clips.left_out:
        write_text(folder / f"left_out_{split}.txt", "\n".join(clips.left_out) + "\n")


def split_folder(dataset: Path, split: str) -> Path | None:
    """Folder of the files of a split in a local data set; None for a Hub id, or where that is unknown."""
    if not dataset.is_dir():
        return None
    folders = {folder.name.lower(): folder for folder in dataset.resolve().iterdir() if folder.is_dir()}
    for name in _SPLIT_FOLDERS.get(split, {split}):
        if name in folders:
            return folders[name]
    has_splits = any(name in folders for names in _SPLIT_FOLDERS.values() for name in names)
    return None if has_splits or split != "train" else dataset.resolve()


def name_left_out(folder: Path | None, paths: list[str | None]) -> list[str]:
    """Videos below `folder` that `datasets` did not read; a warning lists them."""
    if folder is None or None in paths:
        return []
    taken = {os.path.realpath(path) for path in paths if path}
    left_out = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if VIDEO_NAME.search(path.name) and os.path.realpath(path) not in taken
    )
    if left_out:
        more = f" and {len(left_out) - 10} more" if len(left_out) > 10 else ""
        logger.warning(
            "%d videos in %s are not used, because folders are read for .mkv .mp4 .avi .mpeg .mov only,"
            " or because metadata.jsonl does not list them: %s%s",
            len(left_out),
            folder,
            ", ".join(left_out[:10]),
            more,
        )
    return left_out
