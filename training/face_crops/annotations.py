"""Lists of the clips that a data set should have: reading them, and comparing them with the clips that were found.

Published data sets use different formats: CSV and TSV with or without a header, JSON lines, or one clip per line. The
delimiter is searched in the first line, because `csv.Sniffer` fails for lists with a single column.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tgdfer.training.errors import UserError
from tgdfer.training.video_names import VIDEO_NAME

# Names of the columns with the clip and with its number of frames, in lower case.
_NAMES = {"file_name", "file", "filename", "name", "video", "video_name", "clip", "clip_name", "path", "id", "order"}
_COUNTS = {"frames", "num_frames", "frame_count", "n_frames"}
_REMEDY = "give a CSV file, JSON lines, or a text file with one clip per line"


def read_annotations(path: Path) -> dict[str, int | None]:
    """Reads a list of clips.

    Args:
        path (`Path`): CSV, TSV, JSON lines, or a text file whose lines begin with the name of a clip.

    Returns:
        The number of frames of each clip, or None if the list does not contain it.

    Raises:
        UserError: If the list cannot be read or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip()]
        if path.suffix in (".jsonl", ".json"):
            rows = [json.loads(line) for line in lines]
            listed = {_name_of(row): frames_of(row) for row in rows}
        else:
            listed = _read_table(lines)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a list of clips ({error}): {_REMEDY}.") from error
    if not listed:
        raise UserError(f"{path} lists no clip: {_REMEDY}.")
    return listed


def compare(rows: Sequence[dict[str, Any]], listed: dict[str, int | None]) -> dict[str, Any]:
    """Compares the clips of a data set with a list of clips.

    Names are compared from the end, without suffixes and leading zeros: "001.avi" and "train/1.mp4" match.

    Args:
        rows (`Sequence[dict[str, Any]]`): Rows of the clips, as returned by `cut_clip`.
        listed (`dict[str, int | None]`): The list, as returned by `read_annotations`. An empty list matches
            everything.

    Returns:
        `missing` (clips that are only in the list), `unlisted` (clips that are not in the list) and `frames` (clips
        with another number of frames than in the list, with `listed` and `found`).
    """
    if not listed:
        return {"missing": [], "unlisted": [], "frames": {}}
    known = {_key(name): (name, count) for name, count in listed.items()}
    matched: set[str] = set()
    unlisted, frames = [], {}
    for row in rows:
        # Lists contain paths or only file names.
        parts = _key(row["file"]).split("/")
        key = next((k for k in ("/".join(parts[i:]) for i in range(len(parts))) if k in known), None)
        if key is None:
            unlisted.append(row["file"])
            continue
        matched.add(key)
        count = known[key][1]
        if count is not None and "error" not in row and count != row["frames"]:
            frames[row["file"]] = {"listed": count, "found": row["frames"]}
    return {"missing": [known[key][0] for key in known if key not in matched], "unlisted": unlisted, "frames": frames}


def frames_of(row: dict[str, Any]) -> int | None:
    """Returns the number of frames in a row of JSON lines: the count, or the length of `intensity`.

    Raises:
        ValueError: If the count is not a number of frames.
    """
    counts = [row[name] for name in row if name.lower() in _COUNTS]
    if counts:
        return _count(counts[0])
    intensity = row.get("intensity")
    return len(intensity) if isinstance(intensity, list) and intensity else None


def _read_table(lines: Sequence[str]) -> dict[str, int | None]:
    """Reads CSV or TSV with or without a header, or lines that begin with a name.

    Raises:
        ValueError: If a row lacks a column.
    """
    delimiter = next((mark for mark in ("\t", ",", ";") if mark in lines[0]), None) if lines else None
    cells = map(str.split, lines) if delimiter is None else csv.reader(lines, delimiter=delimiter)
    rows = [row for row in cells if any(cell.strip() for cell in row)]
    if not rows:
        return {}
    header = [cell.strip().lower() for cell in rows[0]]
    has_header = bool(_NAMES & set(header))
    column = next((index for index, cell in enumerate(header) if cell in _NAMES), 0)
    counts = next((index for index, cell in enumerate(header) if cell in _COUNTS), None) if has_header else None
    listed: dict[str, int | None] = {}
    for row in rows[has_header:]:
        if len(row) <= max(column, counts or 0) or not row[column].strip():
            text = (delimiter or " ").join(row)
            raise ValueError(f"row {text!r} lacks the name of its clip or a column of the header")
        listed[row[column]] = None if counts is None else _count(row[counts])
    return listed


def _name_of(row: Any) -> str:
    """Returns the name of the clip in a row of JSON lines.

    Raises:
        ValueError: If the row does not name a clip.
    """
    names = [row[name] for name in row if name.lower() in _NAMES] if isinstance(row, dict) else []
    if not names:
        raise ValueError(f'row {json.dumps(row)[:80]} names no clip; an example is {{"file_name": "a.mp4"}}')
    return str(names[0])


def _count(value: Any) -> int | None:
    """Parses a number of frames, which may be written as 12, "12" or "12.0". Returns None if it is blank.

    Raises:
        ValueError: If it is not a number of frames.
    """
    if value is None or not str(value).strip():
        return None
    try:
        count = float(value)
    except (TypeError, ValueError):
        count = -1.0
    if count < 0 or not count.is_integer():
        raise ValueError(f"{value!r} is not a number of frames")
    return int(count)


def _key(name: str) -> str:
    """Returns a key that is equal for all names of a clip: lower case, without the suffix and leading zeros."""
    path = Path(name.strip().replace("\\", "/"))
    path = path.with_suffix("") if VIDEO_NAME.search(path.name) else path
    return "/".join(str(int(part)) if part.isdecimal() else part.lower() for part in path.parts)
