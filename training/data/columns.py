"""The columns of a data set: finding videos and labels, and checking the values."""

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import datasets
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.data.soft_labels import warn_about_merged
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)


def _none_if_empty(values: Any) -> Any:
    """Replaces empty lists by None. Removes empty fields of structs, because Arrow adds None for missing fields."""
    if isinstance(values, dict):
        return {name: value for name, value in values.items() if value is not None and value != []} or None
    return None if isinstance(values, list) and not values else values


_Intensity = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_STRICT = ConfigDict(strict=True)
# Names, in lower case, of columns with the number of frames of a clip.
FRAME_COUNTS = ("frames", "num_frames", "frame_count", "n_frames")
_WITHOUT_VIDEOS = (
    "columns of type Video, Image or bytes are read, and a table of paths must be the metadata.csv, with a column"
    " file_name, of a folder that has the clips"
)
# Start of the address of a file in a data set on the Hub.
_REPOSITORY = re.compile(r"^hf://datasets/[^/]+/[^/@]+(@[^/]+)?/")
# The schema of all columns with fixed names, and how messages describe valid values.
_LABEL: TypeAdapter[Any] = TypeAdapter(
    Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], config=_STRICT
)
_PERSON: TypeAdapter[Any] = TypeAdapter(str | int | None, config=_STRICT)
# Columns that are only used for evaluation. An invalid one is ignored with a warning.
_GROUND_TRUTH: dict[str, tuple[TypeAdapter[Any], str]] = {
    "intensity": (
        TypeAdapter(Annotated[list[_Intensity] | None, BeforeValidator(_none_if_empty)], config=_STRICT),
        "a list with a number from 0 to 1 for each frame",
    ),
    "action_units": (
        TypeAdapter(Annotated[dict[str, list[_Strength]] | None, BeforeValidator(_none_if_empty)], config=_STRICT),
        "for each action unit a list with a number for each frame",
    ),
}


def find_video_column(dataset: str, table: Table, name: str | None) -> str:
    """Returns the column of the videos: the given one, or the only one of type `Video`, or else of type `Image`.

    Photographs (`Image`) are clips of one frame. A given column may also contain the bytes of videos.

    Args:
        dataset (`str`): Name of the data set in messages.
        table (`Table`): The split.
        name (`str`, *optional*): Column given by the user, if any.

    Raises:
        UserError: If the column does not exist, or no name is given and there is not exactly one such column.
    """
    videos = table.videos or (table.photographs if len(table.photographs) == 1 else [])
    usable = sorted({*videos, *table.media})
    if name is not None and name not in usable:
        if usable:
            raise UserError(f"{dataset} has no videos in a column {name!r}: they are in {', '.join(usable)}.")
        raise UserError(f"{dataset} has no videos in column {name!r}: {_WITHOUT_VIDEOS}.")
    if name is None and len(videos) > 1:
        raise UserError(f"{dataset} has several video columns, {', '.join(videos)}: name one with --video-column.")
    if name is None and not videos and usable:
        raise UserError(
            f"{dataset} has no column of type Video, but {', '.join(usable)} may have videos: name one with"
            " --video-column."
        )
    if name is None and not videos:
        raise UserError(f"{dataset} has no videos among its columns {', '.join(table.names)}: {_WITHOUT_VIDEOS}.")
    return name or videos[0]


def find_label_column(dataset: str, table: Table, name: str | None, files: list[str | None]) -> str:
    """Returns the column of the labels: the given one, `label`, or the only `ClassLabel`.

    Args:
        dataset (`str`): Name of the data set in messages.
        table (`Table`): The split.
        name (`str`, *optional*): Column given by the user, if any.
        files (`list[str | None]`): Path of each clip, if known.

    Raises:
        UserError: If there is no such column.
    """
    names = table.names
    if name is not None:
        if name not in names:
            raise UserError(f"{dataset} has no column {name!r}: its columns are {', '.join(names)}.")
        return name
    if "label" in names:
        return "label"
    if len(table.class_labels) == 1:
        return table.class_labels[0]
    folders = {Path(file).parent.name for file in files if file}
    if names == ["video"] and len(folders) == 1:
        # `datasets` adds no labels to a videofolder with a single label folder.
        raise UserError(f"{dataset} has only one class, {folders.pop()!r}: at least two label folders are needed.")
    if names == ["video"]:
        raise UserError(f"{dataset} has no labels: its clips must be one folder deep, as SPLIT/LABEL/CLIP.mp4.")
    raise UserError(f"{dataset} has no column 'label' among {', '.join(names)}: name one with --label-column.")


