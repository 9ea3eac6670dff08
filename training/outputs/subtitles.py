"""Subtitles of predictions as WebVTT or SRT, with a line for each segment of each person."""

from collections.abc import Mapping
from typing import Any

from tgdfer.training.outputs.names import answer_text
from tgdfer.training.outputs.optional_imports import import_optional

# Suffix of each subtitle format, and its name in the library.
SUBTITLE_FORMATS = {".vtt": "vtt", ".srt": "srt"}


def subtitles(result: Mapping[str, Any], suffix: str) -> str:
    """Creates the subtitles of a video, such as `person 1: surprise (83 %)`.

    Args:
        result (`Mapping[str, Any]`): Output of the pipeline.
        suffix (`str`): ".vtt" or ".srt".

    Raises:
        UserError: If the library is not installed.
    """
    pysubs2 = import_optional("pysubs2", "pysubs2")
    file = pysubs2.SSAFile()
    for person in result["people"]:
        prefix = f"person {person['person']}: " if person["person"] is not None else ""
        for segment in person["segments"]:
            text = f"{prefix}{answer_text(segment['label'], segment['candidates'])} ({segment['score']:.0%})"
            start, end = round(1000 * segment["start"]), round(1000 * segment["end"])
            file.append(pysubs2.SSAEvent(start=start, end=max(end, start + 1), text=plain(text, suffix)))
    file.sort()
    return file.to_string(SUBTITLE_FORMATS[suffix])


def plain(text: str, suffix: str) -> str:
    """Replaces characters that the library or a player would interpret as formatting or a line break."""
    text = " ".join(text.replace("{", "(").replace("}", ")").replace("\\", "/").split())
    if suffix == ".vtt":
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # SRT has no escapes for these characters.
    return text.replace("<", "(").replace(">", ")")
