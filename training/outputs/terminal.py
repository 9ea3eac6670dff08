"""The table of predictions in the terminal, and the remarks below it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.processing.explanation_tgdfer import UNSURE
from tgdfer.training.colours import class_colours
from tgdfer.training.files import printable
from tgdfer.training.outputs.names import answer_text, format_time, short_names

# If a person has more segments, one row summarises them.
MAX_SEGMENTS = 12
# If there are more videos, each person has one row.
MAX_VIDEOS = 20
# Maximum number of remarks that are printed.
MAX_REMARKS = 20
# The end of warnings about one person.
_SHARE = re.compile(r" in \d+% of its frames\.$")
_DETECTORS = {"yunet": "YuNet", "mtcnn": "MTCNN"}
# Labels that do not name an expression.
_NO_EXPRESSION = ("neutral", "unsure")


@dataclass(frozen=True)
class _Row:
    """A row of the table. `label` determines its colour."""

    person: str
    start: str
    end: str
    label: str
    answer: str
    score: str
    description: str


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the predictions for videos as a table.

    There is a row for each segment or, if there are many, a row for each person. Below the table are the warnings, the
    face detector, and whether the probabilities are calibrated.

    Args:
        results (`Mapping[str, Mapping[str, Any]]`): Output of the pipeline for each video, with explanations.
    """
    if not results:
        return
    console = get_console()
    names = {video: printable(name) for video, name in short_names(list(results)).items()}
    colours = _colours(results)
    numbered = any(person["person"] is not None for result in results.values() for person in result["people"])
    table = Table("video")
    if numbered:
        table.add_column("person", justify="right")
    for title in ("from", "to"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("expression")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("description")
    brief = len(results) > MAX_VIDEOS
    for video, result in results.items():
        for index, row in enumerate(_rows(result, brief)):
            name = "" if index else escape(names[video])
            label = f"[{colours.get(row.label, 'default')}]{escape(row.answer)}[/]"
            person = [row.person] if numbered else []
            table.add_row(name, *person, row.start, row.end, label, row.score, escape(row.description))
        table.add_section()
    console.print(table)
    for line in _remarks(results, names):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _colours(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns the colour of each class, which is the same as in figures."""
    labels = {label for result in results.values() for person in result["people"] for label in person["scores"]}
    return class_colours([*sorted(labels), UNSURE])


def _rows(result: Mapping[str, Any], brief: bool) -> Iterator[_Row]:
    """Yields the rows of a video. `brief` gives one row per person."""
    for person in _people_by_number(result):
        number = "" if person["person"] is None else str(person["person"])
        segments = person["segments"]
        if not brief and len(segments) <= MAX_SEGMENTS:
            for index, segment in enumerate(segments):
                times = format_time(segment["start"]), format_time(segment["end"])
                yield _row("" if index else number, times, segment, segment.get("sentence", ""))
            continue
        times = format_time(segments[0]["start"]), format_time(segments[-1]["end"])
        sentence = person.get("explanation", {}).get("sentence", "")
        yield _row(number, times, person, _summary(segments) if len(segments) > 1 else sentence)


def _row(number: str, times: tuple[str, str], prediction: Mapping[str, Any], sentence: str) -> _Row:
    """Creates the row of a segment or a person."""
    text = answer_text(prediction["label"], prediction["candidates"])
    # Label and times have their own columns.
    if sentence.startswith(f"{text}, "):
        sentence = sentence.partition(": ")[2]
    # The first description fits into a line or two. The output files contain the others.
    sentence = sentence.partition("; ")[0]
    return _Row(number, *times, prediction["label"], text, f"{prediction['score']:.0%}", sentence)


def _people_by_number(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(result["people"], key=lambda person: person["person"] or 0)


def _warning_lines(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each warning, which names the people that it concerns."""
    people_by_warning: dict[str, list[tuple[str, str]]] = {}
    for person in _people_by_number(result):
        for warning in person["warnings"]:
            people_by_warning.setdefault(_SHARE.sub("", warning), []).append((str(person["person"]), warning))
    for shortened, people in people_by_warning.items():
        numbers, warnings = zip(*people, strict=True)
        warning = f"{shortened} for most of the time." if len(set(warnings)) > 1 else warnings[0]
        if numbers == ("None",) or (shortened == warning and len(numbers) == len(result["people"]) > 1):
            subject = name  # The warning is about the video.
        elif len(numbers) == 1:
            subject = f"{name}, person {numbers[0]}"
        else:
            subject = f"{name}, persons {', '.join(numbers[:-1])} and {numbers[-1]}"
        yield f"{subject}: {warning}"


def _summary(segments: list[dict[str, Any]]) -> str:
    """Returns the share of the time of each label, e.g. `40 segments: neutral 61 % of the time, happiness 39 %`."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment["label"]] = seconds.get(segment["label"], 0.0) + segment["end"] - segment["start"]
    total = sum(seconds.values()) or 1.0
    first, *others = (f"{label} {time / total:.0%}" for label, time in sorted(seconds.items(), key=lambda s: -s[1]))
    return f"{len(segments)} segments: {', '.join([f'{first} of the time', *others])}"


def _remarks(results: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> Iterator[str]:
    """Yields the lines below the table."""
    lines = [line for video, result in results.items() for line in _video_remarks(names[video], result)]
    yield from lines[:MAX_REMARKS]
    if len(lines) > MAX_REMARKS:
        yield f"{len(lines) - MAX_REMARKS} more remarks are in the JSON (--json)."
    detectors = sorted({_DETECTORS.get(name, name) for result in results.values() if (name := result["detector"])})
    if detectors:
        yield f"Faces were found by {' and '.join(detectors)}."
    if not all(result["calibrated"] for result in results.values()):
        yield "The model is not calibrated: its probabilities do not say how often such answers are correct."


def _video_remarks(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Yields the remarks about one video."""
    for person in _people_by_number(result):
        subject = name if person["person"] is None else f"{name}, person {person['person']}"
        order = [segment["label"] for segment in person["segments"] if segment["label"] not in _NO_EXPRESSION]
        order = order[:1] + [after for before, after in pairwise(order) if before != after]
        if len(set(order)) > 1:
            shown = ", then ".join(order[:4]) + (", and so on" if len(order) > 4 else "")
            yield f"{subject}: several expressions: {shown}."
        # If there are several people, most are absent from some frames.
        total, boxes = len(result["timestamps"]), person.get("boxes", ())
        missing = total - sum(box is not None for box in boxes)
        if boxes and missing and len(result["people"]) == 1:
            yield f"{subject}: no face in {missing} of {total} sampled frames."
    yield from _warning_lines(name, result)
