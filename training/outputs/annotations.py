"""Annotation files of predictions, for ELAN (`.eaf`) and Praat (`.TextGrid`).

Each person has two tiers: the label of each segment, and its probability.
"""

import mimetypes
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tgdfer.training.files import atomic_write
from tgdfer.training.outputs.optional_imports import import_optional

# Start and end in milliseconds, and text.
Interval = tuple[int, int, str]


def write_elan(result: Mapping[str, Any], path: Path, video: str | None = None) -> None:
    """Writes an ELAN file.

    Args:
        result (`Mapping[str, Any]`): Output of the pipeline.
        path (`Path`): File to write.
        video (`str`, *optional*): Path of the video, which ELAN opens together with the annotations. None if the video
            is not a file.

    Raises:
        UserError: If the library is not installed.
    """
    eaf = import_optional("pympi.Elan", "pympi-ling").Eaf(author="tgdfer")
    for tier, intervals in _tiers(result):
        eaf.add_tier(tier)
        for start, end, text in intervals:
            eaf.add_annotation(tier, start, end, text)
    # The library adds this tier to every new file.
    eaf.remove_tier("default")
    if video is not None:
        absolute = Path(video).absolute()
        relative = os.path.relpath(absolute, path.absolute().parent)
        mimetype = mimetypes.guess_type(video)[0] or "video/mp4"
        eaf.add_linked_file(absolute.as_uri(), relative, mimetype)
    with atomic_write(path) as temporary:
        eaf.to_file(str(temporary))


def write_textgrid(result: Mapping[str, Any], path: Path) -> None:
    """Writes a TextGrid file for Praat.

    Args:
        result (`Mapping[str, Any]`): Output of the pipeline.
        path (`Path`): File to write.

    Raises:
        UserError: If the library is not installed.
    """
    tiers = list(_tiers(result))
    ends = [end for _, intervals in tiers for _, end, _ in intervals]
    duration = max([*ends, round(1000 * (result["duration"] or 0)), 1])
    grid = import_optional("pympi.Praat", "pympi-ling").TextGrid(xmax=duration / 1000)
    for name, intervals in tiers:
        tier = grid.add_tier(name)
        for start, end, text in intervals:
            tier.add_interval(start / 1000, end / 1000, text)
    with atomic_write(path) as temporary:
        grid.to_file(str(temporary))


def _tiers(result: Mapping[str, Any]) -> Iterator[tuple[str, list[Interval]]]:
    """Yields name and intervals of each tier."""
    for person in result["people"]:
        prefix = "video" if person["person"] is None else f"person {person['person']}"
        times = _milliseconds(person["segments"])
        labels = [segment["label"] for segment in person["segments"]]
        scores = [f"{segment['score']:.2f}" for segment in person["segments"]]
        for kind, texts in (("expression", labels), ("probability", scores)):
            yield f"{prefix} {kind}", [(*time, text) for time, text in zip(times, texts, strict=True)]


def _milliseconds(segments: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Returns start and end of each segment. Intervals must not be empty or overlap in both formats."""
    times: list[tuple[int, int]] = []
    for segment in segments:
        start = max(round(1000 * segment["start"]), times[-1][1] if times else 0)
        times.append((start, max(round(1000 * segment["end"]), start + 1)))
    return times
