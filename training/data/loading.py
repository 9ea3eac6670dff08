"""Loading labelled clips from any data set that `datasets` can read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from tgdfer.processing.video_file_tgdfer import VideoDecodeError, VideoFile
from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.columns import (
    find_label_column,
    find_video_column,
    names_and_paths,
    read_ground_truth,
    read_labels,
    read_people,
    require_files,
    require_videos,
    short_name,
)
from tgdfer.training.data.folders import is_text, read_folder
from tgdfer.training.data.groups import read_groups
from tgdfer.training.data.left_out import warn_about_left_out
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError
from tgdfer.training.files import printable
from tgdfer.training.revisions import HubName


def load_clips(
    dataset: str,
    split: str,
    dataset_config: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
) -> LabelledClips:
    """Loads the clips of one split.

    Args:
        dataset (`str`): Hub id, such as "user/clips" or "user/clips@revision", or local folder. It is a videofolder
            (`SPLIT/LABEL/CLIP.mp4`, with or without a `metadata.jsonl` in every split), or any data set with a `Video`
            column and labels by name (strings or `ClassLabel`).
        split (`str`): Name of the split.
        dataset_config (`str`, *optional*): Configuration of a Hub data set with several configurations.
        video_column (`str`, *optional*): Column of the videos. By default the only column of type `Video`.
        label_column (`str`, *optional*): Column of the labels. By default `label`, or the only `ClassLabel`.

    Raises:
        UserError: If the data set or the split cannot be read, has no videos, no labels, an unlabelled clip or only
            one class, or names a file that is missing or empty.
    """
    splits = open_dataset(dataset, dataset_config)
    if split not in splits:
        raise UserError(f"{dataset} has no split {split!r}: its splits are {', '.join(map(repr, splits))}.")
    table, place = splits[split], f"Split {split!r} of {dataset}"
    if not len(table):
        raise UserError(f"{place} is empty: add clips or name another split.")
    video_column = find_video_column(dataset, table, video_column)
    rows = table.rows.cast_column(video_column, datasets.Video(decode=False))
    names, paths, embedded = names_and_paths(rows, video_column)
    files = [short_name(name, dataset, split, index) for index, name in enumerate(names)]
    label_column = find_label_column(dataset, table, label_column, names)
    labels = read_labels(place, table.values(label_column), label_column, files)
    if len(set(labels)) < 2:
        raise UserError(f"{place} has only one class, {labels[0]!r}: at least two are needed.")
    require_videos(place, names, embedded)
    require_files(dataset, [path for path in paths if path is not None])
    action_units = read_ground_truth(place, table, "action_units", files)
    warn_about_left_out(place, table.left_out)
    return LabelledClips(
        rows=rows.select_columns([video_column]),
        video_column=video_column,
        files=files,
        labels=labels,
        people=read_people(place, table.values("person"), split, files) if "person" in table.names else None,
        intensity=read_ground_truth(place, table, "intensity", files),
        activity=None if action_units is None else [_activity(intensities) for intensities in action_units],
        groups=read_groups(place, table),
        left_out=sorted(table.left_out),
    )


def _activity(action_units: dict[str, list[float]] | None) -> list[float] | None:
    """Returns the summed intensity of the action units in each frame. None if it is unknown."""
    return np.sum(list(action_units.values()), axis=0).tolist() if action_units else None


def open_dataset(dataset: str, dataset_config: str | None = None) -> dict[str, Table]:
    """Opens all splits of a data set. Folders of clips are read from disk, other data sets by `datasets.load_dataset`.

    Raises:
        UserError: If the data set does not exist or cannot be read.
    """
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        # `datasets` cannot find the split folders in a path that ends with "." or "..".
        folder = folder.resolve()
        if not is_text(str(folder)):
            raise UserError(f"{printable(dataset)} is not valid UTF-8: rename the folder.")
        if dataset_config is None and (tables := read_folder(folder)) is not None:
            return tables
        dataset = str(folder)
    try:
        source = HubName.parse(dataset)
        splits = datasets.load_dataset(source.name, dataset_config, **source.options)
        return {split: Table(rows) for split, rows in splits.items()}
    except Exception as error:  # Builders, file systems and networks raise all kinds of errors.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        cause = error.__cause__ or error.__context__
        if isinstance(error, datasets.exceptions.DatasetGenerationError) and cause is not None:
            reason = str(cause).strip().splitlines()[0]
        raise UserError(
            f"Cannot read the data set {dataset!r} ({reason.rstrip('.')}): give the id of a data set on the Hub"
            " that you can reach, or a folder of SPLIT/LABEL/CLIP.mp4 with a metadata.jsonl in every split or in none."
        ) from error


def people_of(dataset: str, split: str, dataset_config: str | None = None) -> set[str]:
    """Returns the people in a split. No other column is read. The set is empty if the people are unknown.

    Raises:
        UserError: If the data set cannot be read.
    """
    splits = open_dataset(dataset, dataset_config)
    if split not in splits or "person" not in splits[split].names:
        return set()
    # Invalid values in the test split must not stop training.
    people = [person for person in splits[split].values("person") if isinstance(person, str | int | float)]
    return {str(int(person) if isinstance(person, float) and person.is_integer() else person) for person in people}


def require_readable(clips: LabelledClips, video_processor: Any) -> None:
    """Reads the header of every file, so that a broken file is found before training starts and not hours later.

    Raises:
        UserError: If clips cannot be read. The message names the first one.
    """

    def read_error(index: int) -> str | None:
        video = clips.video(index)
        try:
            opened = video_processor.open_video(video)
            if not isinstance(opened, VideoFile) or not opened.has_video():
                video_processor.read_clip(video, num_frames=1)  # Its error says what the file contains.
        except VideoDecodeError as error:
            return str(error).replace("The video of", f"{clips.files[index]}, the video of", 1)
        return None

    with ThreadPoolExecutor(max_workers=8) as pool:
        errors = [message for message in pool.map(read_error, range(len(clips))) if message]
    if errors:
        raise UserError(f"{len(errors)} of {len(clips)} clips cannot be read: {errors[0]}")
