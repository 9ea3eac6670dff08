"""What is printed about predictions: a table of segments, and below it what needs to be known about them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.processing.explanation_tgdfer import UNSURE
from tgdfer.training.figures.colours import class_colours
from tgdfer.training.files import printable
from tgdfer.training.outputs.names import answer, clock, short_names

# With more segments than this, a person has one line that sums them up.
MOST_SEGMENTS = 12
# With more videos than this, each person has one line.
MOST_VIDEOS = 20
# So many warnings are printed of a batch.
MOST_LINES = 20
# How warnings end that are about one person.
_SHARE = re.compile(r" in \d+% of its frames\.$")
_DETECTORS = {"yunet": "YuNet", "mtcnn": "MTCNN"}
# Labels that say that there is no expression to name.
_NO_EXPRESSION = ("neutral", "unsure")


@dataclass(frozen=True)
class _Row:
    """A line of the table. `label` is the class whose colour it has."""

    person: str
    start: str
    end: str
    label: str
    answer: str
    score: str
    seen: str


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the answers for videos.

    Short lists have a line for each segment, long ones a line for each person. Below the table stand the warnings, the
    detector of faces, and whether the probabilities are calibrated.

    Args:
        results: for each video what the pipeline gives, with explanations.
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
    table.add_column("what is seen then")
    brief = len(results) > MOST_VIDEOS
    for video, result in results.items():
        for index, row in enumerate(_rows(result, brief)):
            name = "" if index else escape(names[video])
            label = f"[{colours.get(row.label, 'default')}]{escape(row.answer)}[/]"
            person = [row.person] if numbered else []
            table.add_row(name, *person, row.start, row.end, label, row.score, escape(row.seen))
        table.add_section()
    console.print(table)
    for line in _remarks(results, names):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _colours(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The colour of each class, which is that of the pictures."""
    labels = {label for result in results.values() for person in result["people"] for label in person["scores"]}
    return class_colours([*sorted(labels), UNSURE])


def _rows(result: Mapping[str, Any], brief: bool) -> Iterator[_Row]:
    for person in _by_number(result):
        number = "" if person["person"] is None else str(person["person"])
        segments = person["segments"]
        if segments and not brief and len(segments) <= MOST_SEGMENTS:
            for index, segment in enumerate(segments):
                times = clock(segment["start"]), clock(segment["end"])
                yield _row("" if index else number, times, segment, segment.get("sentence", ""))
            continue
        times = (clock(segments[0]["start"]), clock(segments[-1]["end"])) if segments else ("", "")
        sentence = person.get("explanation", {}).get("sentence", "")
        yield _row(number, times, person, _summary(segments) if len(segments) > 1 else sentence)


def _row(number: str, times: tuple[str, str], found: Mapping[str, Any], sentence: str) -> _Row:
    said = answer(found["label"], found["candidates"])
    # The label and the times stand in columns of their own. Without times, the sentence tells the frames.
    if sentence.startswith(f"{said}, "):
        sentence = sentence.partition(": ")[2] if times[0] else sentence.removeprefix(f"{said}, ")
    # One description fits into a line or two; the files have the others.
    sentence = sentence.partition("; ")[0]
    return _Row(number, *times, found["label"], said, f"{found['score']:.0%}", sentence)


def _by_number(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(result["people"], key=lambda person: person["person"] or 0)


def _warnings_of(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """A line for each warning, which names the people that it is about."""
    about: dict[str, list[Mapping[str, Any]]] = {}
    for person in _by_number(result):
        for warning in person["warnings"]:
            about.setdefault(_SHARE.sub("", warning), []).append(person)
    for warning, people in about.items():
        numbers = [str(person["person"]) for person in people]
        if len(people) == 1:
            (full,) = [text for text in people[0]["warnings"] if text.startswith(warning)]
            yield f"{name if numbers == ['None'] else f'{name}, person {numbers[0]}'}: {full}"
        else:
            who = f"{name}, persons {', '.join(numbers[:-1])} and {numbers[-1]}"
            yield f"{who}: {warning.removesuffix('.')} for most of the time."


def _summary(segments: list[dict[str, Any]]) -> str:
    """How much of the time each label has, e.g. `40 segments: neutral 61 % of the time, happiness 39 %`."""
    seconds: dict[str, float] = {}
    for segment in segments:
        seconds[segment["label"]] = seconds.get(segment["label"], 0.0) + segment["end"] - segment["start"]
    whole = sum(seconds.values()) or 1.0
    first, *others = (f"{label} {time / whole:.0%}" for label, time in sorted(seconds.items(), key=lambda s: -s[1]))
    return f"{len(segments)} segments: {', '.join([f'{first} of the time', *others])}"


def _remarks(results: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> Iterator[str]:
    lines = [line for video, result in results.items() for line in _remarks_of(names[video], result)]
    yield from lines[:MOST_LINES]
    if len(lines) > MOST_LINES:
        yield f"{len(lines) - MOST_LINES} more remarks are in the JSON (--json)."
    detectors = sorted({_DETECTORS.get(name, name) for result in results.values() if (name := result["detector"])})
    if detectors:
        yield f"Faces were found by {' and '.join(detectors)}."
    if not all(result["calibrated"] for result in results.values()):
        yield "The model is not calibrated: a probability says little about how often such answers are right."


def _remarks_of(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    for person in _by_number(result):
        who = name if person["person"] is None else f"{name}, person {person['person']}"
        order = [segment["label"] for segment in person["segments"] if segment["label"] not in _NO_EXPRESSION]
        order = order[:1] + [after for before, after in pairwise(order) if before != after]
        if len(set(order)) > 1:
            shown = ", then ".join(order[:4]) + (", and so on" if len(order) > 4 else "")
            yield f"{who}: several expressions: {shown}."
        # Of several people, few are in every frame.
        if person["without_face"] and len(result["people"]) == 1:
            count, whole = len(person["without_face"]), len(person["without_face"]) + len(person["frame_relevance"])
            yield f"{who}: no face in {count} of {whole} sampled frames."
    yield from _warnings_of(name, result)
