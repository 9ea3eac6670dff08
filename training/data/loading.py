"""Loading labelled clips from any data set that `datasets` can read."""

from collections.abc import Mapping
from typing import Unpack

import datasets
import numpy as np

from tgdfer.training.data.clips import LabelledClips
from tgdfer.training.data.columns import (
    clip_names,
    find_label_column,
    find_video_column,
    name_of,
    names_and_paths,
    read_frame_counts,
    read_ground_truth,
    read_labels,
    read_people,
    require_files,
    require_videos,
    unusable_files,
)
from tgdfer.training.data.groups import read_groups
from tgdfer.training.data.left_out import warn_about_left_out
from tgdfer.training.data.opening import open_dataset
from tgdfer.training.data.quarantine import quarantine, without_unreadable
from tgdfer.training.data.soft_labels import SoftLabels, read_multiple_labels, read_vote_file, read_votes
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError
from tgdfer.training.reading_options import ReadingOptions

__all__ = ["load_clips", "load_readable_clips", "open_dataset", "people_of", "require_readable"]


def load_clips(
    dataset: str, split: str, *, tables: Mapping[str, Table] | None = None, **options: Unpack[ReadingOptions]
) -> LabelledClips:
    """Loads the clips of one split. No video is read.

    Args:
        dataset (`str`): Name of a published data set ("dfew", "ferv39k", "mafw", "afew", "crema_d" or "ravdess"), Hub
            id, such as "user/clips" or "user/clips@revision", or local folder. A folder is a videofolder
            (`SPLIT/LABEL/CLIP.mp4`, with or without a `metadata.jsonl` in every split), or any data set with a column
            of videos and labels by name (strings or `ClassLabel`), also one that `save_to_disk` has written.
        split (`str`): Name of the split.
        tables (`Mapping[str, Table]`, *optional*): The splits, if `open_dataset` has already opened them.
        **options (`Unpack[ReadingOptions]`): How the data set is read, and what its labels are.

    Raises:
        UserError: If the data set or the split cannot be read, has no videos, no labels, an unlabelled clip or only
            one class. If `strict` is not False, also if a clip is missing or empty.
    """
    splits = open_dataset(dataset, **options) if tables is None else tables
    if split not in splits:
        raise UserError(f"{dataset} has no split {split!r}: its splits are {', '.join(map(repr, splits))}.")
    strict = options.get("strict", True)
    table, place = splits[split], f"Split {split!r} of {dataset}"
    if strict and table.unusable:
        require_files(dataset, list(table.unusable), [])
    if not len(table):
        raise UserError(f"{place} is empty: add clips or name another split.")
    video_column = find_video_column(dataset, table, options.get("video_column"))
    rows = _as_videos(table.rows, video_column)
    names, paths, embedded = names_and_paths(rows, video_column)
    files = clip_names(names, table.root, split)
    labels, soft, unusable = _read_labels(dataset, place, table, files, names, options)
    require_videos(place, names, embedded)
    missing, empty = unusable_files(paths)
    if strict:
        require_files(dataset, list(missing.values()), list(empty.values()))
    unusable |= dict.fromkeys(missing, "it does not exist.") | dict.fromkeys(empty, "it is empty.")
    action_units = read_ground_truth(place, table, "action_units", files)
    if tables is None:  # Otherwise the caller reports them.
        warn_about_left_out(place, table.left_out)
    clips = LabelledClips(
        rows=rows.select_columns([video_column]),
        video_column=video_column,
        files=files,
        labels=labels,
        people=read_people(place, table.values("person"), split, files) if "person" in table.names else None,
        intensity=read_ground_truth(place, table, "intensity", files),
        activity=None if action_units is None else [_activity(intensities) for intensities in action_units],
        groups=read_groups(place, table),
        num_frames=read_frame_counts(table),
        left_out=dict(sorted(table.left_out.items())),
        table_rows=list(range(len(files))),
        quarantined=dict(table.unusable),
        soft=soft,
    )
    clips = quarantine(clips, place, unusable, strict)
    if len(clips.classes) < 2:
        raise UserError(f"{place} has only one class, {clips.labels[0]!r}: at least two are needed.")
    return clips


def load_readable_clips(dataset: str, split: str, **options: Unpack[ReadingOptions]) -> LabelledClips:
    """Loads the clips of one split as `load_clips`, and reads the header of every clip.

    Clips that cannot be read are put into quarantine, or are an error with `strict`.
    """
    clips = load_clips(dataset, split, **options)
    return without_unreadable(clips, f"Split {split!r} of {dataset}", options.get("strict", True))


def _as_videos(rows: datasets.Dataset, column: str) -> datasets.Dataset:
    """Returns the rows with a column of undecoded videos. Bytes and photographs are converted."""
    feature = rows.features[column]
    if isinstance(feature, datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows.cast_column(column, datasets.Video(decode=False))


def _read_labels(
    dataset: str, place: str, table: Table, files: list[str], names: list[str | None], options: ReadingOptions
) -> tuple[list[str], SoftLabels | None, dict[int, str]]:
    """Reads the labels of any kind, and the reasons why clips cannot be used, by row."""
    kind, label_column = options.get("label_kind", "single"), options.get("label_column")
    if kind == "votes":
        file, votes = options.get("vote_file"), options.get("vote_columns") or {}
        columns = (
            read_vote_file(file, files, votes.values())
            if file
            else {name: table.values(name) for name in _plain(table)}
        )
        soft, unusable = read_votes(place, columns, votes, files)
        return soft.texts(), soft, unusable
    if options.get("vote_columns") or options.get("vote_file"):
        raise UserError(f"label_kind is {kind!r}, but votes are given: leave them out, or set it to 'votes'.")
    column = find_label_column(dataset, table, label_column, names)
    values = table.values(column)
    if kind == "multiple":
        soft = read_multiple_labels(place, values, column, files)
        return soft.texts(), soft, {}
    return read_labels(place, values, column, files), None, {}


def _plain(table: Table) -> list[str]:
    """Returns the columns without videos."""
    return [name for name in table.names if name not in (*table.videos, *table.media)]


def _activity(action_units: dict[str, list[float]] | None) -> list[float] | None:
    """Returns the summed intensity of the action units in each frame. None if it is unknown."""
    return np.sum(list(action_units.values()), axis=0).tolist() if action_units else None


def people_of(dataset: str, split: str, **options: Unpack[ReadingOptions]) -> set[str]:
    """Returns the people in a split. No other column is read. The set is empty if the people are unknown.

    Raises:
        UserError: If the data set cannot be read.
    """
    splits = open_dataset(dataset, **options)
    if split not in splits or "person" not in splits[split].names:
        return set()
    # Invalid values in the test split must not stop training.
    people = [name_of(person) for person in splits[split].values("person") if isinstance(person, str | int | float)]
    return {person for person in people if person}


def require_readable(clips: LabelledClips) -> None:
    """Reads the header of every file.

    Raises:
        UserError: If clips cannot be read. The message names the first one.
    """
    without_unreadable(clips, "The data set", strict=True)
