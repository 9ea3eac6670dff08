"""The columns of a data set: which hold the videos and the labels, and whether they can be used."""

import os
from pathlib import Path

import datasets

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.errors import UserError


def find_video_column(dataset: str, features: datasets.Features, named: str | None) -> str:
    """The column that holds the videos: the one named, or else the only one of type `Video`.

    Raises:
        UserError: there is none, or several and none is named.
    """
    videos = [name for name, feature in features.items() if isinstance(feature, datasets.Video)]
    if named is not None and named not in videos:
        raise UserError(f"{dataset} has no video column {named!r}: of type Video are {videos or 'none'}.")
    if named is None and len(videos) != 1:
        what = "several video columns" if videos else "no column of type Video"
        raise UserError(f"{dataset} has {what} among {', '.join(features)}: name one with --video-column.")
    return named or videos[0]


def find_label_column(dataset: str, table: datasets.Dataset, named: str | None, files: list[str | None]) -> str:
    """The column that holds the labels: the one named, else `label`, else the only `ClassLabel`.

    Raises:
        UserError: there is none.
    """
    names = table.column_names
    if named is not None:
        if named not in names:
            raise UserError(f"{dataset} has no column {named!r}: it has {', '.join(names)}.")
        return named
    class_labels = [name for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    if "label" in names:
        return "label"
    if len(class_labels) == 1:
        return class_labels[0]
    folders = {Path(file).parent.name for file in files if file}
    if names == ["video"] and len(folders) == 1:
        raise UserError(f"{dataset} has one class only, {folders.pop()!r}: at least two label folders are needed.")
    if names == ["video"]:
        raise UserError(f"{dataset} has no labels: its clips must lie one folder deep, as SPLIT/LABEL/CLIP.mp4.")
    raise UserError(f"{dataset} has no column 'label' among {', '.join(names)}: name one with --label-column.")


def read_labels(dataset: str, table: datasets.Dataset, column: str) -> list[str]:
    """The canonical label of each row.

    Raises:
        UserError: a row has no label, or labels are not given by name.
    """
    feature = table.features[column]
    values = list(table[column])
    unlabelled = [index for index, value in enumerate(values) if value in (None, -1, "")]
    if unlabelled:
        raise UserError(
            f"{dataset} has {len(unlabelled)} clips without a label, row {unlabelled[0]} the first: remove them."
        )
    if isinstance(feature, datasets.ClassLabel):
        return [canonical_label(feature.int2str(value)) for value in values]
    if not isinstance(values[0], str):
        raise UserError(
            f"Column {column!r} of {dataset} holds {type(values[0]).__name__}s: labels are read by name, so make it"
            " strings or a ClassLabel."
        )
    return [canonical_label(value) for value in values]


def names_and_paths(table: datasets.Dataset, column: str) -> tuple[list[str | None], list[str | None]]:
    """The name and the path of each video; the path is None if the bytes are embedded. No video is read."""
    names, paths = [], []
    for chunk in table.data.column(column).chunks:
        called = chunk.field("path").to_pylist()
        embedded = chunk.field("bytes").is_valid().to_pylist()
        names += called
        paths += [None if held else path for path, held in zip(called, embedded, strict=True)]
    return names, paths


def require_files(dataset: str, paths: list[str]) -> None:
    """Checks that all files exist and are not empty.

    Raises:
        UserError: if not.
    """
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"{dataset} lists {len(missing)} clips that are not there, {missing[0]} the first: add them, or remove"
            " their rows from the metadata."
        )
    empty = [path for path in paths if not os.path.getsize(path)]
    if empty:
        raise UserError(f"{dataset} has {len(empty)} empty files, {empty[0]} the first: replace or remove them.")


def short_name(name: str | None, dataset: str, split: str, index: int) -> str:
    """The path of a video below the folder of its data set, else its file name, else its split and row."""
    if not name:
        return f"{split}/{index}"
    if Path(dataset).is_dir() and Path(name).is_relative_to(Path(dataset).resolve()):
        return Path(name).relative_to(Path(dataset).resolve()).as_posix()
    return Path(name).name
