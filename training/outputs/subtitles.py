"""Subtitles of predictions, as WebVTT or SRT: a line for each segment of each person."""

from collections.abc import Mapping
from typing import Any

from tgdfer.training.outputs.names import answer
from tgdfer.training.outputs.optional_imports import require

# The endings of the files that can be written, with the names that the library has for their formats.
SUBTITLE_FORMATS = {".vtt": "vtt", ".srt": "srt"}


def subtitles(result: Mapping[str, Any], suffix: str) -> str:
    """Subtitles of a video, such as `person 1: surprise (83 %)`.

    Args:
        result: what the pipeline gives.
        suffix: ".vtt" or ".srt".

    Raises:
        UserError: the library is not installed.
    """
    pysubs2 = require("pysubs2", "pysubs2")
    file = pysubs2.SSAFile()
    for person in result["people"]:
        who = f"person {person['person']}: " if person["person"] is not None else ""
        for segment in person["segments"]:
            text = f"{who}{answer(segment['label'], segment['candidates'])} ({segment['score']:.0%})"
            start, end = round(1000 * segment["start"]), round(1000 * segment["end"])
            file.append(pysubs2.SSAEvent(start=start, end=max(end, start + 1), text=_plain(text, suffix)))
    file.sort()
    return file.to_string(SUBTITLE_FORMATS[suffix])


def _plain(text: str, suffix: str) -> str:
    """Text without what the library or a player would take for a style or a break."""
    text = " ".join(text.replace("{", "(").replace("}", ")").replace("\\", "/").split())
    if suffix == ".vtt":
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # SRT has no way to write these as they are.
    return text.replace("<", "(").replace(">", ")")
