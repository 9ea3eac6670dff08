"""The files of a data set on the Hub: a folder of clips as Parquet shards, which contain the videos, and a card."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import yaml

from tgdfer.model_card.hub.card_edits import Card
from tgdfer.model_card.hub.record import Files
from tgdfer.model_card.markdown import code_block, escape, table
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.loading import load_clips, open_dataset
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError

# Bytes of the videos in a shard. A shard is in memory while it is written.
SHARD_SIZE = 300_000_000
TAGS = ("tgdfer", "facial-expression-recognition", "video")
# Numbers of rows that the Hub distinguishes.
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
# Columns that are written in another form.
OWN_COLUMNS = ("video", "label", "file_name")


class Split(NamedTuple):
    """A split: its clips, and its other columns."""

    clips: LabelledClips
    table: Table


def dataset_files_to_publish(folder: str | Path, repo_id: str, temporary: str | Path) -> Files:
    """Writes the clips of a data set as Parquet shards, and lists the files of a commit.

    Args:
        folder (`str` or `Path`): Folder of a data set, as for training: `SPLIT/LABEL/CLIP.mp4`, or any other folder
            that `datasets` reads. Its `README.md` becomes the text of the card.
        repo_id (`str`): Repository as "user/name".
        temporary (`str` or `Path`): Folder for the shards.

    Returns:
        `dict[str, Path | bytes]`: Path or contents of each file.

    Raises:
        UserError: If the folder is not a data set of labelled clips.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of a data set, such as SPLIT/LABEL/CLIP.mp4.")
    splits = {
        name: Split(load_clips(str(folder), name), rows)
        for name, rows in open_dataset(str(folder)).items()
        if len(rows)
    }
    if not splits:
        raise UserError(f"{folder} has no clips; give a folder of SPLIT/LABEL/CLIP.mp4.")
    labels = sorted({label for split in splits.values() for label in split.clips.labels})
    extra = extra_columns(splits)
    files: Files = {}
    for name, split in splits.items():
        shards = split_rows(split.clips)
        for number, rows in enumerate(shards):
            path = Path(temporary) / f"{name}-{number:05d}-of-{len(shards):05d}.parquet"
            shard(split, rows, labels, extra).to_parquet(path, batch_size=min(len(rows), 100))
            files[f"data/{path.name}"] = path
    for path in (folder / "LICENSE", folder / "LICENSE.txt", folder / "LICENSE.md"):
        if path.is_file():
            files[path.name] = path
    own = folder / "README.md"
    text = own.read_text(encoding="utf-8", errors="replace") if own.is_file() else None
    files["README.md"] = dataset_card(repo_id, splits, labels, text).encode()
    return dict(sorted(files.items()))


def extra_columns(splits: dict[str, Split]) -> datasets.Features:
    """Returns the types of the columns besides video and label, the same in all splits."""
    names = {name: None for split in splits.values() for name in split.table.names}
    videos = {split.clips.video_column for split in splits.values()}
    names = {name: None for name in names if name not in OWN_COLUMNS and name not in videos}
    columns = {name: [value for split in splits.values() for value in column(split, name)] for name in names}
    return datasets.Dataset.from_dict(columns).features if columns else datasets.Features()


def column(split: Split, name: str) -> list[Any]:
    """Returns the values of a column, or None for each clip if the split has no such column."""
    return split.table.values(name) if name in split.table.names else [None] * len(split.clips)


def split_rows(clips: LabelledClips) -> list[list[int]]:
    """Distributes the clips of a split over shards of at most `SHARD_SIZE` bytes, but at least one clip."""
    shards: list[list[int]] = [[]]
    size = 0
    for index in range(len(clips)):
        video = clips.video(index)
        length = len(video) if isinstance(video, bytes) else Path(video).stat().st_size
        if shards[-1] and size + length > SHARD_SIZE:
            shards.append([])
            size = 0
        shards[-1].append(index)
        size += length
    return shards


def shard(split: Split, rows: list[int], labels: list[str], extra: datasets.Features) -> datasets.Dataset:
    """Reads the videos of a shard. Of their paths only the part below the folder of the data set is kept."""
    videos = []
    for index in rows:
        video = split.clips.video(index)
        content = video if isinstance(video, bytes) else Path(video).read_bytes()
        videos.append({"bytes": content, "path": split.clips.files[index]})
    columns: dict[str, list[Any]] = {"video": videos, "label": [split.clips.labels[index] for index in rows]}
    for name in extra:
        values = column(split, name)
        columns[name] = [values[index] for index in rows]
    features = {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=labels), **extra}
    written = datasets.Dataset.from_dict(columns, datasets.Features(features))
    return written.cast_column("video", datasets.Video())


def dataset_card(repo_id: str, splits: dict[str, Split], labels: list[str], text: str | None) -> str:
    """Writes the card of a data set.

    Args:
        repo_id (`str`): Repository as "user/name".
        splits (`dict[str, Split]`): The splits.
        labels (`list[str]`): All labels.
        text (`str`, *optional*): Card that the user has written. Its text and its metadata are kept.
    """
    own = Card.parse(text or "")
    total = sum(len(split.clips) for split in splits.values())
    metadata: dict[str, Any] = {
        "pretty_name": repo_id.split("/")[1],
        "task_categories": ["video-classification"],
        "size_categories": [next((name for limit, name in SIZES if total < limit), "n>1M")],
    }
    metadata |= own.metadata
    metadata["tags"] = list(dict.fromkeys([*TAGS, *(own.metadata.get("tags") or [])]))
    data_files = [{"split": name, "path": f"data/{name}-*"} for name in splits]
    metadata["configs"] = [{"config_name": "default", "data_files": data_files}]
    header = f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)}---\n\n"
    if text and "".join(own.sections.values()).strip():
        return header + "".join(own.sections.values()).lstrip("\n")
    counts = {name: Counter(split.clips.labels) for name, split in splits.items()}
    rows = [[label, *(str(counts[name][label]) for name in splits)] for label in labels]
    rows.append(["all", *(str(len(split.clips)) for split in splits.values())])
    people = {name: len(set(split.clips.people)) for name, split in splits.items() if split.clips.people}
    use = f'from datasets import load_dataset\n\nclips = load_dataset("{repo_id}")\nprint(clips)'
    train = f"tgdfer train --dataset {repo_id} --output runs/mine"
    parts = [
        f"# {escape(metadata['pretty_name'])}",
        f"{total:,} clips of faces, each with one of {len(labels)} labels.",
        "## Clips",
        table(["label", *splits], rows, list(range(1, len(splits) + 1))),
        *([f"People: {', '.join(f'{number} in {name}' for name, number in people.items())}."] if people else []),
        "## How to use",
        code_block("python", use),
        code_block("bash", train),
        "## Licence and consent",
        "The owner of this repository has to state here the licence of the clips, and that the people in them have"
        " agreed to their publication.",
    ]
    return header + "\n\n".join(parts) + "\n"
