"""CSV tables of predictions: a row for each sampled frame, or a row for each segment."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tgdfer.training.files import printable

Results = Mapping[str, Mapping[str, Any]]


def frame_table(results: Results) -> str:
    """CSV with a row for each sampled frame and person.

    Columns: the file, the person, the person's answer for the whole video and its probability, the number of the
    frame among those of the person, its time in seconds, its relevance, the person's box in pixels, and the
    probability of each class in this frame. The person and the box are empty where no faces were looked for.

    Args:
        results: for each video what the pipeline gives.
    """
    people = [(video, person) for video, result in results.items() for person in result["people"]]
    labels = list(people[0][1]["frame_scores"]) if people else []
    sides = ["left", "top", "right", "bottom"]
    header = ["file", "person", "label", "score", "frame", "seconds", "relevance", *sides, *labels]
    return _csv(header, (row for video, person in people for row in _frame_rows(video, person, labels)))


def _frame_rows(video: str, person: Mapping[str, Any], labels: Sequence[str]) -> Iterable[list[Any]]:
    seconds = person["timestamps"]
    boxes = person.get("boxes") or [None] * len(person["frame_relevance"])
    for index, relevance in enumerate(person["frame_relevance"]):
        yield [
            printable(video),
            _blank(person["person"]),
            person["label"],
            f"{person['score']:.4f}",
            index,
            "" if seconds is None else f"{seconds[index]:.3f}",
            f"{relevance:.4f}",
            *([""] * 4 if boxes[index] is None else [f"{side:.1f}" for side in boxes[index]]),
            *(f"{person['frame_scores'][label][index]:.4f}" for label in labels),
        ]


def segment_table(results: Results) -> str:
    """CSV with a row for each segment.

    Columns: the file, the person, start and end in seconds, the label and its probability, the labels that it may be
    where it is "unsure", and a sentence that explains it.

    Args:
        results: for each video what the pipeline gives, with explained segments.
    """
    header = ["file", "person", "start", "end", "label", "score", "candidates", "sentence"]
    return _csv(
        header,
        (
            [
                printable(video),
                _blank(person["person"]),
                f"{segment['start']:.3f}",
                f"{segment['end']:.3f}",
                segment["label"],
                f"{segment['score']:.4f}",
                " or ".join(segment["candidates"]),
                segment.get("sentence", ""),
            ]
            for video, result in results.items()
            for person in result["people"]
            for segment in person["segments"]
        ),
    )


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return table.getvalue()


def _blank(value: Any) -> Any:
    return "" if value is None else value
