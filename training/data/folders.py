"""Local folders of clips: reading their splits, labels and metadata.

`datasets` guesses splits from file names, ignores metadata files next to the folders of the splits, and skips links to
folders. Therefore this module reads local folders itself. It uses the same folder layout.
"""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from huggingface_hub import metadata_load

from tgdfer.processing.video_reading_tgdfer import IMAGE_SUFFIXES
from tgdfer.training.data.links import require_inside
from tgdfer.training.data.metadata_files import METADATA, metadata_lines
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError
from tgdfer.training.video_names import VIDEO_NAME

# Suffixes that the `videofolder` builder of `datasets` reads. So a folder has the same clips locally and on the Hub.
VIDEOFOLDER_SUFFIXES = (".mkv", ".mp4", ".avi", ".mpeg", ".mov")
# Folder names that denote a split.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
# Columns of metadata that may name the split of a clip.
_SPLIT_COLUMNS = ("split", "set", "subset", "partition", "usage")
_SPLIT_OF = {folder: split for split, folders in SPLITS.items() for folder in folders}
# Suffixes of files that other builders of `datasets` read.
_OTHER_FORMATS = (".arrow", ".parquet", ".tar", ".tgz", ".zip")
_REMEDY = "give a folder of SPLIT/LABEL/CLIP.mp4 with a metadata.jsonl in every split or in none"

# A path relative to the folder of the data set.
_RelativePath = PurePosixPath


def read_folder(folder: Path) -> dict[str, Table] | None:
    """Reads a folder of `SPLIT/LABEL/CLIP.mp4` or `LABEL/CLIP.mp4`, with or without metadata files.

    The split of a clip is given by the first folder in its path that has the name of a split. If no clip has one, all
    clips belong to the split "train". A metadata file may be in the folder of a split, below it or above it. The split
    never depends on file names. Hidden files are skipped.

    Args:
        folder (`Path`): Absolute path of the data set.

    Returns:
        The splits by name. None if the folder has another format, which `datasets` reads.

    Raises:
        UserError: If a link points out of the folder, labels or metadata are not valid, or clips are folders of
            frames.
    """
    found = sorted(_walk(folder))
    names = [path.name for path in found]
    if _has_other_format(folder, names):
        return None
    if not any(map(VIDEO_NAME.search, names)):
        _require_no_frame_folders(folder, found)
        return None
    metadata = [path for path in found if path.name in METADATA]
    all_videos = [path for path in found if VIDEO_NAME.search(path.name)]
    # Metadata may list videos with any suffix.
    videos, left_out = (all_videos, {}) if metadata else _usable_videos(folder, all_videos)
    left_out |= {} if metadata else _pictures_beside(found, videos)
    rows = _metadata_rows(folder, metadata, found) if metadata else _folder_rows(folder, videos)
    has_splits = any(_split_of(path) for path in [*videos, *rows])
    outside = "it is not in the folder of a split"
    tables: dict[str, Table] = {}
    for split in SPLITS:
        own = [path for path in rows if (_split_of(path) or ("train" if not has_splits else None)) == split]
        on_disk = [path for path in videos if (_split_of(path) or ("train" if not has_splits else None)) == split]
        if not own and on_disk:
            raise UserError(f"{folder} has metadata, but it lists no clip of the split {split!r}: {_REMEDY}.")
        if own:
            _require_one_split(folder, split, [rows[path] for path in own])
            unused = {path: "no metadata file lists it" for path in on_disk if path not in rows}
            unused |= {path: reason for path, reason in left_out.items() if (_split_of(path) or "train") == split}
            tables[split] = _table(folder, own, rows, unused)
    if not tables:
        raise UserError(f"{folder} has no readable clip ({_first_reason(left_out)}): {_REMEDY}.")
    lost = {path: outside for path in [*videos, *rows] if has_splits and _split_of(path) is None}
    tables[next(iter(tables))].left_out.update({str(path): reason for path, reason in lost.items()})
    return tables


