"""Local folders of clips: their splits, labels and metadata, as they lie on disk.

`datasets` guesses splits from the names of files, ignores a metadata file beside the folders of the splits, and passes
over links to folders. So the files of a local folder are found here, by the same layout.
"""

import csv
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from huggingface_hub import metadata_load

from tgdfer.training.data.left_out import VIDEO_NAME
from tgdfer.training.data.links import require_inside
from tgdfer.training.data.tables import Table
from tgdfer.training.errors import UserError

# What the builder `videofolder` of `datasets` reads, so that a folder means the same here and on the Hub.
READ_ENDINGS = (".mkv", ".mp4", ".avi", ".mpeg", ".mov")
# Folder names that stand for a split.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {folder: split for split, folders in SPLITS.items() for folder in folders}
_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Files that other builders of `datasets` read.
_OF_OTHERS = (".arrow", ".parquet", ".tar", ".tgz", ".zip")
_REMEDY = "give a folder of SPLIT/LABEL/CLIP.mp4 with a metadata.jsonl in every split or in none"

# A path below the folder of the data set.
_Relative = PurePosixPath


def read_folder(folder: Path) -> dict[str, Table] | None:
    """Reads a folder of `SPLIT/LABEL/CLIP.mp4` or `LABEL/CLIP.mp4`, with or without metadata files.

    The split of a clip is the first folder on its path that has the name of a split; where no clip has one, all are
    of the split "train". A metadata file may lie in the folder of a split, below it or above it. Names of files mean
    nothing. Hidden files are passed over.

    Args:
        folder: the absolute path of the data set.

    Returns:
        The splits by name; None where the folder is of another kind, which `datasets` reads.

    Raises:
        UserError: a link leads out of the folder, or labels or metadata cannot be used.
    """
    found = sorted(_walk(folder))
    names = [path.name for path in found]
    if not any(map(VIDEO_NAME.search, names)) or _is_of_others(folder, names):
        return None
    metadata = [path for path in found if path.name in _METADATA]
    all_videos = [path for path in found if VIDEO_NAME.search(path.name)]
    # Metadata may list videos of any ending.
    videos, left_out = (all_videos, {}) if metadata else _usable(folder, all_videos)
    rows = _rows_of_metadata(folder, metadata, found) if metadata else _rows_of_folders(folder, videos)
    has_splits = any(_split_of(path) for path in [*videos, *rows])
    outside = "it lies in no folder of a split"
    tables: dict[str, Table] = {}
    for split in SPLITS:
        own = [path for path in rows if (_split_of(path) or ("train" if not has_splits else None)) == split]
        on_disk = [path for path in videos if (_split_of(path) or ("train" if not has_splits else None)) == split]
        if not own and on_disk:
            raise UserError(f"{folder} has metadata, but lists no clip of the split {split!r}: {_REMEDY}.")
        if own:
            unused = {path: "no metadata file lists it" for path in on_disk if path not in rows}
            unused |= {path: why for path, why in left_out.items() if (_split_of(path) or "train") == split}
            tables[split] = _table(folder, own, rows, unused)
    if not tables:
        raise UserError(f"{folder} has no clip that can be read ({_first(left_out)}): {_REMEDY}.")
    lost = {path: outside for path in [*videos, *rows] if has_splits and _split_of(path) is None}
    tables[next(iter(tables))].left_out.update({str(path): why for path, why in lost.items()})
    return tables


def _walk(folder: Path) -> Iterator[_Relative]:
    """Files below a folder, also behind links to other folders in it."""
    todo = [(_Relative(), [os.path.realpath(folder)])]
    while todo:
        below, parents = todo.pop()
        for entry in os.scandir(folder / below):
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            path = below / entry.name
            is_folder = entry.is_dir()
            if entry.is_symlink() and (is_folder or VIDEO_NAME.search(entry.name) or entry.name in _METADATA):
                require_inside(folder, path)
            if not is_folder:
                yield path
            # A link to a folder above it would be followed for ever.
            elif (real := os.path.realpath(entry.path)) not in parents:
                todo.append((path, [*parents, real]))


def _is_of_others(folder: Path, names: list[str]) -> bool:
    if any(name.endswith(_OF_OTHERS) and name not in _METADATA for name in names):
        return True
    card = folder / "README.md"
    try:
        told = metadata_load(card) if card.is_file() else None
    except ValueError:  # The card is not valid, and says nothing about files then.
        told = None
    return isinstance(told, Mapping) and "configs" in told


