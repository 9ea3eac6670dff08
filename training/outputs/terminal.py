"""What is printed about predictions: a table of segments, and below it what needs to be known about them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich import get_console
from rich.markup import escape
from rich.table import Table

from tgdfer.training.outputs.names import answer, clock, printable, short_names

# With more segments than this, a person has one line that sums them up.
MOST_SEGMENTS = 12
# With more videos than this, each person has one line.
MOST_VIDEOS = 20
# So many warnings are printed of a batch.
MOST_LINES = 20
_DETECTORS = {"yunet": "YuNet", "mtcnn": "MTCNN"}
# Labels that say that there is no expression to name.
_NO_EXPRESSION = ("neutral", "unsure")


@dataclass(frozen=True)
class _Row:
    person: str
    time: str
    label: str
    score: str
    sentence: str


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
    table = Table("video", "person", "time", "expression", "probability", "what is seen then", expand=False)
    brief = len(results) > MOST_VIDEOS
    for video, result in results.items():
        shown = ""
        for row in _rows(result, brief):
            name = "" if shown else names[video]
            shown = names[video]
            style = colours.get(row.label.partition(" ")[0], "")
            label = f"[{style}]{escape(row.label)}[/]" if style else escape(row.label)
            table.add_row(escape(name), row.person, row.time, label, row.score, escape(row.sentence))
        table.add_section()
    console.print(table)
    for line in _remarks(results, names):
        console.print(line, highlight=False, markup=False)


def _colours(results: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """One style for each class."""
    labels = sorted(
        {label for result in results.values() for person in result["people"] for label in person["scores"]}
    )
    return {label: ("green", "magenta", "cyan", "yellow", "blue", "red")[i % 6] for i, label in enumerate(labels)}


def _rows(result: Mapping[str, Any], brief: bool) -> Iterator[_Row]:
    for person in sorted(result["people"], key=lambda one: one["person"] or 0):
        number = "" if person["person"] is None else str(person["person"])
        segments = person["segments"]
        if not segments or brief or len(segments) > MOST_SEGMENTS:
            yield _Row(
                number,
                f"{clock(segments[0]['start'])} to {clock(segments[-1]['end'])}" if segments else "",
                answer(person["label"], person["candidates"]),
                f"{person['score']:.0%}",
                _summary(segments) if len(segments) > 1 else person.get("explanation", {}).get("sentence", ""),
            )
            continue
        for index, segment in enumerate(segments):
            yield _Row(
                "" if index else number,
                f"{clock(segment['start'])} to {clock(segment['end'])}",
                answer(segment["label"], segment["candidates"]),
                f"{segment['score']:.0%}",
                segment.get("sentence", ""),
            )


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
    for person in sorted(result["people"], key=lambda one: one["person"] or 0):
        who = name if person["person"] is None else f"{name}, person {person['person']}"
        order = [segment["label"] for segment in person["segments"] if segment["label"] not in _NO_EXPRESSION]
        order = order[:1] + [after for before, after in pairwise(order) if before != after]
        if len(set(order)) > 1:
            shown = ", then ".join(order[:4]) + (", and so on" if len(order) > 4 else "")
            yield f"{who}: several expressions: {shown}."
        for warning in person["warnings"]:
            yield f"{who}: {warning}"
        # Of several people, few are in every frame.
        if person["without_face"] and len(result["people"]) == 1:
            count, whole = len(person["without_face"]), len(person["without_face"]) + len(person["frame_relevance"])
            yield f"{who}: no face in {count} of {whole} sampled frames."
