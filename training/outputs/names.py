"""Names of videos in tables and file names, and the text of labels and times."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from pathvalidate import sanitize_filename

from tgdfer.training.files import printable
from tgdfer.training.video_paths import STANDARD_INPUT, natural_sort_key

# Maximum length of a file name in common file systems, and of the part that identifies the video, in bytes.
_MAX_NAME, _MAX_STEM = 255, 120


def short_names(videos: Sequence[str]) -> dict[str, str]:
    """Returns the shortest end of each path that is different for all videos, e.g. `fear/0001.mp4`."""
    paths = {video: Path(video).parts for video in videos}
    names: dict[str, str] = {}
    for count in range(1, max(map(len, paths.values()), default=0) + 1):
        names = {video: "/".join(parts[-count:]) for video, parts in paths.items()}
        if len(set(names.values())) == len(names):
            break
    return {video: "standard input" if video == STANDARD_INPUT else name for video, name in names.items()}


def output_paths(videos: Sequence[str], path: Path | None) -> dict[str, Path]:
    """Returns a distinct output file for each video.

    Args:
        videos (`Sequence[str]`): The videos.
        path (`Path`, *optional*): Path of the output, e.g. `plot.png`. None if there is no output.

    Returns:
        The path of each video: `plot.png` if there is one video, and `plot-NAME.png` if there are several. Empty if
        `path` is None. The order of the videos does not matter.
    """
    if path is None:
        return {}
    if len(set(videos)) == 1:
        return {videos[0]: path}
    taken: set[str] = set()
    paths: dict[str, Path] = {}
    for video, name in short_names(sorted(videos, key=natural_sort_key)).items():
        stem = free = _stem(name)
        number = 1
        # Names may differ only in their suffix, or in a way that the file system ignores.
        while _comparison_key(free) in taken:
            number += 1
            free = f"{stem}-{number}"
        taken.add(_comparison_key(free))
        start = _truncate(path.stem, _MAX_NAME - len(f"-{free}{path.suffix}".encode()))
        paths[video] = path.with_name(f"{start}-{free}{path.suffix}")
    return {video: paths[video] for video in videos}


def _stem(name: str) -> str:
    """Returns the part of an output name that identifies a video, in characters that all file systems allow."""
    text = printable(name.removesuffix(Path(name).suffix).strip("/").replace("/", "-"))
    # Paths may differ at the start or at the end. Of long ones, the end is kept.
    text = _truncate(text[::-1], _MAX_STEM)[::-1]
    return str(sanitize_filename(text, replacement_text="-", platform="universal")) or "video"


def _truncate(text: str, max_bytes: int) -> str:
    """Returns the longest beginning of a text that has at most `max_bytes` bytes."""
    return text.encode("utf-8", "surrogateescape")[: max(0, max_bytes)].decode("utf-8", "ignore")


def _comparison_key(name: str) -> str:
    """Returns a key that is equal for names that some file systems treat as the same file."""
    return unicodedata.normalize("NFC", name).casefold()


def answer_text(label: str, candidates: Sequence[str]) -> str:
    """Returns a label, followed by the candidates if the label is "unsure", e.g. `unsure (fear or surprise)`."""
    return f"{label} ({' or '.join(candidates)})" if len(candidates) > 1 else label


def format_time(seconds: float) -> str:
    """Formats a time in a video to a tenth of a second, e.g. `1:02.5`."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{tenths / 10:04.1f}"
