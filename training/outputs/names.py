"""How videos are called in tables and in the names of files."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from pathvalidate import sanitize_filename

from tgdfer.training.files import printable
from tgdfer.training.video_paths import STANDARD_INPUT

# Bytes of the longest name that usual file systems take, and of what the name of a video adds to it.
_LONGEST, _LONGEST_STEM = 255, 120


def short_names(videos: Sequence[str]) -> dict[str, str]:
    """For each video the fewest last parts of its path that tell it from the others, e.g. `fear/0001.mp4`."""
    paths = {video: Path(video).parts for video in videos}
    names: dict[str, str] = {}
    for count in range(1, max(map(len, paths.values()), default=0) + 1):
        names = {video: "/".join(parts[-count:]) for video, parts in paths.items()}
        if len(set(names.values())) == len(names):
            break
    return {video: "standard input" if video == STANDARD_INPUT else name for video, name in names.items()}


def output_paths(videos: Sequence[str], path: Path | None) -> dict[str, Path]:
    """A file for each video, all different: `plot.png`, or of several videos `plot-NAME.png`; none without a path."""
    if path is None:
        return {}
    if len(set(videos)) == 1:
        return {videos[0]: path}
    taken: set[str] = set()
    paths: dict[str, Path] = {}
    for video, name in short_names(videos).items():
        stem = free = _stem(name)
        number = 1  # the same name with another ending, or one that a file system takes for the same
        while _same(free) in taken:
            number += 1
            free = f"{stem}-{number}"
        taken.add(_same(free))
        start = _beginning(path.stem, _LONGEST - len(f"-{free}{path.suffix}".encode()))
        paths[video] = path.with_name(f"{start}-{free}{path.suffix}")
    return paths


def _stem(name: str) -> str:
    """What the name of a video adds to that of an output, in characters that every file system takes."""
    text = printable(name.removesuffix(Path(name).suffix).strip("/").replace("/", "-"))
    # Names of several folders differ at their beginning or at their end, and long ones keep the end.
    text = _beginning(text[::-1], _LONGEST_STEM)[::-1]
    return str(sanitize_filename(text, replacement_text="-", platform="universal")) or "video"


def _beginning(text: str, most: int) -> str:
    """As much of a text as has at most so many bytes."""
    return text.encode("utf-8", "surrogateescape")[: max(0, most)].decode("utf-8", "ignore")


def _same(name: str) -> str:
    """What the names have in common that are one file for some file systems."""
    return unicodedata.normalize("NFC", name).casefold()


def answer(label: str, candidates: Sequence[str]) -> str:
    """The label, with what it may be where that is not known, e.g. `unsure (fear or surprise)`."""
    return f"{label} ({' or '.join(candidates)})" if len(candidates) > 1 else label


def clock(seconds: float) -> str:
    """A moment of a video to a tenth of a second, e.g. `1:02.5`."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{tenths / 10:04.1f}"