def read_labels(place: str, values: Sequence[Any], column: str, files: Sequence[str]) -> list[str]:
    """Returns the canonical label of each row.

    Args:
        place (`str`): Name of the split in messages.
        values (`Sequence[Any]`): Values of the label column.
        column (`str`): Name of the label column.
        files (`Sequence[str]`): Name of the clip of each row in messages.

    Raises:
        UserError: If a row has no label, or labels are not names.
    """
    unlabelled = [
        row for row, value in enumerate(values) if value is None or (isinstance(value, str) and not value.strip())
    ]
    if unlabelled:
        first = unlabelled[0]
        raise UserError(
            f"{place} has {len(unlabelled)} clips without a label, the first in row {first} ({files[first]}): remove"
            " them."
        )
    if wrong := _first_wrong(_LABEL, values):
        row, value = wrong
        raise UserError(
            f"Column {column!r} of {place} contains {type(value).__name__}s: labels are read by name, so make it"
            f" strings or a ClassLabel (the first one is in row {row}, {files[row]})."
        )
    warn_about_merged(place, set(values))
    return [canonical_label(value) for value in values]


def read_people(place: str, values: Sequence[Any], split: str, files: Sequence[str]) -> list[str]:
    """Returns the person in each clip. A clip of an unknown person counts as a person of its own.

    Args:
        place (`str`): Name of the split in messages.
        values (`Sequence[Any]`): Values of the column `person`.
        split (`str`): Name of the split.
        files (`Sequence[str]`): Name of the clip of each row in messages.

    Raises:
        UserError: If a value is neither a name nor a number.
    """
    if wrong := _first_wrong(_PERSON, [None if is_nan(person) else person for person in values]):
        row, value = wrong
        raise UserError(
            f"{place} has {_short_repr(value)} in column 'person' of row {row} ({files[row]}), but it must be a name"
            " or a number: correct or remove the column."
        )
    return [name_of(person) or f"clip {row} of {split}" for row, person in enumerate(values)]


def name_of(value: Any) -> str:
    """Converts a value of a column such as `person` or `gender` to a name. The name is empty if the value is missing.

    Tables that contain numbers and missing values store the numbers as floats, and missing ones as NaN.
    """
    if value is None or is_nan(value):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def is_nan(value: Any) -> bool:
    """Whether a value is the number NaN."""
    return isinstance(value, float) and math.isnan(value)


def read_ground_truth(place: str, table: Table, column: str, files: Sequence[str]) -> list[Any] | None:
    """Reads a column that only evaluation needs. An invalid column causes a warning.

    Args:
        place (`str`): Name of the split in messages.
        table (`Table`): The split.
        column (`str`): Name of the column.
        files (`Sequence[str]`): Name of the clip of each row in messages.

    Returns:
        The value of each row, or None if the column does not exist or is not valid.
    """
    if column not in table.names:
        return None
    adapter, expected = _GROUND_TRUTH[column]
    values = table.values(column)
    wrong = _first_wrong(adapter, values)
    is_uneven = wrong is None and column == "action_units" and (wrong := _first_uneven(values)) is not None
    if wrong is not None:
        row, value = wrong
        logger.warning(
            "%s has %s in column %r of row %d (%s), but it must be %s. The column is ignored: training does not need"
            " it, and evaluation computes no metrics of frames.",
            place,
            "lists of unequal length" if is_uneven else _short_repr(value),
            column,
            row,
            files[row],
            expected,
        )
        return None
    return [adapter.validate_python(value) for value in values]


def read_frame_counts(table: Table) -> list[int | None] | None:
    """Returns the number of frames that a split states for each clip, or the length of `intensity`. None if neither.

    Values that are no number of frames count as unknown.
    """
    column = next((name for name in table.names if name.lower() in FRAME_COUNTS), None)
    if column is None:
        if "intensity" not in table.names:
            return None
        return [len(value) if isinstance(value, list) and value else None for value in table.values("intensity")]
    counts = []
    for value in table.values(column):
        text = "" if value is None else str(value).strip().removesuffix(".0")
        counts.append(int(text) if text.isdecimal() else None)
    return counts


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _first_wrong(adapter: TypeAdapter[Any], values: Sequence[Any]) -> tuple[int, Any] | None:
    """Returns the first row whose value is not valid, and the value."""
    for row, value in enumerate(values):
        try:
            adapter.validate_python(value)
        except ValidationError:
            return row, value
    return None


