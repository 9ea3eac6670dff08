"""Lists of clips in text files: two or three columns that are separated by spaces, commas or tabs."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tgdfer.training.errors import UserError
from tgdfer.training.video_names import VIDEO_NAME

# Encodings of the lists. MAFW has captions in Chinese.
_ENCODINGS = ("utf-8-sig", "gb18030")
_HEADER = {"video_name", "video", "name", "clip", "file", "path", "label", "order"}


class Row(NamedTuple):
    """A row of a list.

    Attributes:
        where (`str`): File and line, for messages.
        name (`str`): Name of the clip as in the list.
        label (`str`): Label as in the list. Empty if the row has only a name.
        frames (`int`, *optional*): Number of frames, which lists with three columns state between name and label.
    """

    where: str
    name: str
    label: str
    frames: int | None = None


def read_list(path: Path) -> list[Row]:
    """Reads a list of clips.

    A header is skipped. In a list with three columns, the middle one is the number of frames. The captions that
    follow the label in lists with tabs are skipped.

    Raises:
        UserError: If the list cannot be read, is empty, or a row has no label.
    """
    lines = [line for line in _read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} lists no clip: restore it from the archive of the data set.")
    delimiter = next((mark for mark in ("\t", ",") if mark in lines[0]), None)
    rows = []
    for number, cells in enumerate(_cells(lines, delimiter), 1):
        if number == 1 and _HEADER & {cell.lower() for cell in cells}:
            continue
        where = f"line {number} of {path}"
        if len(cells) < 2:
            raise UserError(f"There is no label in {where} ({lines[number - 1]!r}): restore the list.")
        # Number of frames and label are numbers in some lists, and captions never are.
        has_count = len(cells) == 3 and cells[1].isdecimal()
        label = cells[2] if has_count else cells[1]
        rows.append(Row(where, cells[0], label, int(cells[1]) if has_count else None))
    if not rows:
        raise UserError(f"{path} lists no clip: restore it from the archive of the data set.")
    return rows


def clip_key(name: str, digits: int, parts: int = 1) -> str:
    """Returns the key of a clip from its name in a list, which may be a path on another machine.

    Args:
        name (`str`): Name of a video or of a folder of frames.
        digits (`int`): Number of digits to which the last part is padded with zeros.
        parts (`int`, *optional*, defaults to 1): Number of parts to keep, from the end.
    """
    path = PurePosixPath(name.strip().replace("\\", "/").rstrip("/"))
    kept = list(path.parts[-parts:])
    kept[-1] = VIDEO_NAME.sub("", kept[-1])
    if kept[-1].isdecimal():
        kept[-1] = kept[-1].zfill(digits)
    return "/".join(kept)


def find_list(root: Path, patterns: Sequence[str], what: str) -> Path:
    """Returns the first file below a folder that one of the patterns matches. Earlier patterns come first.

    Raises:
        UserError: If there is none.
    """
    for pattern in patterns:
        # The folder of the user may be that of the data set, or one that contains it.
        for place in (pattern, f"*/{pattern}"):
            if found := sorted(path for path in root.glob(place) if path.is_file()):
                return found[0]
    raise UserError(f"{root} has no {what} ({patterns[0]}): give the folder of the unpacked data set as --data-root.")


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error
    for encoding in _ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UserError(f"{path} is encoded neither in UTF-8 nor in GB18030: restore it from the archive of the data set.")


def _cells(lines: list[str], delimiter: str | None) -> Iterator[list[str]]:
    if delimiter is None:
        yield from (line.split() for line in lines)
    else:
        # Captions contain single quotation marks.
        reader = csv.reader(lines, delimiter=delimiter, quotechar=None if delimiter == "\t" else '"')
        yield from ([cell.strip() for cell in row] for row in reader)