def _walk(folder: Path) -> Iterator[_RelativePath]:
    """Yields the files below a folder. Links to other folders in it are followed."""
    todo = [(_RelativePath(), [os.path.realpath(folder)])]
    while todo:
        below, parents = todo.pop()
        for entry in os.scandir(folder / below):
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = below / entry.name
            is_folder = entry.is_dir()
            if entry.is_symlink() and (is_folder or VIDEO_NAME.search(entry.name) or entry.name in METADATA):
                require_inside(folder, path)
            if not is_folder:
                yield path
            # A link to a parent folder would lead to an infinite loop.
            elif (real := os.path.realpath(entry.path)) not in parents:
                todo.append((path, [*parents, real]))


def _has_other_format(folder: Path, names: list[str]) -> bool:
    """Returns whether `datasets` must read a folder: it has archives or tables, or a README that configures files."""
    if any(name.endswith(_OTHER_FORMATS) and name not in METADATA for name in names):
        return True
    card = folder / "README.md"
    try:
        card_metadata = metadata_load(card) if card.is_file() else None
    except ValueError:  # A card that is not valid configures no files.
        card_metadata = None
    return isinstance(card_metadata, Mapping) and "configs" in card_metadata


def _usable_videos(folder: Path, videos: list[_RelativePath]) -> tuple[list[_RelativePath], dict[_RelativePath, str]]:
    """Returns the videos that can be used, and the reasons why the others cannot."""
    left_out: dict[_RelativePath, str] = {}
    for path in videos:
        if path.suffix.lower() not in VIDEOFOLDER_SUFFIXES:
            left_out[path] = f"only files with the suffixes {' '.join(VIDEOFOLDER_SUFFIXES)} are read from folders"
        elif not is_text(str(path)):
            left_out[path] = "its name is not valid UTF-8, so rename it"
        elif not (folder / path).exists():
            left_out[path] = "it is a link to a file that does not exist"
    return [path for path in videos if path not in left_out], left_out


def _require_no_frame_folders(folder: Path, found: list[_RelativePath]) -> None:
    """Checks that pictures are not the frames of clips, as SPLIT/LABEL/CLIP/FRAME.jpg.

    Raises:
        UserError: If they are. `datasets` would take every frame for a photograph, and CLIP for its label.
    """
    pictures = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and _split_of(path)]
    if pictures and not any(path.name in METADATA for path in found) and all(_depth(path) > 1 for path in pictures):
        raise UserError(
            f"{folder} has folders of frames, such as {pictures[0].parent}: clips are video files, as"
            " SPLIT/LABEL/CLIP.mp4, so encode each folder as a video, for example by `ffmpeg -i FOLDER/%04d.jpg"
            " FOLDER.mp4`."
        )


def _depth(path: _RelativePath) -> int:
    """Returns the number of folders between the folder of the split and a file."""
    parts = path.parts[:-1]
    split = next((number for number, part in enumerate(parts) if part.lower() in _SPLIT_OF), -1)
    return len(parts) - split - 1


def _pictures_beside(found: list[_RelativePath], videos: list[_RelativePath]) -> dict[_RelativePath, str]:
    """Returns the pictures in the folders of videos, which are not used, with the reason."""
    folders = {path.parent for path in videos}
    reason = "a folder with videos has no photographs as clips, so put them into a data set of their own"
    return {path: reason for path in found if path.suffix.lower() in IMAGE_SUFFIXES and path.parent in folders}