def _usable(folder: Path, videos: list[_Relative]) -> tuple[list[_Relative], dict[_Relative, str]]:
    """Videos that can be used, and the reasons why the others cannot."""
    left_out: dict[_Relative, str] = {}
    for path in videos:
        if path.suffix.lower() not in READ_ENDINGS:
            left_out[path] = f"folders are read for {' '.join(READ_ENDINGS)} only"
        elif not is_text(str(path)):
            left_out[path] = "its name is not valid UTF-8, so rename it"
        elif not (folder / path).exists():
            left_out[path] = "it is a link to a file that is not there"
    return [path for path in videos if path not in left_out], left_out


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8: file systems may have any bytes in it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _split_of(path: _Relative) -> str | None:
    return next((_SPLIT_OF[part.lower()] for part in path.parts[:-1] if part.lower() in _SPLIT_OF), None)


def _rows_of_folders(folder: Path, videos: list[_Relative]) -> dict[_Relative, dict[str, Any]]:
    """The label of each video, by the folder that it lies in."""
    deep = {}
    for path in videos:
        parts = path.parts[:-1]
        split = next((number for number, part in enumerate(parts) if part.lower() in _SPLIT_OF), -1)
        deep[path] = len(parts) - split - 1
    with_splits = any(_split_of(path) for path in videos)
    inside = {path: depth for path, depth in deep.items() if not with_splits or _split_of(path)}
    usual = max(set(inside.values()), key=list(inside.values()).count, default=1)
    odd = next((path for path, depth in inside.items() if depth != max(1, usual)), None)
    if odd is not None:
        raise UserError(
            f"{folder} has no labels: its clips must lie one folder deep, as SPLIT/LABEL/CLIP.mp4, and {odd} does not."
        )
    return {path: {"label": path.parent.name} for path in videos}


def _rows_of_metadata(folder: Path, files: list[_Relative], found: list[_Relative]) -> dict[_Relative, dict[str, Any]]:
    """The row of each clip that the metadata files list, without its `file_name`."""
    rows: dict[_Relative, dict[str, Any]] = {}
    # File systems and editors compose accents in different ways.
    composed = {unicodedata.normalize("NFC", str(path)): path for path in found}
    for file in files:
        for number, row in _lines(folder / file):
            name = row.pop("file_name", None)
            where = f"Row {number} of {folder / file}"
            if not isinstance(name, str) or not name:
                raise UserError(f"{where} has no file_name: give the path of its clip below {file.parent}.")
            below = os.path.normpath(name).replace("\\", "/")
            if "://" in name or os.path.isabs(name) or below.split("/")[0] == "..":
                raise UserError(f"{where} names {name!r}, which is not below its folder: copy the clip there.")
            if not is_text(name):
                raise UserError(f"{where} names {name!r}, which is not valid Unicode: rename the clip.")
            path = file.parent / below
            path = composed.get(unicodedata.normalize("NFC", str(path)), path)
            if path in rows:
                raise UserError(f"{where} names {name!r}, which another row names as well: keep one of them.")
            require_inside(folder, path)
            rows[path] = row
    return rows


def _lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a metadata file, counted from 1."""
    try:
        if file.suffix == ".parquet":
            from pyarrow import parquet

            rows: Any = enumerate(parquet.read_table(file).to_pylist(), 1)
        elif file.suffix == ".csv":
            # Empty cells are unknown values.
            cells = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
            rows = enumerate(({name: value or None for name, value in row.items()} for row in cells), 1)
        else:
            lines = file.read_text(encoding="utf-8-sig").split("\n")
            rows = ((number, json.loads(line)) for number, line in enumerate(lines, 1) if line.strip())
        for number, row in rows:
            if not isinstance(row, dict):
                raise UserError(f'Row {number} of {file} is no object: write a line such as {{"file_name": "a.mp4"}}.')
            yield number, row
    except UserError:
        raise
    except (OSError, ValueError, csv.Error, RecursionError) as error:  # pyarrow's errors are among them.
        raise UserError(f"{file} cannot be read ({' '.join(str(error).split())}): repair it or remove it.") from error


def _table(
    folder: Path, own: list[_Relative], rows: dict[_Relative, dict[str, Any]], left_out: dict[_Relative, str]
) -> Table:
    names = list(dict.fromkeys(name for path in own for name in rows[path]))
    videos = {"video": [{"path": str(folder / path), "bytes": None} for path in own]}
    features = datasets.Features({"video": datasets.Video(decode=False)})
    return Table(
        datasets.Dataset.from_dict(videos, features),
        {name: [rows[path].get(name) for path in own] for name in names},
        {_below_split(path): why for path, why in left_out.items()},
    )


def _below_split(path: _Relative) -> str:
    """A path below the folder of its split."""
    parts = path.parts
    start = next((number + 1 for number, part in enumerate(parts[:-1]) if part.lower() in _SPLIT_OF), 0)
    return "/".join(parts[start:])


def _first(left_out: Mapping[_Relative, str]) -> str:
    return next((f"{path}: {why}" for path, why in left_out.items()), "no video")
