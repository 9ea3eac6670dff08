"""Finding the clips of a published data set on the disk: videos, or folders of frames."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tgdfer.processing.video_reading_tgdfer import IMAGE_SUFFIXES
from tgdfer.training.data.links import require_inside
from tgdfer.training.data.published.listing import ClipsOnDisk
from tgdfer.training.data.published.lists import clip_key
from tgdfer.training.errors import UserError
from tgdfer.training.video_names import VIDEO_NAME


def numbered_clips(root: Path, folders: Sequence[str], digits: int) -> ClipsOnDisk:
    """Finds the clips of a data set whose names are numbers.

    Args:
        root (`Path`): Folder of the data set, or a folder that contains it.
        folders (`Sequence[str]`): Folders that may contain the clips, best first. The first one that exists is used.
        digits (`int`): Number of digits of a name.

    Raises:
        UserError: If there is no such folder, or a clip is a link out of the data set.
    """
    folder = _first_folder(root, folders)
    paths, ignored = {}, {}
    for path in clips_below(folder, depth=1):
        key = clip_key(path.name, digits)
        if not key.isdecimal():
            ignored[path.relative_to(root).as_posix()] = "its name is not a number"
        elif key not in paths or path.is_dir():
            paths[key] = path
    for path in paths.values():
        if path.is_symlink():
            require_inside(root, path.relative_to(root))
    return ClipsOnDisk(paths, ignored)


def clips_below(folder: Path, depth: int) -> list[Path]:
    """Returns videos and folders at a depth below a folder, sorted. Hidden ones are left out."""
    found = [folder]
    for level in range(depth):
        entries = [entry for parent in found for entry in os.scandir(parent) if not entry.name.startswith(".")]
        last = level == depth - 1
        found = [Path(entry) for entry in entries if entry.is_dir() or (last and VIDEO_NAME.search(entry.name))]
    return sorted(found)


def videos_below(root: Path) -> list[Path]:
    """Returns all videos below a folder, sorted. Hidden files are left out, and links to folders are not followed."""

    def walk() -> Iterator[Path]:
        for parent, folders, files in os.walk(root):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
            yield from (Path(parent, name) for name in files if VIDEO_NAME.search(name) and name[0] != ".")

    found = sorted(walk())
    for path in found:
        if path.is_symlink():
            require_inside(root, path.relative_to(root))
    return found


def count_frames(folder: Path) -> int:
    """Returns the number of pictures in a folder of frames."""
    return sum(
        Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in os.scandir(folder) if entry.name[0] != "."
    )


def _first_folder(root: Path, folders: Sequence[str]) -> Path:
    for pattern in folders:
        for place in (pattern, f"*/{pattern}"):
            found = sorted(path for path in root.glob(place) if path.is_dir())
            if found:
                return found[0]
    raise UserError(
        f"{root} has none of the folders of clips {', '.join(folders)}: give the folder of the unpacked data set as"
        " --data-root."
    )
