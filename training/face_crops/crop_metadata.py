"""Writing the `metadata.jsonl` files of a data set for its crops."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.face_crops.annotations import frames_of
from tgdfer.training.files import write_text


def write_metadata(source: Path, output: Path, rows: Sequence[dict[str, Any]]) -> dict[str, int | None]:
    """Writes the `metadata.jsonl` files of a data set for its crops.

    A clip with several crops has a row for each of them, and a clip without a crop has none. Lists with a value for
    each frame are reduced to the frames of the crop.

    Args:
        source (`Path`): Folder of the data set. A single video has no metadata.
        output (`Path`): Folder of the crops.
        rows (`Sequence[dict[str, Any]]`): Rows of the clips, as returned by `cut_clip`.

    Returns:
        The number of frames of each clip in the metadata, or None if the metadata does not contain it.

    Raises:
        UserError: If a file is not valid.
    """
    listed: dict[str, int | None] = {}
    by_file = {row["file"]: row for row in rows}
    for file in sorted(source.rglob("metadata.jsonl")) if source.is_dir() else []:
        folder = file.parent.relative_to(source)
        lines = []
        try:
            for line in file.read_text(encoding="utf-8").splitlines():
                metadata = json.loads(line)
                name = (folder / metadata["file_name"]).as_posix()
                listed[name] = frames_of(metadata)
                row = by_file.get(name, {"crops": [], "kept": []})
                for crop, kept in zip(row["crops"], row["kept"], strict=True):
                    values = metadata if kept is None else _select_frames(metadata, kept, row["frames"])
                    lines.append(json.dumps(values | {"file_name": Path(crop).relative_to(folder).as_posix()}) + "\n")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is not valid ({error!r}): repair it or move it away.") from error
        (output / folder).mkdir(parents=True, exist_ok=True)
        write_text(output / folder / "metadata.jsonl", "".join(lines))
    return listed


def _select_frames(metadata: Any, kept: Sequence[int], total: int) -> Any:
    """Reduces lists of `total` values, also in nested dicts, to the values of the frames that are kept."""
    if isinstance(metadata, dict):
        return {name: _select_frames(value, kept, total) for name, value in metadata.items()}
    has_frames = isinstance(metadata, list) and len(metadata) == total
    return [metadata[number] for number in kept] if has_frames else metadata
