"""Which videos the arguments of a command name: files, folders, patterns, addresses, pipes and standard input."""

import glob
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tgdfer.processing.video_file_tgdfer import VideoDecodeError
from tgdfer.processing.video_reading_tgdfer import IMAGE_SUFFIXES
from tgdfer.training.errors import UserError

# The argument that stands for standard input.
STANDARD_INPUT = "-"
# Bytes that standard input or a pipe may give.
MAX_SPOOLED_BYTES = 4 * 2**30
# What is looked for in a folder. A file that is named is read whatever its ending.
VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
    *(".mxf", ".ogv", ".ts", ".webm", ".wmv"),
)


def find_videos(arguments: Sequence[str]) -> list[str]:
    """Finds the videos that the arguments of a command name.

    A folder is searched with its subfolders. It gives its video files and those folders that hold only image files,
    each of which is a clip of frames. Hidden files are left out.

    Args:
        arguments: paths, URLs, folders, patterns such as `clips/**/*.mp4`, or `-` for standard input.

    Returns:
        The videos, each once, in the order of the arguments. Those of a folder or a pattern are in natural order: 2
        comes before 10. A path that does not exist stays in the list, so that reading it says so.

    Raises:
        UserError: a pattern matches nothing, or a folder holds neither videos nor images.
    """
    found = [video for argument in arguments for video in _expanded(os.path.expanduser(argument))]
    return list(dict.fromkeys(found))


def natural_order(path: str | Path) -> list[Any]:
    """A key for sorting by which 2 comes before 10, folder by folder."""
    return [_natural(part) for part in Path(path).parts]


@contextmanager
def readable(video: str) -> Iterator[Any]:
    """Gives what the video processor can open.

    A photograph is a video of one frame. Standard input and named pipes are copied to a temporary file, because they
    can be read only once. The file has no name and disappears with this context, or with the process.

    Args:
        video: as `find_videos` gives it.

    Raises:
        VideoDecodeError: standard input is a terminal or empty, or gives more than `MAX_SPOOLED_BYTES`.
    """
    if "://" not in video and Path(video).suffix.lower() in IMAGE_SUFFIXES and Path(video).is_file():
        # By the name of a file, FFmpeg would take a picture for the first of a numbered series.
        yield {"path": video, "bytes": Path(video).read_bytes()}
        return
    if video != STANDARD_INPUT and not _is_pipe(video):
        yield video
        return
    name = "Standard input" if video == STANDARD_INPUT else video
    with tempfile.TemporaryFile(prefix="tgdfer-") as kept:
        if video == STANDARD_INPUT:
            if sys.stdin.isatty():
                raise VideoDecodeError(
                    "Standard input is a terminal; give a video to it, as in `tgdfer predict - < clip.mp4`."
                )
            _copy(sys.stdin.buffer, kept, name)
        else:
            with open(video, "rb") as pipe:
                _copy(pipe, kept, name)
        yield {"path": name, "bytes": kept}


def _expanded(argument: str) -> list[str]:
    if argument == STANDARD_INPUT or "://" in argument:
        return [argument]
    if os.path.isdir(argument):
        return _in_folder(Path(argument))
    # A file may have brackets in its name.
    if os.path.lexists(argument) or not glob.has_magic(argument):
        return [argument]
    matches = sorted(glob.glob(argument, recursive=True), key=natural_order)
    if not matches:
        raise UserError(f"No file matches {argument!r}; check the pattern.")
    # A folder that the pattern matches may hold files that it matches as well; `find_videos` keeps each once.
    return [video for match in matches for video in (_in_folder(Path(match)) if os.path.isdir(match) else [match])]


def _in_folder(top: Path) -> list[str]:
    found: list[Path] = []
    for name, folders, files in os.walk(top):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        visible = [Path(name, file) for file in files if not file.startswith(".")]
        found += [file for file in visible if file.suffix.lower() in VIDEO_SUFFIXES]
        if visible and not folders and all(file.suffix.lower() in IMAGE_SUFFIXES for file in visible):
            found.append(Path(name))
    if found:
        return [str(path) for path in sorted(found, key=natural_order)]
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in top.iterdir()):
        return [str(top)]
    raise UserError(
        f"The folder {top} has neither videos ({', '.join(VIDEO_SUFFIXES)}) nor images in it; check the path."
    )


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.lower()) for piece in re.split(r"(\d+)", text)
    ] + [(2, 0, text)]


def _is_pipe(path: str) -> bool:
    try:
        return "://" not in path and stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _copy(source: BinaryIO, target: Any, name: str) -> None:
    while chunk := source.read(2**20):
        target.write(chunk)
        if target.tell() > MAX_SPOOLED_BYTES:
            raise VideoDecodeError(
                f"{name} gives more than {MAX_SPOOLED_BYTES / 2**30:.0f} GiB; save it as a file and give its path."
            )
    target.seek(0)
