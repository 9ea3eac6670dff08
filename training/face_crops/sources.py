"""The sources of face crops: the videos and folders of frames of a data set, and the names of their crops."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tgdfer.processing.faces_tgdfer import FaceSettings
from tgdfer.processing.video_reading_tgdfer import IMAGE_SUFFIXES
from tgdfer.training.errors import UserError
from tgdfer.training.video_names import VIDEO_NAME

# Ending of the names of the crops of several people.
_NUMBER = re.compile(r"-[1-9]\d*$")
# Suffixes of files that data sets contain in addition to videos.
_COMPANIONS = (".csv", ".json", ".jsonl", ".md", ".pdf", ".tsv", ".txt", ".wav", ".xlsx", ".xml", ".yaml", ".yml")


@dataclass(frozen=True)
class Job:
    """A video to cut faces out of.

    Attributes:
        source (`Path`): The video, or a folder of frames.
        file (`str`): Name in the report, which is the path below the folder of the data set.
        folder (`Path`): Folder of the crops.
        output (`str`): Path of the crop below `folder`. If there are several people, each file name gets a number.
        settings (`FaceSettings`): Settings of the face detection and of the crops.
    """

    source: Path
    file: str
    folder: Path
    output: str
    settings: FaceSettings


def find_jobs(source: Path, output: Path, settings: FaceSettings) -> list[Job]:
    """Finds the videos and folders of frames of a data set, sorted by path.

    Raises:
        UserError: If there are none.
    """
    root = source if source.is_dir() else source.parent
    videos = list(_videos(source))
    if not videos:
        others = skipped_files(source)
        only = f", only files such as {others[0]}" if others else ""
        raise UserError(
            f"{source} contains no videos and no folders of frames{only}: name the folder of a data set, or convert"
            " its videos to .mp4."
        )
    names = [video.relative_to(root) if video != root else Path(root.name) for video in videos]
    stems = [
        name.as_posix() if video.is_dir() else name.with_suffix("").as_posix()
        for name, video in zip(names, videos, strict=True)
    ]
    # If "a.avi" and "a.mp4" are in the same folder, the names of their crops are "a.avi.mp4" and "a.mp4.mp4". If
    # "a.mp4" and "a-1.mp4" are, those of several people in "a.mp4" are "a.mp4-1.mp4" and so on.
    count = Counter(stems)
    numbered = {_NUMBER.sub("", stem) for stem in stems if _NUMBER.search(stem)} if settings.crop == "all" else set()
    is_unique = [count[stem] == 1 and stem not in numbered for stem in stems]
    return [
        Job(video, name.as_posix(), output, f"{stem if unique else name.as_posix()}.mp4", settings)
        for video, name, stem, unique in zip(videos, names, stems, is_unique, strict=True)
    ]


def skipped_files(source: Path) -> list[str]:
    """Returns the files of a data set that may be videos but do not have the suffix of a video."""
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else []
    names = [path.relative_to(source) for path in files]
    return [
        name.as_posix()
        for name in names
        if not VIDEO_NAME.search(name.name)
        and name.suffix.lower() not in (*IMAGE_SUFFIXES, *_COMPANIONS)
        and not any(part.startswith(".") for part in name.parts)
    ]


def _videos(source: Path) -> Iterator[Path]:
    """Yields videos and folders of frames, sorted by path."""
    if source.is_file():
        yield source
        return
    hidden = set(source.rglob(".*"))
    files = [path for path in source.rglob("*") if path.is_file() and path not in hidden]
    videos = {path for path in files if VIDEO_NAME.search(path.name)}
    frame_folders = {path.parent for path in files if path.suffix.lower() in IMAGE_SUFFIXES}
    yield from sorted(videos | (frame_folders - {path.parent for path in videos}))
