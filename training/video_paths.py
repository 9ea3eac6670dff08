"""Finding the videos that command-line arguments name: files, folders, patterns, URLs, pipes and standard input."""

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

from tgdfer.processing.video_reading_tgdfer import IMAGE_SUFFIXES
from tgdfer.processing.video_source_tgdfer import VideoDecodeError
from tgdfer.training.errors import UserError
from tgdfer.training.video_names import VIDEO_SUFFIXES

# The argument that stands for standard input.
STANDARD_INPUT = "-"
# Maximum number of bytes that are read from standard input or a pipe.
MAX_SPOOLED_BYTES = 4 * 2**30


def find_videos(arguments: Sequence[str]) -> list[str]:
    """Finds the videos that the arguments of a command name.

    Folders are searched recursively for video files and for folders that contain only images. Such a folder is a clip,
    and its images are the frames. Hidden files are skipped.

    Args:
        arguments (`Sequence[str]`): Paths, URLs, folders, patterns such as `clips/**/*.mp4`, or `-` for standard
            input.

    Returns:
        The videos without duplicates, in the order of the arguments. Within a folder or a pattern they are in natural
        order: 2 comes before 10. A path that does not exist is kept, so that reading it raises an error.

    Raises:
        UserError: If a pattern matches nothing, or a folder contains neither videos nor images.
    """
    found = [video for argument in arguments for video in _expand(os.path.expanduser(argument))]
    return list(dict.fromkeys(found))


def natural_sort_key(path: str | Path) -> list[Any]:
    """Returns a sort key for natural order, in which 2 comes before 10. Folders are compared one after the other."""
    return [_natural_key(part) for part in Path(path).parts]


@contextmanager
def readable_source(video: str) -> Iterator[Any]:
    """Yields a source that the video processor can open.

    A photograph is a video of one frame. Standard input and named pipes can be read only once, so they are copied to
    an unnamed temporary file. The file is deleted at the end of the context or of the process.

    Args:
        video (`str`): A video as returned by `find_videos`.

    Raises:
        VideoDecodeError: If standard input is a terminal, or if the input is larger than `MAX_SPOOLED_BYTES`.
    """
    if "://" not in video and Path(video).suffix.lower() in IMAGE_SUFFIXES and Path(video).is_file():
        # Given a path, FFmpeg might read an image as the first one of a numbered sequence.
        yield {"path": video, "bytes": Path(video).read_bytes()}
        return
    if video != STANDARD_INPUT and not is_pipe(video):
        yield video
        return
    name = "Standard input" if video == STANDARD_INPUT else video
    with tempfile.TemporaryFile(prefix="tgdfer-") as spooled:
        if video == STANDARD_INPUT:
            if sys.stdin.isatty():
                raise VideoDecodeError(
                    "Standard input is a terminal; redirect a video to it, as in `tgdfer predict - < clip.mp4`."
                )
            _copy(sys.stdin.buffer, spooled, name)
        else:
            with open(video, "rb") as pipe:
                _copy(pipe, spooled, name)
        yield {"path": name, "bytes": spooled}


def _expand(argument: str) -> list[str]:
    """Returns the videos that one argument names."""
    if argument == STANDARD_INPUT or "://" in argument:
        return [argument]
    if os.path.isdir(argument):
        return _videos_in_folder(Path(argument))
    # File names can contain brackets, which are also part of patterns.
    if os.path.lexists(argument) or not glob.has_magic(argument):
        return [argument]
    matches = sorted(glob.glob(argument, recursive=True), key=natural_sort_key)
    if not matches:
        raise UserError(f"No file matches {argument!r}; check the pattern.")
    # A pattern can match a folder and also the files in it. `find_videos` removes the duplicates.
    return [
        video for match in matches for video in (_videos_in_folder(Path(match)) if os.path.isdir(match) else [match])
    ]


def _videos_in_folder(top: Path) -> list[str]:
    """Returns the video files and the folders of images below a folder, in natural order."""
    found: list[Path] = []
    for name, folders, files in os.walk(top):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        visible = [Path(name, file) for file in files if not file.startswith(".")]
        found += [file for file in visible if file.suffix.lower() in VIDEO_SUFFIXES]
        if visible and not folders and all(file.suffix.lower() in IMAGE_SUFFIXES for file in visible):
            found.append(Path(name))
    if found:
        return [str(path) for path in sorted(found, key=natural_sort_key)]
    try:
        files_here = list(top.iterdir())
    except OSError as error:
        raise UserError(f"The folder {top} cannot be read ({error.strerror}); check its permissions.") from error
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files_here):
        return [str(top)]
    raise UserError(
        f"The folder {top} contains neither videos ({', '.join(VIDEO_SUFFIXES)}) nor images; check the path."
    )


def _natural_key(text: str) -> list[tuple[int, int, str]]:
    """Returns a sort key in which numbers come before text and are compared by value."""
    return [
        (0, int(piece), "") if piece.isdecimal() else (1, 0, piece.lower()) for piece in re.split(r"(\d+)", text)
    ] + [(2, 0, text)]


def is_pipe(path: str) -> bool:
    """Returns whether a path is that of a named pipe, which can be read only once."""
    try:
        return "://" not in path and stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def _copy(source: BinaryIO, target: Any, name: str) -> None:
    """Copies a stream to a file and rewinds the file. `name` is the name of the stream in the error message."""
    while chunk := source.read(2**20):
        target.write(chunk)
        if target.tell() > MAX_SPOOLED_BYTES:
            raise VideoDecodeError(
                f"{name} is larger than {MAX_SPOOLED_BYTES / 2**30:.0f} GiB; save it as a file and give its path."
            )
    target.seek(0)
