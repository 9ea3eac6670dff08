"""Edit lists of MP4 and QuickTime files, as far as FFmpeg does not follow them.

FFmpeg leaves out what is cut away, and plays parts in any order and more than once. The speed of a part it ignores,
and a gap between two parts it fills with frames from elsewhere.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

# No file has more in one place; a damaged one may seem to.
MAX_BOXES = 10_000


def unfollowed_edit(file: BinaryIO) -> str:
    """What the video track of a file asks for and no decoder does, in words; "" where there is nothing.

    Args:
        file: a seekable MP4 or QuickTime file, whole or damaged.
    """
    for start, end in _find(file, 0, file.seek(0, 2), b"moov", b"trak"):
        for first, last in _find(file, start, end, b"edts", b"elst"):
            if not _is_video(file, start, end):
                continue
            for number, (moment, rate) in enumerate(_entries(file, first, last)):
                if moment == -1 and number > 0:
                    return "there is a gap between its parts"
                if moment != -1 and rate != 1.0:
                    return f"a part of it is to be played at {rate:g} times its speed"
    return ""


def _entries(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, float]]:
    """Of each part of an edit list: where in the track it begins, -1 for nothing, and its speed."""
    file.seek(start)
    head = file.read(8)
    if len(head) < 8:
        return
    # Version 1 has 64 bits for duration and moment.
    entry = struct.Struct(">QqhH" if head[0] == 1 else ">IihH")
    count = min(struct.unpack(">I", head[4:])[0], (end - start - 8) // entry.size, MAX_BOXES)
    for values in entry.iter_unpack(file.read(count * entry.size)):
        yield values[1], values[2] + values[3] / 2**16


def _is_video(file: BinaryIO, start: int, end: int) -> bool:
    for first, _ in _find(file, start, end, b"mdia", b"hdlr"):
        file.seek(first + 8)
        return file.read(4) == b"vide"
    return False


def _find(file: BinaryIO, start: int, end: int, kind: bytes, *deeper: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of what is in the boxes of a kind, and of a kind in these, and so on."""
    for found, first, last in _boxes(file, start, end):
        if found == kind and deeper:
            yield from _find(file, first, last, *deeper)
        elif found == kind:
            yield first, last


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of what is in each box between two places of a file."""
    for _ in range(MAX_BOXES):
        file.seek(start)
        head = file.read(16)
        if start + 8 > end or len(head) < 8:
            return
        size, kind, skip = *struct.unpack(">I4s", head[:8]), 8
        if size == 1 and len(head) == 16:
            size, skip = struct.unpack(">Q", head[8:])[0], 16
        elif size == 0:
            size = end - start
        if size < skip:
            return
        yield kind, start + skip, min(start + size, end)
        start += size