def _first_uneven(values: Sequence[Any]) -> tuple[int, Any] | None:
    """Returns the first row whose lists have different lengths, and its value."""
    for row, value in enumerate(values):
        if len({len(intensities) for intensities in (value or {}).values() if intensities}) > 1:
            return row, value
    return None


def _short_repr(value: Any) -> str:
    """Returns the representation of a value in at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def require_videos(place: str, names: Sequence[str | None], embedded: Sequence[bool]) -> None:
    """Checks that every row has a video.

    Args:
        place (`str`): Name of the split in messages.
        names (`Sequence[str | None]`): Name of each video, if known.
        embedded (`Sequence[bool]`): Whether the bytes of each video are embedded in the data set.

    Raises:
        UserError: If a row has no video.
    """
    without = [
        row for row, (name, has_bytes) in enumerate(zip(names, embedded, strict=True)) if not name and not has_bytes
    ]
    if without:
        raise UserError(
            f"{place} has {len(without)} rows without a video, the first is row {without[0]}: remove them."
        )


def names_and_paths(table: datasets.Dataset, column: str) -> tuple[list[str | None], list[str | None], list[bool]]:
    """Returns name and path of each video, and whether its bytes are embedded. Embedded videos have no path.

    No video is read.
    """
    names: list[str | None] = []
    paths: list[str | None] = []
    embedded: list[bool] = []
    for chunk in table.data.column(column).chunks:
        chunk_names = chunk.field("path").to_pylist()
        has_bytes = chunk.field("bytes").is_valid().to_pylist()
        names += chunk_names
        paths += [None if is_embedded else path for path, is_embedded in zip(chunk_names, has_bytes, strict=True)]
        embedded += has_bytes
    return names, paths, embedded


def unusable_files(paths: Sequence[str | None]) -> tuple[dict[int, str], dict[int, str]]:
    """Returns the rows whose file does not exist, and those whose file is empty, with the path of each.

    A folder of frames is a file here. Addresses, and videos without a path, count as present.
    """
    local = {row: path for row, path in enumerate(paths) if path is not None and "://" not in path}
    missing = {row: path for row, path in local.items() if not os.path.exists(path)}
    empty = {row: path for row, path in local.items() if row not in missing and _is_empty(path)}
    return missing, empty


def require_files(dataset: str, missing: Sequence[str], empty: Sequence[str]) -> None:
    """Checks that no file is missing or empty.

    Raises:
        UserError: If one is.
    """
    if missing:
        raise UserError(
            f"{dataset} lists {len(missing)} clips that do not exist, the first is {missing[0]}: add them, or remove"
            " their rows from the metadata."
        )
    if empty:
        raise UserError(f"{dataset} has {len(empty)} empty files, the first is {empty[0]}: replace or remove them.")


def _is_empty(path: str) -> bool:
    return not any(os.scandir(path)) if os.path.isdir(path) else not os.path.getsize(path)


def clip_names(names: Sequence[str | None], root: Path | None, split: str) -> list[str]:
    """Returns a different name for each clip of a split.

    It is the path of a video below the folder or the repository of its data set, the relative path that a data set has
    stored, or the last part of another path or address. Videos without a path, and those whose names would repeat, are
    named by their split and row, as `train/7` and `train/7/0001.mp4`.

    Args:
        names (`Sequence[str | None]`): Path of each video, if known.
        root (`Path`, *optional*): Folder of the data set, if it is a local one.
        split (`str`): Name of the split.
    """
    short = [name and _short_name(name, root) for name in names]
    repeated = {name for name, count in Counter(short).items() if count > 1}
    own = [
        name and (f"{split}/{row}/{Path(name).name}" if name in repeated else name) for row, name in enumerate(short)
    ]
    return [name or f"{split}/{row}" for row, name in enumerate(own)]


def _short_name(name: str, root: Path | None) -> str:
    name = _REPOSITORY.sub("", name)
    path = Path(name)
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name if path.is_absolute() or "://" in name else path.as_posix()
