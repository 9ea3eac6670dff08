"""Writing clips as Parquet shards, which contain the videos: the form in which the Hub and `datasets` store them."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.packing import pack_frames
from tgdfer.training.data.tables import Table
from tgdfer.training.files import atomic_write

# Bytes of the videos in a shard. A shard is in memory while it is written.
SHARD_SIZE = 300_000_000
# Columns that are written in another form.
OWN_COLUMNS = ("video", "label", "file_name")


class Split(NamedTuple):
    """A split: its clips, and its other columns by name. A column has a value for each clip."""

    clips: LabelledClips
    columns: dict[str, list[Any]]


@dataclass(frozen=True)
class Shard:
    """A shard to write.

    Attributes:
        path (`Path`): The file.
        videos (`list[str | bytes]`): Path or bytes of each video. A folder of frames is packed into a video.
        files (`list[str]`): Name of each video.
        columns (`dict[str, list[Any]]`): The other columns.
        features (`datasets.Features`): Types of all columns.
    """

    path: Path
    videos: list[str | bytes]
    files: list[str]
    columns: dict[str, list[Any]]
    features: datasets.Features


class Shards(Sequence[Shard]):
    """The shards of all splits. Their contents are looked up when they are needed.

    Args:
        splits (`Mapping[str, Split]`): The splits.
        folder (`Path`): Folder of the shards.
        shard_size (`int`, *optional*, defaults to `SHARD_SIZE`): Maximum number of bytes of the videos in a shard.
    """

    def __init__(self, splits: Mapping[str, Split], folder: Path, shard_size: int | None = None) -> None:
        self.splits = splits
        self.places: list[tuple[Path, str, list[int]]] = []
        for name, split in splits.items():
            shards = split_rows(split.clips, shard_size or SHARD_SIZE)
            for number, rows in enumerate(shards):
                path = folder / f"{name}-{number:05d}-of-{len(shards):05d}.parquet"
                self.places.append((path, name, rows))
        self.features = shard_features(splits)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        path, name, rows = self.places[place]
        split = self.splits[name]
        columns = {"label": label_values(split.clips)} | split.columns
        values = {
            column: [columns[column][row] for row in rows] if column in columns else [None] * len(rows)
            for column in self.features
            if column != "video"
        }
        videos = [split.clips.video(row) for row in rows]
        return Shard(path, videos, [split.clips.files[row] for row in rows], values, self.features)

    def __iter__(self) -> Iterator[Shard]:
        return (self[place] for place in range(len(self)))

    def without(self, done: set[Path]) -> "Shards":
        """Returns the shards that are not done yet."""
        rest = Shards({}, Path())
        rest.splits, rest.features = self.splits, self.features
        rest.places = [place for place in self.places if place[0] not in done]
        return rest


def write_shard(shard: Shard) -> Path:
    """Writes a shard atomically, and returns its path."""
    videos = []
    for file, video in zip(shard.files, shard.videos, strict=True):
        if isinstance(video, bytes):
            content = video
        elif os.path.isdir(video):
            content, file = pack_frames(Path(video)), f"{file}.mov"
        else:
            content = Path(video).read_bytes()
        videos.append({"bytes": content, "path": file})
    features = datasets.Features({**shard.features, "video": datasets.Video(decode=False)})
    rows = datasets.Dataset.from_dict({"video": videos, **shard.columns}, features)
    rows = rows.cast_column("video", datasets.Video())
    with atomic_write(shard.path) as temporary, _without_bars():
        rows.to_parquet(temporary, batch_size=min(len(rows), 100))
    return shard.path


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hides the progress bars of `datasets`, which has one for each shard."""
    were_shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            datasets.enable_progress_bars()


def split_of(clips: LabelledClips, table: Table) -> Split:
    """Returns the clips of a split with the other columns of its table.

    The table may have more rows than there are clips, because clips were put into quarantine.
    """
    names = [name for name in table.names if name not in (*OWN_COLUMNS, clips.video_column, *table.videos)]
    columns = {name: [table.values(name)[row] for row in clips.table_rows] for name in names}
    if clips.soft is not None and clips.soft.kind == "votes":
        for index, name in enumerate(clips.soft.names):
            columns[f"votes_{name}"] = clips.soft.values[:, index].tolist()
    return Split(clips, columns)


def shard_features(splits: Mapping[str, Split]) -> datasets.Features:
    """Returns the types of all columns, the same in all splits."""
    if not splits:
        return datasets.Features()
    names = dict.fromkeys(name for split in splits.values() for name in split.columns)
    columns = {
        name: [value for split in splits.values() for value in split.columns.get(name, [None] * len(split.clips))]
        for name in names
    }
    extra = datasets.Dataset.from_dict(columns).features if columns else datasets.Features()
    label: Any = datasets.ClassLabel(names=sorted({one for split in splits.values() for one in split.clips.classes}))
    if any(split.clips.soft is not None and split.clips.soft.kind == "multiple" for split in splits.values()):
        label = datasets.List(datasets.Value("string"))
    return datasets.Features({"video": datasets.Video(), "label": label, **extra})


def label_values(clips: LabelledClips) -> list[Any]:
    """Returns the label of each clip, or the list of its labels."""
    if clips.soft is None or clips.soft.kind == "votes":
        return clips.labels
    return [[name for name, value in zip(clips.soft.names, row, strict=True) if value] for row in clips.soft.values]


def split_rows(clips: LabelledClips, shard_size: int) -> list[list[int]]:
    """Distributes the clips of a split over shards of at most `shard_size` bytes, but at least one clip."""
    shards: list[list[int]] = [[]]
    size = 0
    for index in range(len(clips)):
        length = video_size(clips.video(index))
        if shards[-1] and size + length > shard_size:
            shards.append([])
            size = 0
        shards[-1].append(index)
        size += length
    return shards


def video_size(video: str | bytes) -> int:
    """Returns the number of bytes of a video, or of all frames in a folder."""
    if isinstance(video, bytes):
        return len(video)
    if os.path.isdir(video):
        return sum(entry.stat().st_size for entry in os.scandir(video))
    return os.stat(video).st_size


def label_counts(splits: Mapping[str, Split]) -> dict[str, Counter[str]]:
    """Returns the number of clips of each label in each split. A clip with several labels counts for each of them."""
    counts: dict[str, Counter[str]] = {}
    for name, split in splits.items():
        values = label_values(split.clips)
        counts[name] = Counter(one for value in values for one in (value if isinstance(value, list) else [value]))
    return counts
