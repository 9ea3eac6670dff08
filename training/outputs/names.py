"""How videos are called in tables and in the names of files."""

from collections.abc import Sequence
from pathlib import Path

from tgdfer.training.video_paths import STANDARD_INPUT


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
    taken: dict[str, int] = {}
    paths: dict[str, Path] = {}
    for video, name in short_names(videos).items():
        stem = name.removesuffix(Path(name).suffix).strip("/").replace("/", "-")
        taken[stem] = taken.get(stem, 0) + 1
        number = f"-{taken[stem]}" if taken[stem] > 1 else ""  # the same name with another ending
        paths[video] = path.with_name(f"{path.stem}-{stem}{number}{path.suffix}")
    return paths


def answer(label: str, candidates: Sequence[str]) -> str:
    """The label, with what it may be where that is not known, e.g. `unsure (fear or surprise)`."""
    return f"{label} ({' or '.join(candidates)})" if len(candidates) > 1 else label


def clock(seconds: float) -> str:
    """A moment of a video to a tenth of a second, e.g. `1:02.5`."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{tenths / 10:04.1f}"
