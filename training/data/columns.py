"""The columns of a data set: which hold the videos and the labels, and whether their values can be used."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import datasets
import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from tgdfer.processing.descriptions import canonical_label
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError

logger = logging.getLogger(__name__)


def _not_empty(values: Any) -> Any:
    """Lists without a value say as little as no list. Structs of Arrow have None for the fields that a row lacks."""
    if isinstance(values, dict):
        return {name: one for name, one in values.items() if one is not None and one != []} or None
    return None if isinstance(values, list) and not values else values


_Intensity = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_STRICT = ConfigDict(strict=True)
# What a value of each column may be, and how that is said. The schema of all columns that are known by their names.
_LABEL: TypeAdapter[Any] = TypeAdapter(
    Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], config=_STRICT
)
_PERSON: TypeAdapter[Any] = TypeAdapter(str | int | None, config=_STRICT)
# Of evaluation alone: a column that does not fit is left out.
_TRUTHS: dict[str, tuple[TypeAdapter[Any], str]] = {
    "intensity": (
        TypeAdapter(Annotated[list[_Intensity] | None, BeforeValidator(_not_empty)], config=_STRICT),
        "a list of a number from 0 to 1 for each frame",
    ),
    "action_units": (
        TypeAdapter(Annotated[dict[str, list[_Strength]] | None, BeforeValidator(_not_empty)], config=_STRICT),
        "for each action unit a list of a number for each frame",
    ),
}


def find_video_column(dataset: str, table: Table, named: str | None) -> str:
    """The column that holds the videos: the one named, or else the only one of type `Video`.

    Raises:
        UserError: there is none, or several and none is named.
    """
    videos = table.videos
    if named is not None and named not in videos:
        raise UserError(f"{dataset} has no video column {named!r}: of type Video are {videos or 'none'}.")
    if named is None and len(videos) != 1:
        what = "several video columns" if videos else "no column of type Video"
        raise UserError(f"{dataset} has {what} among {', '.join(table.names)}: name one with --video-column.")
    return named or videos[0]


def find_label_column(dataset: str, table: Table, named: str | None, files: list[str | None]) -> str:
    """The column that holds the labels: the one named, else `label`, else the only `ClassLabel`.

    Raises:
        UserError: there is none.
    """
    names = table.names
    if named is not None:
        if named not in names:
            raise UserError(f"{dataset} has no column {named!r}: it has {', '.join(names)}.")
        return named
    if "label" in names:
        return "label"
    if len(table.class_labels) == 1:
        return table.class_labels[0]
    folders = {Path(file).parent.name for file in files if file}
    if names == ["video"] and len(folders) == 1:
        raise UserError(f"{dataset} has one class only, {folders.pop()!r}: at least two label folders are needed.")
    if names == ["video"]:
        raise UserError(f"{dataset} has no labels: its clips must lie one folder deep, as SPLIT/LABEL/CLIP.mp4.")
    raise UserError(f"{dataset} has no column 'label' among {', '.join(names)}: name one with --label-column.")


def read_labels(place: str, values: Sequence[Any], column: str, files: Sequence[str]) -> list[str]:
    """The canonical label of each row.

    Args:
        place: what messages call the split.
        values: of the column.
        column: its name.
        files: what messages call the clip of each row.

    Raises:
        UserError: a row has no label, or labels are not given by name.
    """
    unlabelled = [
        row for row, value in enumerate(values) if value is None or (isinstance(value, str) and not value.strip())
    ]
    if unlabelled:
        first = unlabelled[0]
        raise UserError(
            f"{place} has {len(unlabelled)} clips without a label, row {first} ({files[first]}) the first: remove"
            " them."
        )
    if wrong := _first_wrong(_LABEL, values):
        row, value = wrong
        raise UserError(
            f"Column {column!r} of {place} holds {type(value).__name__}s: labels are read by name, so make it strings"
            f" or a ClassLabel (row {row}, {files[row]}, is the first)."
        )
    return [canonical_label(value) for value in values]


def read_people(place: str, values: Sequence[Any], split: str, files: Sequence[str]) -> list[str]:
    """Who is seen in each clip. A clip whose person is unknown counts as somebody of its own.

    Raises:
        UserError: a value is neither a name nor a number.
    """
    # Tables that have numbers and unknown values have the numbers as fractions.
    values = [int(who) if isinstance(who, float) and who.is_integer() else who for who in values]
    values = [None if isinstance(who, float) and np.isnan(who) else who for who in values]
    if wrong := _first_wrong(_PERSON, values):
        row, value = wrong
        raise UserError(
            f"{place} has {_shown(value)} in column 'person' of row {row} ({files[row]}), but it must be a name or a"
            " number: correct or remove the column."
        )
    return [f"clip {row} of {split}" if _is_blank(who) else str(who).strip() for row, who in enumerate(values)]


def read_truth(place: str, table: Table, column: str, files: Sequence[str]) -> list[Any] | None:
    """A column that only evaluation needs; None where there is none, or where it cannot be used, with a warning."""
    if column not in table.names:
        return None
    adapter, wanted = _TRUTHS[column]
    values = table.values(column)
    wrong = _first_wrong(adapter, values)
    is_uneven = wrong is None and column == "action_units" and (wrong := _first_uneven(values)) is not None
    if wrong is not None:
        row, value = wrong
        logger.warning(
            "%s has %s in column %r of row %d (%s), but it must be %s, so the column is not used; training does not"
            " need it, and evaluation then measures no frames.",
            place,
            "lists of unequal length" if is_uneven else _shown(value),
            column,
            row,
            files[row],
            wanted,
        )
        return None
    return [adapter.validate_python(value) for value in values]


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _first_wrong(adapter: TypeAdapter[Any], values: Sequence[Any]) -> tuple[int, Any] | None:
    """The first row whose value does not fit, and the value."""
    for row, value in enumerate(values):
        try:
            adapter.validate_python(value)
        except ValidationError:
            return row, value
    return None


def _first_uneven(values: Sequence[Any]) -> tuple[int, Any] | None:
    """The first row whose lists are not equally long, and its value."""
    for row, value in enumerate(values):
        if len({len(one) for one in (value or {}).values() if one}) > 1:
            return row, value
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def require_videos(place: str, names: Sequence[str | None], held: Sequence[bool]) -> None:
    """Checks that every row has a video.

    Raises:
        UserError: if not.
    """
    without = [
        row for row, (name, has_bytes) in enumerate(zip(names, held, strict=True)) if not name and not has_bytes
    ]
    if without:
        raise UserError(f"{place} has {len(without)} rows without a video, row {without[0]} the first: remove them.")


def names_and_paths(table: datasets.Dataset, column: str) -> tuple[list[str | None], list[str | None], list[bool]]:
    """The name and the path of each video, and whether its bytes are embedded; then it has no path.

    No video is read.
    """
    names, paths, held = [], [], []
    for chunk in table.data.column(column).chunks:
        called = chunk.field("path").to_pylist()
        embedded = chunk.field("bytes").is_valid().to_pylist()
        names += called
        paths += [None if has_bytes else path for path, has_bytes in zip(called, embedded, strict=True)]
        held += embedded
    return names, paths, held


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
