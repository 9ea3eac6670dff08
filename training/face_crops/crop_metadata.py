"""The metadata files of a data set, and those of its crops."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tgdfer.training.data.metadata_files import METADATA, metadata_lines
from tgdfer.training.errors import UserError
from tgdfer.training.face_crops.annotations import frames_of
from tgdfer.training.files import write_text


def read_metadata(source: Path) -> dict[Path, list[dict[str, Any]]]:
    """Reads the metadata files of a data set: `metadata.jsonl`, `metadata.csv` and `metadata.parquet`.

    Args:
        source (`Path`): Folder of the data set. A single video has no metadata.

    Returns:
        The rows of the files in each folder, by the folder relative to the data set.

    Raises:
        UserError: If a file is not valid.
    """
    found: dict[Path, list[dict[str, Any]]] = {}
    files = [file for name in METADATA for file in source.rglob(name)] if source.is_dir() else []
    for file in sorted(files):
        rows = found.setdefault(file.parent.relative_to(source), [])
        for number, row in metadata_lines(file):
            where = f"Row {number} of {file}"
            if not isinstance(row.get("file_name"), str):
                raise UserError(f"{where} has no file_name: give the path of its clip below {file.parent}.")
            try:
                frames_of(row)
            except (TypeError, ValueError) as error:
                raise UserError(f"{where} is not valid ({error}): repair it or remove it.") from error
            rows.append(row)
    return found


def write_metadata(
    metadata: Mapping[Path, Sequence[dict[str, Any]]], output: Path, rows: Sequence[dict[str, Any]]
) -> dict[str, int | None]:
    """Writes the `metadata.jsonl` files of the crops.

    A clip with several crops has a row for each of them, and a clip without a crop has none. Lists with a value for
    each frame are reduced to the frames of the crop.

    Args:
        metadata (`Mapping[Path, Sequence[dict[str, Any]]]`): Metadata of the data set, as returned by `read_metadata`.
        output (`Path`): Folder of the crops.
        rows (`Sequence[dict[str, Any]]`): Rows of the clips, as returned by `cut_clip`.

    Returns:
        The number of frames of each clip in the metadata, or None if the metadata does not contain it.
    """
    listed: dict[str, int | None] = {}
    # File systems and editors encode accents in different Unicode normal forms.
    by_name = {unicodedata.normalize("NFC", row["file"]): row for row in rows}
    for folder, clips in metadata.items():
        lines = []
        for clip in clips:
            name = (folder / clip["file_name"]).as_posix()
            row = by_name.get(unicodedata.normalize("NFC", name), {"file": name, "crops": [], "kept": []})
            listed[row["file"]] = frames_of(clip)
            for crop, kept in zip(row["crops"], row["kept"], strict=True):
                values = clip if kept is None else _select_frames(clip, kept, row["frames"])
                values = values | {"file_name": Path(crop).relative_to(folder).as_posix()}
                lines.append(json.dumps(values, default=str) + "\n")  # Tables may contain dates.
        (output / folder).mkdir(parents=True, exist_ok=True)
        write_text(output / folder / "metadata.jsonl", "".join(lines))
    return listed


def _select_frames(metadata: Any, kept: Sequence[int], total: int) -> Any:
    """Reduces lists of `total` values, also in nested dicts, to the values of the frames that are kept."""
    if isinstance(metadata, dict):
        return {name: _select_frames(value, kept, total) for name, value in metadata.items()}
    has_frames = isinstance(metadata, list) and len(metadata) == total
    return [metadata[number] for number in kept] if has_frames else metadata