def _require_one_split(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    """Checks that a column of the metadata does not put the clips of a split into several ones.

    Raises:
        UserError: If it does. Test clips would be trained on.
    """
    for name in _SPLIT_COLUMNS:
        values = {str(row.get(name)).strip().lower() for row in rows}
        if len(named := {_SPLIT_OF[value] for value in values if value in _SPLIT_OF}) > 1:
            raise UserError(
                f"Column {name!r} of the metadata of {folder} names the splits {', '.join(sorted(named))}, but all of"
                f" these clips are in {split!r}: splits are folders, so move the clips to {folder}/train,"
                f" {folder}/test and so on, each with its own metadata, or remove the column."
            )


def is_text(name: str) -> bool:
    """Returns whether a file name is valid UTF-8. File systems allow any bytes in names."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split_of(path: _RelativePath) -> str | None:
    """Returns the split of a path, or None if no folder in it has the name of a split."""
    return next((_SPLIT_OF[part.lower()] for part in path.parts[:-1] if part.lower() in _SPLIT_OF), None)


def _folder_rows(folder: Path, videos: list[_RelativePath]) -> dict[_RelativePath, dict[str, Any]]:
    """Returns a row with the label of each video, which is the name of its folder."""
    depths = {path: _depth(path) for path in videos}
    with_splits = any(_split_of(path) for path in videos)
    inside = {path: depth for path, depth in depths.items() if not with_splits or _split_of(path)}
    most_common = max(set(inside.values()), key=list(inside.values()).count, default=1)
    odd = next((path for path, depth in inside.items() if depth != max(1, most_common)), None)
    if odd is not None:
        raise UserError(
            f"{folder} has no labels: its clips must be one folder deep, as SPLIT/LABEL/CLIP.mp4, and {odd} is not."
        )
    return {path: {"label": path.parent.name} for path in videos}


def _metadata_rows(
    folder: Path, files: list[_RelativePath], found: list[_RelativePath]
) -> dict[_RelativePath, dict[str, Any]]:
    """Returns the row of each clip that the metadata files list, without its `file_name`."""
    rows: dict[_RelativePath, dict[str, Any]] = {}
    # File systems and editors encode accents in different Unicode normal forms.
    composed = {unicodedata.normalize("NFC", str(path)): path for path in found}
    for file in files:
        for number, row in metadata_lines(folder / file):
            name = row.pop("file_name", None)
            where = f"Row {number} of {folder / file}"
            if not isinstance(name, str) or not name:
                columns = ", ".join(map(repr, row)) or "none"
                raise UserError(
                    f"{where} has no file_name, only the columns {columns}: separate columns by commas, and give the"
                    f" path of its clip below {(folder / file).parent}."
                )
            below = os.path.normpath(name).replace("\\", "/")
            if "://" in name or os.path.isabs(name) or below.split("/")[0] == "..":
                raise UserError(f"{where} names {name!r}, which is not below its folder: copy the clip there.")
            if not is_text(name):
                raise UserError(f"{where} names {name!r}, which is not valid Unicode: rename the clip.")
            path = file.parent / below
            path = composed.get(unicodedata.normalize("NFC", str(path)), path)
            if path in rows:
                raise UserError(f"{where} names {name!r}, but another row names it as well: keep one of them.")
            require_inside(folder, path)
            rows[path] = row
    return rows


def _table(
    folder: Path,
    own: list[_RelativePath],
    rows: dict[_RelativePath, dict[str, Any]],
    left_out: dict[_RelativePath, str],
) -> Table:
    """Makes the table of a split.

    Args:
        folder: Absolute path of the data set.
        own: Paths of the clips of the split.
        rows: Row of each clip of the data set.
        left_out: Videos of the split that are not used, with the reasons.
    """
    names = list(dict.fromkeys(name for path in own for name in rows[path]))
    videos = {"video": [{"path": str(folder / path), "bytes": None} for path in own]}
    features = datasets.Features({"video": datasets.Video(decode=False)})
    return Table(
        datasets.Dataset.from_dict(videos, features),
        {name: [rows[path].get(name) for path in own] for name in names},
        {_below_split(path): reason for path, reason in left_out.items()},
        root=folder,
    )


def _below_split(path: _RelativePath) -> str:
    """Returns the part of a path below the folder of its split."""
    parts = path.parts
    start = next((number + 1 for number, part in enumerate(parts[:-1]) if part.lower() in _SPLIT_OF), 0)
    return "/".join(parts[start:])


def _first_reason(left_out: Mapping[_RelativePath, str]) -> str:
    """Returns the first unused video and the reason why it is not used."""
    return next((f"{path}: {reason}" for path, reason in left_out.items()), "no video")
