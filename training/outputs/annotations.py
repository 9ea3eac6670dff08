"""Annotation files of predictions, for ELAN (`.eaf`) and Praat (`.TextGrid`).

Each person has two tiers: the label of each segment, and its probability.
"""

import mimetypes
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tgdfer.training.files import whole_file
from tgdfer.training.outputs.optional_imports import require

# Start and end in milliseconds, and the text.
Interval = tuple[int, int, str]


def write_elan(result: Mapping[str, Any], path: Path, video: str | None = None) -> None:
    """Writes an ELAN file.

    Args:
        result: what the pipeline gives.
        path: the file to write.
        video: the path of the video, which ELAN opens with the annotations; None where it is no file.

    Raises:
        UserError: the library is not installed.
    """
    eaf = require("pympi.Elan", "pympi-ling").Eaf(author="tgdfer")
    for tier, intervals in _tiers(result):
        eaf.add_tier(tier)
        for start, end, text in intervals:
            eaf.add_annotation(tier, start, end, text)
    # The tier that every new file of the library has.
    eaf.remove_tier("default")
    if video is not None:
        absolute = Path(video).absolute()
        relative = os.path.relpath(absolute, path.absolute().parent)
        mimetype = mimetypes.guess_type(video)[0] or "video/mp4"
        eaf.add_linked_file(absolute.as_uri(), relative, mimetype)
    with whole_file(path) as temporary:
        eaf.to_file(str(temporary))


def write_textgrid(result: Mapping[str, Any], path: Path) -> None:
    """Writes a TextGrid of Praat.

    Args:
        result: what the pipeline gives.
        path: the file to write.

    Raises:
        UserError: the library is not installed.
    """
    tiers = list(_tiers(result))
    ends = [end for _, intervals in tiers for _, end, _ in intervals]
    longest = max([*ends, round(1000 * (result["duration"] or 0)), 1])
    grid = require("pympi.Praat", "pympi-ling").TextGrid(xmax=longest / 1000)
    for name, intervals in tiers:
        tier = grid.add_tier(name)
        for start, end, text in intervals:
            tier.add_interval(start / 1000, end / 1000, text)
    with whole_file(path) as temporary:
        grid.to_file(str(temporary))


def _tiers(result: Mapping[str, Any]) -> Iterator[tuple[str, list[Interval]]]:
    for person in result["people"]:
        who = "video" if person["person"] is None else f"person {person['person']}"
        times = _milliseconds(person["segments"])
        labels = [segment["label"] for segment in person["segments"]]
        scores = [f"{segment['score']:.2f}" for segment in person["segments"]]
        for kind, texts in (("expression", labels), ("probability", scores)):
            yield f"{who} {kind}", [(*time, text) for time, text in zip(times, texts, strict=True)]


def _milliseconds(segments: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Starts and ends. Both formats know neither an interval without a length nor two that overlap."""
    times: list[tuple[int, int]] = []
    for segment in segments:
        start = max(round(1000 * segment["start"]), times[-1][1] if times else 0)
        times.append((start, max(round(1000 * segment["end"]), start + 1)))
    return times
