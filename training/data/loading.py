"""Loading of labelled clips from any data set that `datasets` reads."""

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
    read_labels,
    require_files,
    short_name,
)
from tgdfer.training.data.left_out import name_left_out, split_folder
from tgdfer.training.errors import UserError


def load_clips(
    dataset: str,
    split: str,
    dataset_config: str | None = None,
    video_column: str | None = None,
    label_column: str | None = None,
) -> LabelledClips:
    """Loads the clips of one split by `datasets.load_dataset`.

    Args:
        dataset: Hub id or local folder: a videofolder (`SPLIT/LABEL/CLIP.mp4`, with or without a `metadata.jsonl` in
            every split), or any data set with a `Video` column and labels by name (strings or `ClassLabel`).
        split: name of the split.
        dataset_config: configuration of a Hub data set that has several.
        video_column: by default the only column of type `Video`.
        label_column: by default `label`, or the only `ClassLabel`.

    Raises:
        UserError: if the data set or the split cannot be read, has no videos, no labels, an unlabelled clip, only one
            class, or names a file that is missing or empty.
    """
    rows = open_dataset(dataset, dataset_config)
    if split not in rows:
        raise UserError(f"{dataset} has no split {split!r}: there are {', '.join(map(repr, rows))}.")
    table = rows[split]
    if not len(table):
        raise UserError(f"Split {split!r} of {dataset} is empty: give it clips or name another split.")
    video_column = find_video_column(dataset, table.features, video_column)
    table = table.cast_column(video_column, datasets.Video(decode=False))
    folder = split_folder(Path(dataset), split)
    names, paths = names_and_paths(table, video_column)
    labels = read_labels(dataset, table, find_label_column(dataset, table, label_column, names))
    if len(set(labels)) < 2:
        raise UserError(f"Split {split!r} of {dataset} has one class only, {labels[0]!r}: at least two are needed.")
    require_files(dataset, [path for path in paths if path is not None])
    optional = ("person", "intensity", "action_units")
    columns = {name: list(table[name]) for name in optional if name in table.column_names}
    people = columns.get("person")
    return LabelledClips(
        rows=table.select_columns([video_column]),
        video_column=video_column,
        files=[short_name(name, dataset, split, index) for index, name in enumerate(names)],
        labels=labels,
        # A clip whose person is unknown counts as somebody of its own.
        people=None
        if people is None
        else [f"clip {i} of {split}" if who is None else str(who) for i, who in enumerate(people)],
        intensity=columns.get("intensity"),
        activity=[_activity(units) for units in columns["action_units"]] if "action_units" in columns else None,
        left_out=name_left_out(folder, paths),
    )


def _activity(action_units: dict[str, list[float]] | None) -> list[float] | None:
    """Summed intensity of the action units frame by frame, from the intensities of each; None if nothing is known."""
    known = [values for values in (action_units or {}).values() if values]
    return np.sum(known, axis=0).tolist() if known else None


def open_dataset(dataset: str, dataset_config: str | None = None) -> datasets.DatasetDict:
    """All splits of a data set, by `datasets.load_dataset`.

    Raises:
        UserError: if there is no such data set, or it cannot be read.
    """
    if Path(dataset).is_dir():
        # A trailing "." or ".." hides the names of the split folders from `datasets`.
        dataset = str(Path(dataset).resolve())
    try:
        return datasets.load_dataset(dataset, dataset_config)
    except Exception as error:  # whatever a builder, the file system or the network raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        cause = error.__cause__ or error.__context__
        if isinstance(error, datasets.exceptions.DatasetGenerationError) and cause is not None:
            reason = str(cause).strip().splitlines()[0]
        raise UserError(
            f"Cannot read the data set {dataset!r} ({reason.rstrip('.')}): give the id of a data set on the Hub"
            " that you can reach, or a folder of SPLIT/LABEL/CLIP.mp4 with a metadata.jsonl in every split or in none."
        ) from error


def people_of(dataset: str, split: str, dataset_config: str | None = None) -> set[str]:
    """Who is seen in a split, of which nothing else is looked at; nobody where the data set does not say.

    Raises:
        UserError: if the data set cannot be read.
    """
    rows = open_dataset(dataset, dataset_config)
    if split not in rows or "person" not in rows[split].column_names:
        return set()
    return {str(who) for who in rows[split].unique("person") if who is not None}


def require_readable(clips: LabelledClips, video_processor: Any) -> None:
    """Looks at the head of every file, so that a broken one is found before training and not hours into it.

    Raises:
        UserError: if a clip cannot be read, with the name of the first.
    """

    def broken(index: int) -> str | None:
        video = clips.video(index)
        try:
            opened = video_processor.open_video(video)
            if not isinstance(opened, VideoFile) or not opened.has_video():
                video_processor.read_clip(video, num_frames=1)  # It says what is there instead.
        except VideoDecodeError as error:
            return str(error).replace("The video of", f"{clips.files[index]}, the video of", 1)
        return None

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = [sentence for sentence in pool.map(broken, range(len(clips))) if sentence]
    if found:
        raise UserError(f"{len(found)} of {len(clips)} clips cannot be read: {found[0]}")
